import { rejectionsSuite } from './rejections-suite.ts';
import { manyRelays } from './topology.ts';

rejectionsSuite({
  name: 'two relays',
  open: (options) => manyRelays(2, options),
  isPartnerRemote: true,
});
