import { readFileSync } from 'node:fs';
import type { RelayConfig } from '../config/relay-config.ts';
import type { Log } from '../process/logging.ts';
import { memoryLimit } from './memory-limit.ts';
import type { MemoryLimit } from './memory-limit.ts';
import { readSocketBuffers } from './socket-buffers.ts';
import type { SocketBuffers } from './socket-buffers.ts';

/**
 * Slots beyond the limit, for clients that are being rejected: detecting their protocol takes a moment. The
 * relay's own probes use them too, until they have sent their tokens. If all are in use, the oldest
 * connection is closed.
 */
export const REJECT_SLOTS = 64;

/**
 * File descriptors that are not for clients: the database, listeners, the status port, the log, Node.js
 * itself.
 */
const RESERVED_FDS = 64;

/**
 * The same in a cluster: connections to the coordinator, and link connections that have not authenticated
 * yet.
 */
const CLUSTER_FDS = 96;

/** A forwarded client has a link of its own. */
const FDS_PER_FORWARDED_CLIENT = 2;

/** Assumed if the limit cannot be read: the usual limit of a shell. */
const FALLBACK_FD_LIMIT = 1024;

/**
 * Memory of a relay without connections, in bytes: 76 to 92 MiB as charged to a container by the kernel. The
 * rest is for garbage and for records that wait for a disk.
 */
const BASE_BYTES = 128 * 2 ** 20;

/**
 * Memory of one connection in its worst state, in bytes, without its share of `RELAY_BUFFER_MEMORY` and without
 * the kernel's buffers. Measured as charged to a container by the kernel: 18.7 KiB per connection of a stalled
 * pair by TCP, 19.5 KiB by WebSocket. An endless request head takes 15.0 KiB, a waiting client 3.5 KiB by TCP
 * and 8.8 KiB by WebSocket.
 */
const CONNECTION_BYTES = 20 * 1024;

/** The same with TLS, in bytes: 101 KiB per connection of a stalled pair. */
const TLS_CONNECTION_BYTES = 120 * 1024;

/** Minimum number of connections, however small the memory is. */
const MIN_CONNECTIONS = 100;

/** The automatic limit is never higher, however much memory and however many file descriptors there are. */
const AUTO_MAX_CONNECTIONS = 65_536;

/** The same if connections may use TLS. */
const AUTO_MAX_TLS_CONNECTIONS = 8192;

/** What a connection may need. */
export interface ConnectionRequirements {
  /** Connections may use TLS. */
  readonly hasTls: boolean;
  /** A connection may have a link to another relay. */
  readonly isClustered: boolean;
  /** Clients connect by TCP, not only over Unix sockets from a proxy. */
  readonly hasTcp: boolean;
}

/** What the process has. */
export interface Resources {
  readonly fds: number;
  readonly memoryBytes: number;
  /** `RELAY_BUFFER_MEMORY`. */
  readonly bufferBytes: number;
  /** What the kernel may buffer in this memory; null if its buffers do not count. */
  readonly socketBuffers: SocketBuffers | null;
}

/** What sets the connection limit. */
type CapacityReason = 'RELAY_MAX_CONNECTIONS' | 'memory' | 'file descriptors' | 'default';

export interface Capacity {
  readonly maxConnections: number;
  /** Null: no limit. */
  readonly maxWaiting: number | null;
  /** Connections that leave enough file descriptors for everything else. */
  readonly fdCapacity: number;
  readonly limitedBy: CapacityReason;
}

/** The capacity of this process, and what it was computed from, for the log. */
export interface ResolvedCapacity extends Capacity {
  readonly details: Readonly<Record<string, number | string | null>>;
}

/** The limits of this process. */
export interface ProcessLimits {
  readonly fds: number;
  readonly memory: MemoryLimit;
  readonly socketBuffers: SocketBuffers;
}

const MAX_CONNECTIONS_EXCEEDS_FDS =
  'RELAY_MAX_CONNECTIONS exceeds the file descriptor limit and is lowered to it; raise the limit (ulimit -n, LimitNOFILE=)';

