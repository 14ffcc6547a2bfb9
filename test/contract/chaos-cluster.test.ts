import { chaosSuite } from './chaos-suite.ts';
import { manyRelays } from './topology.ts';

const SUITE = { hops: 2, rounds: 1, maxBytes: 4 * 2 ** 20, linksFail: true } as const;

chaosSuite({ ...SUITE, name: 'two relays', open: (options) => manyRelays(2, options) });
chaosSuite({
  ...SUITE,
  name: 'two relays and TLS between them',
  open: (options) => manyRelays(2, options, { isEncrypted: true }),
  backends: { 'the shared buffer': {} },
});
