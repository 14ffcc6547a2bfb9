import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ConnectionLimit, LANE_PLACES } from '../../src/limits/connection-limit.ts';
import type { Place } from '../../src/limits/connection-limit.ts';

const stranger = (): boolean => false;
const local = (): boolean => true;

function neverAsked(): never {
  throw new Error('asked where a client comes from, though it does not matter');
}

/** So many newcomers, and how many of them got each place. */
function enter(limit: ConnectionLimit, count: number, isLocal: () => boolean): Record<Place, number> {
  const places = { inside: 0, lane: 0, nowhere: 0 };
  for (let index = 0; index < count; index += 1) places[limit.enter(isLocal)] += 1;
  return places;
}

describe('the limit of connections', () => {
  test('lets in as many as it says, and asks nobody where they come from', () => {
    const limit = new ConnectionLimit(3);
    assert.deepEqual(enter(limit, 3, neverAsked), { inside: 3, lane: 0, nowhere: 0 });
    assert.equal(limit.inside, 3);
    assert.equal(limit.enter(neverAsked), 'lane');
    assert.equal(limit.inside, 3);
  });

  test('has room again for each that leaves', () => {
    const limit = new ConnectionLimit(2);
    enter(limit, 2, stranger);
    limit.leave('inside');
    assert.equal(limit.inside, 1);
    // No lane place is won by that.
    assert.deepEqual(enter(limit, 100, stranger), { inside: 1, lane: 48, nowhere: 51 });
  });

  test('tells strangers that there is no room as long as there are lane places for them', () => {
    const limit = new ConnectionLimit(1);
    assert.deepEqual(enter(limit, 100, stranger), { inside: 1, lane: 48, nowhere: 51 });
  });

  test('keeps the last lane places for clients of this machine', () => {
    const limit = new ConnectionLimit(1);
    enter(limit, 100, stranger);
    assert.deepEqual(enter(limit, 20, local), { inside: 0, lane: 16, nowhere: 4 });
    assert.equal(limit.enter(stranger), 'nowhere');
  });

  test('has lane places for clients of this machine alone, if nobody else comes', () => {
    const limit = new ConnectionLimit(0);
    assert.deepEqual(enter(limit, 100, local), { inside: 0, lane: LANE_PLACES, nowhere: 36 });
  });

  test('takes a lane place back, which makes no room inside', () => {
    const limit = new ConnectionLimit(1);
    enter(limit, 1 + LANE_PLACES, local);
    limit.leave('lane');
    assert.equal(limit.inside, 1);
    // One of 64 is free, which is not for strangers.
    assert.equal(limit.enter(stranger), 'nowhere');
    assert.deepEqual(enter(limit, 2, local), { inside: 0, lane: 1, nowhere: 1 });
  });

  test('asks for the sake of the last lane places where a client comes from, and not after them', () => {
    const limit = new ConnectionLimit(0);
    enter(limit, 48, neverAsked);
    let asked = 0;
    enter(limit, 17, () => {
      asked += 1;
      return true;
    });
    assert.equal(asked, 16);
  });

  test('can be none at all', () => {
    const limit = new ConnectionLimit(null);
    assert.deepEqual(enter(limit, 100_000, neverAsked), { inside: 100_000, lane: 0, nowhere: 0 });
  });
});
