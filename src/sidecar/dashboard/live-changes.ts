import type { Live } from '../api.ts';

/** Whether between two looks at the relay something may have come into the usage database. */
export function mayHaveRecorded(before: Live, after: Live): boolean {
  if (before.database.state !== after.database.state) return true;
  if (before.relay.state === 'down' || after.relay.state === 'down')
    return before.relay.state !== after.relay.state;
  // Records of visits that moved nothing wait for the next regular look.
  const ended = after.relay.pairs < before.relay.pairs;
  const unseen = after.relay.pairs === 0 && after.relay.relayed_bytes > before.relay.relayed_bytes;
  return ended || unseen || after.relay.started !== before.relay.started;
}
