import { manyHouses } from './place.ts';
import { webSocketSuite } from './websocket-suite.ts';

webSocketSuite('two relays', (options) => manyHouses(2, options));
