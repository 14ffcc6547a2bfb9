import { pairingSuite } from './pairing-suite.ts';
import { oneRelay } from './topology.ts';

pairingSuite({
  name: 'shared buffer',
  open: () => oneRelay(),
  hops: 1,
  canSweep: true,
  bulkBytes: 50_000_000,
});
pairingSuite({
  name: 'standard streams',
  open: () => oneRelay(() => ({ standardStreams: true })),
  hops: 1,
  canSweep: true,
  bulkBytes: 10_000_000,
});
