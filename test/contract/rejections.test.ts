import { rejectionsSuite } from './rejections-suite.ts';
import { oneRelay } from './topology.ts';

rejectionsSuite({ name: 'one relay', open: oneRelay, isPartnerRemote: false });
