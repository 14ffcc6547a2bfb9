import { oneHouse } from './place.ts';
import { webSocketSuite } from './websocket-suite.ts';

webSocketSuite('one relay', oneHouse);
