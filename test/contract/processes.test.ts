import { describe } from 'node:test';
import { withoutRedis } from '../support/redis.ts';
import { finalCloseSuite } from './final-close-suite.ts';
import { pairingSuite } from './pairing-suite.ts';
import { ProcessTopology } from './process-topology.ts';

describe('relay processes and a coordinator', { skip: withoutRedis() }, () => {
  pairingSuite({
    name: 'two processes',
    open: () => ProcessTopology.open(2),
    hops: 2,
    canSweep: false,
    bulkBytes: 5_000_000,
    pairings: [
      { first: 'tcp', second: 'websocket' },
      { first: 'unix', second: 'tcp' },
    ],
  });
  finalCloseSuite({ name: 'two processes', open: () => ProcessTopology.open(2) });
});
