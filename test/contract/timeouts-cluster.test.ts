import { manyRelays } from './topology.ts';
import { timeoutsSuite } from './timeouts-suite.ts';

timeoutsSuite('two relays', (options) => manyRelays(2, options));
