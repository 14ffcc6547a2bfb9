import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ConnectionLimit } from '../../src/limits/connection-limit.ts';
import type { Slot } from '../../src/limits/connection-limit.ts';

/** Acquires `count` slots. Returns how many there were of each kind. */
function acquire(limit: ConnectionLimit, count: number): Record<Slot, number> {
  const slots = { admitted: 0, 'reject-slot': 0, none: 0 };
  for (let index = 0; index < count; index += 1) slots[limit.acquire()] += 1;
  return slots;
}

describe('the connection limit', () => {
  test('admits as many connections as it says', () => {
    const limit = new ConnectionLimit(3);
    assert.deepEqual(acquire(limit, 5), { admitted: 3, 'reject-slot': 2, none: 0 });
    assert.equal(limit.admitted, 3);
  });

  test('admits another one for each admitted connection that is released, and for no other', () => {
    const limit = new ConnectionLimit(2);
    acquire(limit, 3);
    limit.release('reject-slot');
    limit.release('none');
    assert.equal(limit.acquire(), 'reject-slot');
    limit.release('admitted');
    assert.equal(limit.admitted, 1);
    assert.deepEqual(acquire(limit, 100), { admitted: 1, 'reject-slot': 99, none: 0 });
  });

  test('can be infinite', () => {
    const limit = new ConnectionLimit(Number.POSITIVE_INFINITY);
    assert.deepEqual(acquire(limit, 100_000), { admitted: 100_000, 'reject-slot': 0, none: 0 });
  });
});
