import { chaosSuite } from './chaos-suite.ts';
import { manyHouses } from './place.ts';

chaosSuite({
  name: 'two relays',
  open: (options) => manyHouses(2, options),
  hops: 2,
  rounds: 1,
  mostBytes: 4 * 2 ** 20,
  linksFail: true,
});
