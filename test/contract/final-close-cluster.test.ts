import { finalCloseSuite } from './final-close-suite.ts';
import { manyRelays } from './topology.ts';

finalCloseSuite({ name: 'two relays', open: () => manyRelays(2) });
