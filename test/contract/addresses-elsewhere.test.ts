import { addressesSuite } from './addresses-suite.ts';
import { manyHouses } from './place.ts';

addressesSuite({
  name: 'two relays',
  open: (options) => manyHouses(2, options),
  isPartnerElsewhere: true,
});
