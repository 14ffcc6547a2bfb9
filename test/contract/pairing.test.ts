import { pairingSuite } from './pairing-suite.ts';
import { oneHouse } from './place.ts';

pairingSuite({
  name: 'shared buffer',
  open: () => oneHouse(),
  hops: 1,
  canSweep: true,
  bulkBytes: 50_000_000,
});
pairingSuite({
  name: 'standard streams',
  open: () => oneHouse(() => ({ standardStreams: true })),
  hops: 1,
  canSweep: true,
  bulkBytes: 10_000_000,
});
