import { addressesSuite } from './addresses-suite.ts';
import { oneRelay } from './topology.ts';

addressesSuite({ name: 'one relay', open: oneRelay, isPartnerRemote: false });
