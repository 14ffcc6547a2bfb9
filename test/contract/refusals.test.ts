import { refusalsSuite } from './refusals-suite.ts';
import { oneHouse } from './place.ts';

refusalsSuite({ name: 'one relay', open: oneHouse, isPartnerElsewhere: false });
