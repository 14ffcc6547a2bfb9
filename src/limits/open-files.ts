import { readFileSync } from 'node:fs';
import { LANE_PLACES } from './connection-limit.ts';

/** Descriptors that are no client's: the database, listeners, the status port, the log, Node itself. */
const RESERVED_DESCRIPTORS = 64;

/** More than this needs to be asked for, however many descriptors there may be: 65,536 waiting clients are about 130 MB. */
const MOST_CONNECTIONS = 65_536;

/** The same where clients may come by TLS, which takes up to 56 KB for each: 460 MB. */
const MOST_TLS_CONNECTIONS = 8192;

/** What is taken where the limit can't be found out: the usual one of a shell. */
const USUAL_LIMIT = 1024;

/** How many descriptors this process may have open (getrlimit(2), RLIMIT_NOFILE). Read from Linux's /proc. */
export function openFilesLimit(path = '/proc/self/limits'): number {
  try {
    const [, soft] = /^Max open files +(\d+|unlimited)/mu.exec(readFileSync(path, 'latin1')) ?? [];
    if (soft === 'unlimited') return Number.POSITIVE_INFINITY;
    return soft === undefined ? USUAL_LIMIT : Number(soft);
  } catch {
    return USUAL_LIMIT;
  }
}

/** The most connections that leave room for everything else; one where there is no room at all. */
export function connectionsThatFit(descriptors: number): number {
  return Math.max(1, descriptors - RESERVED_DESCRIPTORS - LANE_PLACES);
}

/** What `auto` means, as a number of connections. */
export function defaultMaxConnections(descriptors: number, hasTls: boolean): number {
  return Math.min(connectionsThatFit(descriptors), hasTls ? MOST_TLS_CONNECTIONS : MOST_CONNECTIONS);
}
