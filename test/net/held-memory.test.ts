import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { BufferPool } from '../../src/transport/read-scheduler.ts';
import { randomBytesOf } from '../support/bytes.ts';

const PIECE_BYTES = 524_288;

describe('memory for what is held', () => {
  test('keeps bytes as they were, whatever becomes of those that were copied', () => {
    const memory = new BufferPool(PIECE_BYTES);
    for (const size of [1, 65_535, 65_536, 300_000, PIECE_BYTES, PIECE_BYTES + 1]) {
      const bytes = randomBytesOf(size, size);
      const expected = Buffer.from(bytes);
      const copy = memory.copy(bytes);
      bytes.fill(0);
      assert.ok(expected.equals(copy));
    }
  });

  test('is used again once it was given back, and not before', () => {
    const memory = new BufferPool(PIECE_BYTES);
    const [first, second] = [memory.copy(randomBytesOf(1, 100_000)), memory.copy(randomBytesOf(2, 100_000))];
    assert.notEqual(first.buffer, second.buffer);
    memory.release(first);
    const third = memory.copy(randomBytesOf(3, 200_000));
    assert.equal(third.buffer, first.buffer);
    assert.ok(randomBytesOf(2, 100_000).equals(second));
    assert.ok(randomBytesOf(3, 200_000).equals(third));
  });

  test('is let go of when nobody holds anything, but for two pieces', () => {
    const memory = new BufferPool(PIECE_BYTES);
    const hold = (count: number): Uint8Array[] =>
      Array.from({ length: count }, (_, index) => memory.copy(randomBytesOf(index, 100_000)));
    const before = hold(5);
    const buffers = new Set(before.map((copy) => copy.buffer));
    for (const copy of before) memory.release(copy);
    const after = hold(9);
    assert.equal(after.filter((copy) => buffers.has(copy.buffer)).length, 2);
    assert.equal(after.filter((copy) => copy.buffer.byteLength === PIECE_BYTES).length, 8);
  });

  test('given back twice is given to one alone', () => {
    const memory = new BufferPool(PIECE_BYTES);
    const copy = memory.copy(randomBytesOf(1, 100_000));
    memory.release(copy);
    memory.release(copy);
    assert.notEqual(memory.copy(copy).buffer, memory.copy(randomBytesOf(2, 100_000)).buffer);
  });

  test('is eight pieces at the most: what finds none free, and what is small, takes no more than it needs', () => {
    const memory = new BufferPool(PIECE_BYTES);
    const small = memory.copy(randomBytesOf(1, 65_535));
    assert.ok(small.buffer.byteLength < PIECE_BYTES);
    const copies = Array.from({ length: 20 }, (_, index) => memory.copy(randomBytesOf(index, 100_000)));
    const pieces = copies.filter((copy) => copy.buffer.byteLength === PIECE_BYTES);
    assert.equal(pieces.length, 8);
    for (const copy of copies) memory.release(copy);
    const again = copies.map((copy) => memory.copy(copy));
    assert.equal(new Set(again.map((copy) => copy.buffer)).size, 20);
    assert.equal(again.filter((copy) => copy.buffer.byteLength === PIECE_BYTES).length, 8);
  });
});
