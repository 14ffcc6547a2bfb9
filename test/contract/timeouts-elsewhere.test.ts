import { manyHouses } from './place.ts';
import { timeoutsSuite } from './timeouts-suite.ts';

timeoutsSuite('two relays', (options) => manyHouses(2, options));
