import { finalCloseSuite } from './final-close-suite.ts';
import { oneRelay } from './topology.ts';

finalCloseSuite({ name: 'one relay', open: () => oneRelay() });
