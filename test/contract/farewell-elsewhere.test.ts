import { farewellSuite } from './farewell-suite.ts';
import { manyHouses } from './place.ts';

farewellSuite({ name: 'two relays', open: () => manyHouses(2) });
