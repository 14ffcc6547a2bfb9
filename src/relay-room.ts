import type { Logger } from 'pino';
import type { Config } from './config/config.ts';
import { roomOf } from './limits/from-config.ts';
import type { Room } from './limits/from-config.ts';
import { connectionsThatFit, openFilesLimit } from './limits/open-files.ts';

const TOO_MUCH =
  'RELAY_MAX_CONNECTIONS is more than fits into the limit of open files, and is taken down to that; raise the limit (ulimit -n, LimitNOFILE=)';

/** How many clients may come, which are never more than fit into the limit of open files, and what the log says of it. */
export function roomWithin({ limits, listen, cluster }: Config, log: Logger): Room {
  const openFiles = openFilesLimit();
  const needs = { hasTls: hasTls(listen) || cluster?.tls === true, isInGroup: cluster !== null };
  const fits = connectionsThatFit(openFiles, needs);
  const asked = limits.maxConnections;
  const isTooMuch = asked !== null && asked !== 'auto' && asked > fits;
  if (isTooMuch) log.warn({ asked, fits, openFiles }, TOO_MUCH);
  const maxConnections = isTooMuch || asked === null ? fits : asked;
  const room = roomOf({ ...limits, maxConnections }, openFiles, needs);
  log.info({ maxConnections: room.maxConnections, maxWaiting: room.maxWaiting }, 'room for clients');
  return room;
}

function hasTls({ raw, websocket }: Config['listen']): boolean {
  return [...raw, ...websocket].some((endpoint) => endpoint.kind !== 'unix' && endpoint.tls !== null);
}
