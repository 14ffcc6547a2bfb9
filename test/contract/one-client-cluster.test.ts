import { oneClientSuite } from './one-client-suite.ts';
import { manyRelays } from './topology.ts';

oneClientSuite({ name: 'two relays', open: () => manyRelays(2), isForwarded: false });
oneClientSuite({
  name: 'two relays, token owned by the other relay',
  open: () => manyRelays(2),
  isForwarded: true,
});
