import type { LiveStatus } from '../api.ts';

/** Delay after the first, second, … failure in a row, in milliseconds. The last one repeats. */
const BACKOFF_DELAYS_MS = [1000, 2000, 4000, 8000, 15_000, 30_000] as const;

/** The delay after this many failures in a row, in milliseconds. */
export function backoffMs(failuresInARow: number): number {
  return BACKOFF_DELAYS_MS[Math.min(failuresInARow, BACKOFF_DELAYS_MS.length) - 1] ?? BACKOFF_DELAYS_MS[0];
}

/** Whether the usage database may have new records after the second of two polls. */
export function hasNewRecords(before: LiveStatus, after: LiveStatus): boolean {
  if (before.database.state !== after.database.state) return true;
  if (before.relay.state === 'down' || after.relay.state === 'down')
    return before.relay.state !== after.relay.state;
  // Records without relayed bytes are shown with the next regular poll.
  const hasEndedPair = after.relay.pairs < before.relay.pairs;
  const hasMissedPair = after.relay.pairs === 0 && after.relay.relayed_bytes > before.relay.relayed_bytes;
  return hasEndedPair || hasMissedPair || after.relay.started !== before.relay.started;
}
