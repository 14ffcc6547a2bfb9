import { readFileSync } from 'node:fs';
import type { Logger } from 'pino';
import type { RelayConfig } from '../config/relay-config.ts';
import { AddressLimit } from './address-limit.ts';
import { REJECT_SLOTS } from './connection-limit.ts';
import { connectionsWithinMemory, hasMemoryForBuffers, memoryLimit, worstCaseBytes } from './memory-limit.ts';
import type { ConnectionRequirements, MemoryLimit } from './memory-limit.ts';
import { RateLimiter } from './rate-limiter.ts';

/** Descriptors that are no client's: the database, listeners, the status port, the log, Node itself. */
const RESERVED_DESCRIPTORS = 64;

/** The same in a group of relays: connections to the coordinator, and who has come for a link and not proved itself yet. */
const CLUSTER_DESCRIPTORS = 96;

/** A client that is passed on has a link of its own. */
const DESCRIPTORS_PER_FORWARDED_CLIENT = 2;

/** What is taken where the limit can't be found out: the usual one of a shell. */
const FALLBACK_LIMIT = 1024;

/** How many descriptors this process may have open (getrlimit(2), RLIMIT_NOFILE). Read from Linux's /proc. */
export function fdLimit(path = '/proc/self/limits'): number {
  try {
    const [, soft] = /^Max open files +(\d+|unlimited)/mu.exec(readFileSync(path, 'latin1')) ?? [];
    if (soft === 'unlimited') return Number.POSITIVE_INFINITY;
    return soft === undefined ? FALLBACK_LIMIT : Number(soft);
  } catch {
    return FALLBACK_LIMIT;
  }
}

/** The most connections that leave room for everything else; one where there is no room at all. */
export function connectionsWithinFds(descriptors: number, isClustered: boolean): number {
  const free = descriptors - RESERVED_DESCRIPTORS - REJECT_SLOTS;
  const fits = isClustered
    ? Math.floor((free - CLUSTER_DESCRIPTORS) / DESCRIPTORS_PER_FORWARDED_CLIENT)
    : free;
  return Math.max(1, fits);
}

/** What the configuration says of limits, as what keeps them. `clock`: milliseconds of a clock that never jumps. */

type Limits = RelayConfig['limits'];

/** More than this needs to be asked for, however much memory and however many descriptors there may be. */
const AUTO_MAX_CONNECTIONS = 65_536;

/** The same where connections may use TLS. */
const AUTO_MAX_TLS_CONNECTIONS = 8192;

/** What the process has. */
export interface Resources {
  readonly descriptors: number;
  readonly memoryBytes: number;
  /** `RELAY_BUFFER_MEMORY`. */
  readonly bufferBytes: number;
}

/** What a limit of connections follows from. */
export type CapacityReason = 'RELAY_MAX_CONNECTIONS' | 'memory' | 'file descriptors' | 'default';

export interface Capacity {
  /** Null: as many as come. */
  readonly maxConnections: number | null;
  readonly maxWaiting: number | null;
  /** Connections that leave descriptors for everything else. */
  readonly fdCapacity: number;
  readonly limitedBy: CapacityReason;
}

/** How many clients there may be, where the operator leaves that to us, and how many would fit. */
export function computeCapacity(
  { maxConnections, maxWaiting }: Limits,
  resources: Resources,
  needs: ConnectionRequirements,
): Capacity {
  const fits = connectionsWithinFds(resources.descriptors, needs.isClustered);
  const auto = autoConnections(resources, fits, needs);
  const connections = maxConnections === 'auto' ? auto.connections : maxConnections;
  return {
    fdCapacity: fits,
    maxConnections: connections,
    // Each that waits needs a place for its partner.
    maxWaiting: maxWaiting === 'auto' ? Math.ceil((connections ?? fits) / 2) : maxWaiting,
    limitedBy: maxConnections === 'auto' ? auto.follows : 'RELAY_MAX_CONNECTIONS',
  };
}