const MAX_CONNECTIONS_EXCEEDS_MEMORY =
  'RELAY_MAX_CONNECTIONS exceeds the memory if all connections stall; lower it, set it to auto, or raise the memory limit';

const MAX_WAITING_EXCEEDS_CONNECTIONS =
  'RELAY_MAX_WAITING has no effect because it is above the number of connections';

const BUFFERS_EXCEED_MEMORY =
  'RELAY_BUFFER_MEMORY leaves too little memory for the relay; lower it, or raise the memory limit';

/**
 * File descriptors that this process may have open (getrlimit(2), RLIMIT_NOFILE). Read from /proc on Linux.
 */
export function fdLimit(path = '/proc/self/limits'): number {
  try {
    const [, soft] = /^Max open files +(\d+|unlimited)/mu.exec(readFileSync(path, 'latin1')) ?? [];
    if (soft === 'unlimited') return Number.POSITIVE_INFINITY;
    return soft === undefined ? FALLBACK_FD_LIMIT : Number(soft);
  } catch {
    return FALLBACK_FD_LIMIT;
  }
}

/** Connections that leave enough file descriptors for everything else; at least one. */
export function connectionsWithinFds(fds: number, isClustered: boolean): number {
  const free = fds - RESERVED_FDS - REJECT_SLOTS;
  const fits = isClustered ? Math.floor((free - CLUSTER_FDS) / FDS_PER_FORWARDED_CLIENT) : free;
  return Math.max(1, fits);
}

/** Memory of one connection in its worst state, together with its link, in bytes. */
function worstCaseBytes({ hasTls, isClustered }: ConnectionRequirements): number {
  return (hasTls ? TLS_CONNECTION_BYTES : CONNECTION_BYTES) * (isClustered ? 2 : 1);
}

/**
 * Connections that fit into this memory if all of them are in their worst state; at least 100. Either each has
 * the initial buffers of the kernel, or there is room for as much as the kernel buffers on the whole host. If
 * buffers grow, the memory guard ends stalled pairs.
 *
 * @param bufferBytes `RELAY_BUFFER_MEMORY`
 * @param socketBuffers null: the kernel's buffers do not count
 */
export function connectionsWithinMemory(
  memoryBytes: number,
  bufferBytes: number,
  needs: ConnectionRequirements,
  socketBuffers: SocketBuffers | null = null,
): number {
  const freeBytes = memoryBytes - BASE_BYTES - bufferBytes;
  const each = worstCaseBytes(needs);
  const withInitial = freeBytes / (each + kernelBytes(needs, socketBuffers));
  const besideAll = (freeBytes - (socketBuffers?.maxTotalBytes ?? 0)) / each;
  return Math.max(MIN_CONNECTIONS, Math.floor(withInitial), Math.floor(besideAll));
}

/**
 * Initial buffers of the kernel for one connection, together with its link, in bytes. Unix sockets have small
 * ones. Links use TCP.
 */
function kernelBytes(
  { hasTcp, isClustered }: ConnectionRequirements,
  socketBuffers: SocketBuffers | null,
): number {
  return (socketBuffers?.bytesPerConnection ?? 0) * (Number(hasTcp) + Number(isClustered));
}

/**
 * The limits of connections and of waiting clients. There are never more connections than file descriptors
 * for them.
 */
export function computeCapacity(
  { maxConnections, maxWaiting }: RelayConfig['limits'],
  resources: Resources,
  needs: ConnectionRequirements,
): Capacity {
  const fdCapacity = connectionsWithinFds(resources.fds, needs.isClustered);
  const [connections, limitedBy] = connectionLimit(maxConnections, fdCapacity, resources, needs);
  return {
    maxConnections: connections,
    // Each waiting client needs a connection for its partner.
    maxWaiting: maxWaiting === 'auto' ? Math.ceil(connections / 2) : maxWaiting,
    fdCapacity,
    limitedBy,
  };
}

