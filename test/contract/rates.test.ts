import { oneRelay } from './topology.ts';
import { ratesSuite } from './rates-suite.ts';

ratesSuite({
  name: 'one relay',
  open: oneRelay,
  transports: ['tcp', 'unix', 'websocket'],
  hops: 1,
  tenths: 5,
});
