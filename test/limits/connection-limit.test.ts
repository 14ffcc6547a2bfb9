import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ConnectionLimit } from '../../src/limits/connection-limit.ts';
import type { Slot } from '../../src/limits/connection-limit.ts';

/** So many newcomers, and how many of them got each place. */
function enter(limit: ConnectionLimit, count: number): Record<Slot, number> {
  const places = { inside: 0, lane: 0, nowhere: 0 };
  for (let index = 0; index < count; index += 1) places[limit.acquire()] += 1;
  return places;
}

describe('the limit of connections', () => {
  test('lets in as many as it says', () => {
    const limit = new ConnectionLimit(3);
    assert.deepEqual(enter(limit, 5), { inside: 3, lane: 2, nowhere: 0 });
    assert.equal(limit.admitted, 3);
  });

  test('has room again for each that leaves from inside, and for no other', () => {
    const limit = new ConnectionLimit(2);
    enter(limit, 3);
    limit.release('lane');
    limit.release('nowhere');
    assert.equal(limit.acquire(), 'lane');
    limit.release('inside');
    assert.equal(limit.admitted, 1);
    assert.deepEqual(enter(limit, 100), { inside: 1, lane: 99, nowhere: 0 });
  });

  test('can be none at all', () => {
    assert.deepEqual(enter(new ConnectionLimit(Number.POSITIVE_INFINITY), 100_000), {
      inside: 100_000,
      lane: 0,
      nowhere: 0,
    });
  });
});