function connectionLimit(
  configured: RelayConfig['limits']['maxConnections'],
  fdCapacity: number,
  { memoryBytes, bufferBytes, socketBuffers }: Resources,
  needs: ConnectionRequirements,
): [connections: number, limitedBy: CapacityReason] {
  if (configured === null) return [fdCapacity, 'file descriptors'];
  if (configured !== 'auto')
    return configured > fdCapacity ? [fdCapacity, 'file descriptors'] : [configured, 'RELAY_MAX_CONNECTIONS'];
  const most = needs.hasTls ? AUTO_MAX_TLS_CONNECTIONS : AUTO_MAX_CONNECTIONS;
  const inMemory = connectionsWithinMemory(memoryBytes, bufferBytes, needs, socketBuffers);
  const connections = Math.min(inMemory, fdCapacity, most);
  if (connections === most) return [connections, 'default'];
  return [connections, connections === fdCapacity ? 'file descriptors' : 'memory'];
}

export function readProcessLimits(): ProcessLimits {
  return { fds: fdLimit(), memory: memoryLimit(), socketBuffers: readSocketBuffers() };
}

/** Computes how many clients this process can serve. Logs a warning if that is fewer than configured. */
export function resolveCapacity(
  { limits, listen, cluster, bufferMemoryBytes: bufferBytes }: RelayConfig,
  log: Pick<Log, 'warn'>,
  { fds, memory, socketBuffers: kernel }: ProcessLimits = readProcessLimits(),
): ResolvedCapacity {
  const needs = {
    hasTls: usesTls(listen) || cluster?.tls === true,
    isClustered: cluster !== null,
    hasTcp: [...listen.raw, ...listen.websocket].some(({ kind }) => kind !== 'unix'),
  };
  const socketBuffers = memory.cgroup2 === null ? null : kernel;
  const capacity = computeCapacity(
    limits,
    { fds, memoryBytes: memory.bytes, bufferBytes, socketBuffers },
    needs,
  );
  const { maxConnections, maxWaiting, fdCapacity, limitedBy } = capacity;
  const configured = limits.maxConnections;
  if (typeof configured === 'number' && configured > fdCapacity)
    log.warn(
      { event: 'connections_above_file_descriptors', configured, fits: fdCapacity, file_descriptors: fds },
      MAX_CONNECTIONS_EXCEEDS_FDS,
    );
  const sizes = { buffer_bytes: bufferBytes, memory_bytes: memory.bytes, memory: memory.source };
  const inMemory = connectionsWithinMemory(memory.bytes, bufferBytes, needs);
  const minBytes = BASE_BYTES + bufferBytes + MIN_CONNECTIONS * worstCaseBytes(needs);
  if (memory.bytes < minBytes) log.warn({ event: 'buffers_above_memory', ...sizes }, BUFFERS_EXCEED_MEMORY);
  else if (configured !== 'auto' && maxConnections > inMemory)
    log.warn(
      { event: 'connections_above_memory', configured: maxConnections, fits: inMemory, ...sizes },
      MAX_CONNECTIONS_EXCEEDS_MEMORY,
    );
  // If both are numbers, the configuration has this warning.
  if (typeof configured !== 'number' && maxWaiting !== null && maxWaiting > maxConnections)
    log.warn(
      { event: 'setting_without_effect', max_connections: maxConnections, max_waiting: maxWaiting },
      MAX_WAITING_EXCEEDS_CONNECTIONS,
    );
  const details = {
    max_connections: maxConnections,
    max_waiting: maxWaiting,
    limited_by: limitedBy,
    file_descriptors: fds,
    ...sizes,
    bytes_per_connection: worstCaseBytes(needs),
    socket_buffer_bytes: kernelBytes(needs, socketBuffers),
  };
  return { ...capacity, details };
}

/** True if clients can connect with TLS. */
export function usesTls({ raw, websocket }: RelayConfig['listen']): boolean {
  return [...raw, ...websocket].some((endpoint) => endpoint.kind !== 'unix' && endpoint.tls !== null);
}
