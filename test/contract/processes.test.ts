import { describe } from 'node:test';
import { withoutRedis } from '../support/redis.ts';
import { farewellSuite } from './farewell-suite.ts';
import { pairingSuite } from './pairing-suite.ts';
import { ProcessPlace } from './process-place.ts';

describe('relay processes and a coordinator', { skip: withoutRedis() }, () => {
  pairingSuite({
    name: 'two processes',
    open: () => ProcessPlace.open(2),
    hops: 2,
    canSweep: false,
    bulkBytes: 5_000_000,
    pairings: [
      { first: 'tcp', second: 'websocket' },
      { first: 'unix', second: 'tcp' },
    ],
  });
  farewellSuite({ name: 'two processes', open: () => ProcessPlace.open(2) });
});
