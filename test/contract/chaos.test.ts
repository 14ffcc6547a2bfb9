import { chaosSuite } from './chaos-suite.ts';
import { oneRelay } from './topology.ts';

chaosSuite({
  name: 'one relay',
  open: oneRelay,
  hops: 1,
  rounds: 2,
  maxBytes: 8 * 2 ** 20,
  linksFail: false,
});
