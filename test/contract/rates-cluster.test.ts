import { manyRelays } from './topology.ts';
import { ratesSuite } from './rates-suite.ts';

ratesSuite({
  name: 'two relays',
  open: (options) => manyRelays(2, options),
  transports: ['websocket'],
  hops: 2,
  tenths: 3,
});
