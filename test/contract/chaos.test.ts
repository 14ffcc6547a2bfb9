import { chaosSuite } from './chaos-suite.ts';
import { oneHouse } from './place.ts';

chaosSuite({
  name: 'one relay',
  open: oneHouse,
  hops: 1,
  rounds: 2,
  mostBytes: 8 * 2 ** 20,
  linksFail: false,
});
