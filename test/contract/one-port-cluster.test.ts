import { onePortSuite } from './one-port-suite.ts';
import { manyRelays } from './topology.ts';

onePortSuite('two relays', (options) => manyRelays(2, options));
