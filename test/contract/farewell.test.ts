import { farewellSuite } from './farewell-suite.ts';
import { oneHouse } from './place.ts';

farewellSuite({ name: 'one relay', open: () => oneHouse() });
