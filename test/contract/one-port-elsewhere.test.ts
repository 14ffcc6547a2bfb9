import { onePortSuite } from './one-port-suite.ts';
import { manyHouses } from './place.ts';

onePortSuite('two relays', (options) => manyHouses(2, options));