/** The lowest of three limits, and which one that is. */
function autoConnections(
  { memoryBytes, bufferBytes }: Resources,
  fits: number,
  needs: ConnectionRequirements,
): { readonly connections: number; readonly follows: CapacityReason } {
  const inMemory = connectionsWithinMemory(memoryBytes, bufferBytes, needs);
  const most = needs.hasTls ? AUTO_MAX_TLS_CONNECTIONS : AUTO_MAX_CONNECTIONS;
  const connections = Math.min(inMemory, fits, most);
  if (connections === most) return { connections, follows: 'default' };
  return { connections, follows: connections === fits ? 'file descriptors' : 'memory' };
}

/** Null where addresses are not limited. */
export function createAddressLimit(limits: Limits, clock: () => number): AddressLimit | null {
  const { connectionsPerAddress: open, newConnectionsPerAddress: newPer } = limits;
  return open === null && newPer === null
    ? null
    : new AddressLimit({ maxOpen: open, newConnectionRate: newPer }, clock);
}

/** Null where no rate is limited. */
export function createRateLimiter(limits: Limits, clock: () => number): RateLimiter | null {
  const { pairBytesPerSecond, totalBytesPerSecond } = limits;
  if (pairBytesPerSecond === null && totalBytesPerSecond === null) return null;
  return new RateLimiter({ pairBytesPerSecond, totalBytesPerSecond }, clock);
}

const MAX_CONNECTIONS_EXCEEDS_FDS =
  'RELAY_MAX_CONNECTIONS is more than fits into the limit of open files, and is taken down to that; raise the limit (ulimit -n, LimitNOFILE=)';

const MAX_CONNECTIONS_EXCEEDS_MEMORY =
  'RELAY_MAX_CONNECTIONS is more than fits into the memory when all connections stall; lower it, set it to auto, or raise the memory limit';

const BUFFERS_EXCEED_MEMORY =
  'RELAY_BUFFER_MEMORY does not fit into the memory beside the relay itself; lower it, or raise the memory limit';

/** The limits of this process. */
export interface ProcessLimits {
  readonly fds: number;
  readonly memory: MemoryLimit;
}

/**
 * How many clients may come, and what the log says of it. They are never more than fit into the limit of open files, and where that
 * is left to the relay, never more than fit into its memory.
 */
export function resolveCapacity(
  { limits, listen, cluster, bufferMemoryBytes: bufferBytes }: RelayConfig,
  log: Logger,
  { fds: openFiles, memory }: ProcessLimits = { fds: fdLimit(), memory: memoryLimit() },
): Capacity {
  const needs = { hasTls: usesTls(listen) || cluster?.tls === true, isClustered: cluster !== null };
  const fits = connectionsWithinFds(openFiles, needs.isClustered);
  const asked = limits.maxConnections;
  const isTooMuch = asked !== null && asked !== 'auto' && asked > fits;
  if (isTooMuch) log.warn({ asked, fits, openFiles }, MAX_CONNECTIONS_EXCEEDS_FDS);
  const maxConnections = isTooMuch || asked === null ? fits : asked;
  const resources = { descriptors: openFiles, memoryBytes: memory.bytes, bufferBytes };
  const room = computeCapacity({ ...limits, maxConnections }, resources, needs);
  const sizes = { bufferBytes, memoryBytes: memory.bytes, memory: memory.source };
  const inMemory = connectionsWithinMemory(memory.bytes, bufferBytes, needs);
  if (!hasMemoryForBuffers(memory.bytes, bufferBytes, needs)) log.warn(sizes, BUFFERS_EXCEED_MEMORY);
  else if (maxConnections !== 'auto' && maxConnections > inMemory)
    log.warn({ asked: maxConnections, fits: inMemory, ...sizes }, MAX_CONNECTIONS_EXCEEDS_MEMORY);
  const { maxWaiting, limitedBy: follows } = room;
  log.info(
    {
      maxConnections: room.maxConnections,
      maxWaiting,
      follows: asked === null || isTooMuch ? 'file descriptors' : follows,
      openFiles,
      ...sizes,
      bytesPerConnection: worstCaseBytes(needs),
    },
    'room for clients',
  );
  return room;
}

function usesTls({ raw, websocket }: RelayConfig['listen']): boolean {
  return [...raw, ...websocket].some((endpoint) => endpoint.kind !== 'unix' && endpoint.tls !== null);
}
