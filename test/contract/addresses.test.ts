import { addressesSuite } from './addresses-suite.ts';
import { oneHouse } from './place.ts';

addressesSuite({ name: 'one relay', open: oneHouse, isPartnerElsewhere: false });
