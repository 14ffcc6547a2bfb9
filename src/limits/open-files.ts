import { readFileSync } from 'node:fs';
import { LANE_PLACES } from './connection-limit.ts';

/** Descriptors that are no client's: the database, listeners, the status port, the log, Node itself. */
const RESERVED_DESCRIPTORS = 64;

/** The same in a group of relays: connections to the coordinator, and who has come for a link and not proved itself yet. */
const GROUP_DESCRIPTORS = 96;

/** A client that is passed on has a link of its own. */
const DESCRIPTORS_OF_ONE_PASSED_ON = 2;

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
export function connectionsThatFit(descriptors: number, isInGroup: boolean): number {
  const free = descriptors - RESERVED_DESCRIPTORS - LANE_PLACES;
  const fits = isInGroup ? Math.floor((free - GROUP_DESCRIPTORS) / DESCRIPTORS_OF_ONE_PASSED_ON) : free;
  return Math.max(1, fits);
}
