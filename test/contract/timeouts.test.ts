import { oneRelay } from './topology.ts';
import { timeoutsSuite } from './timeouts-suite.ts';

timeoutsSuite('one relay', oneRelay);
