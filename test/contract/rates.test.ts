import { oneHouse } from './place.ts';
import { ratesSuite } from './rates-suite.ts';

ratesSuite({
  name: 'one relay',
  open: oneHouse,
  transports: ['tcp', 'unix', 'websocket'],
  hops: 1,
  tenths: 5,
});
