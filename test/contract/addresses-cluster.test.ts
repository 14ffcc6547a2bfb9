import { addressesSuite } from './addresses-suite.ts';
import { manyRelays } from './topology.ts';

addressesSuite({
  name: 'two relays',
  open: (options) => manyRelays(2, options),
  isPartnerRemote: true,
});
