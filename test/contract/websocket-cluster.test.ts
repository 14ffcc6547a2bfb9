import { manyRelays } from './topology.ts';
import { webSocketSuite } from './websocket-suite.ts';

webSocketSuite('two relays', (options) => manyRelays(2, options));
