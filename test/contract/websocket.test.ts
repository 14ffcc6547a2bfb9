import { oneRelay } from './topology.ts';
import { webSocketSuite } from './websocket-suite.ts';

webSocketSuite('one relay', oneRelay);
