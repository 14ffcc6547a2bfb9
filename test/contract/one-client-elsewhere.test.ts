import { oneClientSuite } from './one-client-suite.ts';
import { manyHouses } from './place.ts';

oneClientSuite({ name: 'two relays', open: () => manyHouses(2), isPassedOn: false });
oneClientSuite({
  name: 'two relays, and the other has the token',
  open: () => manyHouses(2),
  isPassedOn: true,
});
