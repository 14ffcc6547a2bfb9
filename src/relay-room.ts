import type { Logger } from 'pino';
import type { Config } from './config/config.ts';
import { roomOf } from './limits/from-config.ts';
import type { Room } from './limits/from-config.ts';
import { connectionsInMemory, fitsBuffers, memoryLimit, worstCaseBytes } from './limits/memory-limit.ts';
import type { MemoryLimit } from './limits/memory-limit.ts';
import { connectionsThatFit, openFilesLimit } from './limits/open-files.ts';

const TOO_MUCH =
  'RELAY_MAX_CONNECTIONS is more than fits into the limit of open files, and is taken down to that; raise the limit (ulimit -n, LimitNOFILE=)';

const TOO_MUCH_FOR_MEMORY =
  'RELAY_MAX_CONNECTIONS is more than fits into the memory when all connections stall; lower it, set it to auto, or raise the memory limit';

const BUFFERS_TOO_LARGE =
  'RELAY_BUFFER_MEMORY does not fit into the memory beside the relay itself; lower it, or raise the memory limit';

/** The limits of this process. */
export interface ProcessLimits {
  readonly openFiles: number;
  readonly memory: MemoryLimit;
}

/**
 * How many clients may come, and what the log says of it. They are never more than fit into the limit of open files, and where that
 * is left to the relay, never more than fit into its memory.
 */
export function roomWithin(
  { limits, listen, cluster, bufferMemoryBytes: bufferBytes }: Config,
  log: Logger,
  { openFiles, memory }: ProcessLimits = { openFiles: openFilesLimit(), memory: memoryLimit() },
): Room {
  const needs = { hasTls: hasTls(listen) || cluster?.tls === true, isInGroup: cluster !== null };
  const fits = connectionsThatFit(openFiles, needs.isInGroup);
  const asked = limits.maxConnections;
  const isTooMuch = asked !== null && asked !== 'auto' && asked > fits;
  if (isTooMuch) log.warn({ asked, fits, openFiles }, TOO_MUCH);
  const maxConnections = isTooMuch || asked === null ? fits : asked;
  const resources = { descriptors: openFiles, memoryBytes: memory.bytes, bufferBytes };
  const room = roomOf({ ...limits, maxConnections }, resources, needs);
  const sizes = { bufferBytes, memoryBytes: memory.bytes, memory: memory.source };
  const inMemory = connectionsInMemory(memory.bytes, bufferBytes, needs);
  if (!fitsBuffers(memory.bytes, bufferBytes, needs)) log.warn(sizes, BUFFERS_TOO_LARGE);
  else if (maxConnections !== 'auto' && maxConnections > inMemory)
    log.warn({ asked: maxConnections, fits: inMemory, ...sizes }, TOO_MUCH_FOR_MEMORY);
  const { maxWaiting, follows } = room;
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

function hasTls({ raw, websocket }: Config['listen']): boolean {
  return [...raw, ...websocket].some((endpoint) => endpoint.kind !== 'unix' && endpoint.tls !== null);
}
