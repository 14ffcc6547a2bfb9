import { oneHouse } from './place.ts';
import { timeoutsSuite } from './timeouts-suite.ts';

timeoutsSuite('one relay', oneHouse);
