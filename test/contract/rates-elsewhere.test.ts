import { manyHouses } from './place.ts';
import { ratesSuite } from './rates-suite.ts';

ratesSuite({
  name: 'two relays',
  open: (options) => manyHouses(2, options),
  transports: ['websocket'],
  hops: 2,
  tenths: 3,
});
