import { refusalsSuite } from './refusals-suite.ts';
import { manyHouses } from './place.ts';

refusalsSuite({
  name: 'two relays',
  open: (options) => manyHouses(2, options),
  isPartnerElsewhere: true,
});
