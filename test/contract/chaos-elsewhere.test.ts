import { chaosSuite } from './chaos-suite.ts';
import { manyHouses } from './place.ts';

const SUITE = { hops: 2, rounds: 1, mostBytes: 4 * 2 ** 20, linksFail: true } as const;

chaosSuite({ ...SUITE, name: 'two relays', open: (options) => manyHouses(2, options) });
chaosSuite({
  ...SUITE,
  name: 'two relays and TLS between them',
  open: (options) => manyHouses(2, options, { isEncrypted: true }),
  planes: { 'the shared buffer': {} },
});
