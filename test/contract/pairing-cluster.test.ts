import { pairingSuite } from './pairing-suite.ts';
import { manyRelays } from './topology.ts';

pairingSuite({
  name: 'two relays',
  open: () => manyRelays(2),
  hops: 2,
  canSweep: true,
  bulkBytes: 5_000_000,
});
pairingSuite({
  name: 'two relays with ordinary streams',
  open: () => manyRelays(2, () => ({ standardStreams: true })),
  hops: 2,
  canSweep: true,
  bulkBytes: 1_000_000,
  pairings: [
    { first: 'tcp', second: 'websocket' },
    { first: 'unix', second: 'tcp' },
    { first: 'websocket', second: 'unix' },
  ],
});
pairingSuite({
  name: 'two relays and TLS between them',
  open: () => manyRelays(2, () => ({}), { isEncrypted: true }),
  hops: 2,
  canSweep: true,
  bulkBytes: 5_000_000,
  pairings: [
    { first: 'tcp', second: 'unix' },
    { first: 'unix', second: 'websocket' },
    { first: 'websocket', second: 'tcp' },
  ],
});
