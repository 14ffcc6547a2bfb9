import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { BufferPool, MIN_READ_BYTES, ReadScheduler } from '../../src/transport/read-scheduler.ts';
import type { ReadFlow } from '../../src/transport/read-scheduler.ts';
import { randomBytesOf } from '../support/bytes.ts';

const MIB = 1_048_576;
const PLENTY = 65_536;
const LONGEST_SPELL = 8 * MIB;

/** A connection that brings `perRead` bytes at a time, for as long as it has some. */
class Reader implements ReadFlow {
  sizeClass = 5;
  isQueued = false;
  servedBytes = 0;
  served = 0;
  reads = 0;
  hasLeft = false;
  readonly #perRead: number;
  #supply: number;

  constructor(perRead = MIB, supply = Number.POSITIVE_INFINITY) {
    this.#perRead = perRead;
    this.#supply = supply;
  }

  serve(memory: Uint8Array): number {
    const count = Math.min(this.#perRead, this.#supply, memory.length);
    this.#supply -= count;
    this.served += count;
    this.reads += 1;
    return count;
  }

  onDequeued(): void {
    this.hasLeft = true;
  }

  dryUp(): void {
    this.#supply = 0;
  }
}

/** Lets the event loop go around. What the pool has scheduled before runs first. */
async function turns(count: number): Promise<void> {
  for (let turn = 0; turn < count; turn += 1) await new Promise((resolve) => setImmediate(resolve));
}

/** Lets the pool's queue run dry, so that no test goes on behind its end. */
async function finish(readers: readonly Reader[]): Promise<void> {
  for (const reader of readers) reader.dryUp();
  while (!readers.every((reader) => reader.hasLeft)) await turns(1);
}

describe('the size of a read', () => {
  test('doubles with each step up to 512 KiB, and no further', () => {
    const pool = new ReadScheduler(64 * MIB);
    assert.deepEqual(
      [0, 1, 2, 3, 4, 5, 6].map((step) => pool.readSizeBytes(step) / 1024),
      [16, 32, 64, 128, 256, 512, 512],
    );
    assert.equal(pool.nextSizeClass(0), 1);
    assert.equal(pool.nextSizeClass(5), 5);
  });

  test('shrinks at once as more is held, down to the smallest, and grows again', () => {
    const pool = new ReadScheduler(64 * MIB);
    const sizes: number[] = [];
    for (const held of [0, 16, 24, 28, 31, 32, 64, 100]) {
      pool.addBufferedBytes(held * MIB - pool.bufferedBytes);
      sizes.push(pool.readSizeBytes(5) / 1024);
    }
    assert.deepEqual(sizes, [512, 512, 512, 256, 64, 16, 16, 16]);
    pool.addBufferedBytes(-pool.bufferedBytes);
    assert.equal(pool.readSizeBytes(5), MIB / 2);
  });

  test('is the smallest without a budget', () => {
    assert.equal(new ReadScheduler(0).readSizeBytes(6), MIN_READ_BYTES);
  });

  test('keeps 1,000 stalled receivers, each in the middle of its largest read, within the budget', () => {
    const pool = new ReadScheduler(64 * MIB);
    for (let receiver = 0; receiver < 1000; receiver += 1) pool.addBufferedBytes(pool.readSizeBytes(5));
    assert.ok(pool.bufferedBytes <= 64 * MIB, `${pool.bufferedBytes} bytes are held`);
  });
});

describe('the queue', () => {
  test('serves a lone reader 2 MiB a turn, as long as it has plenty', async () => {
    const pool = new ReadScheduler(64 * MIB);
    const reader = new Reader();
    pool.enqueue(reader);
    await turns(1);
    assert.equal(reader.served, 2 * MIB);
    await turns(2);
    assert.equal(reader.served, 6 * MIB);
    await finish([reader]);
  });

  test('takes a short turn when somebody has come, and then long ones again', async () => {
    const pool = new ReadScheduler(64 * MIB);
    const reader = new Reader();
    pool.enqueue(reader);
    pool.onAccept();
    await turns(1);
    assert.equal(reader.served, MIB / 8);
    await turns(1);
    assert.equal(reader.served, MIB / 8 + 2 * MIB);
    await finish([reader]);
  });

  test('gives a reader whose bytes take long its share of time', async () => {
    const pool = new ReadScheduler(64 * MIB);
    const order: string[] = [];
    class Named extends Reader {
      readonly #name: string;
      readonly #busyMs: number;

      constructor(name: string, busyMs: number) {
        super();
        this.#name = name;
        this.#busyMs = busyMs;
      }

      override serve(memory: Uint8Array): number {
        order.push(this.#name);
        const end = performance.now() + this.#busyMs;
        while (performance.now() < end);
        return super.serve(memory);
      }
    }
    const readers = [new Named('slow', 5), new Named('quick', 0)];
    for (const reader of readers) pool.enqueue(reader);
    while (order.length < 100) await turns(1);
    await finish(readers);
    // By bytes it would be 16 reads in a row for either; by time it is one of 5 ms.
    const slow = order.join(' ').match(/slow(?: slow)*/gu) ?? [];
    assert.ok(slow.length >= 3);
    assert.ok(
      slow.every((spell) => spell.split(' ').length <= 2),
      order.join(' '),
    );
  });

  test('lets a reader go that brings little, and not before', async () => {
    const pool = new ReadScheduler(64 * MIB);
    const reader = new Reader(PLENTY, 2 * PLENTY + 1);
    pool.enqueue(reader);
    await turns(2);
    assert.ok(reader.hasLeft);
    assert.ok(!reader.isQueued);
    assert.deepEqual([reader.served, reader.reads], [2 * PLENTY + 1, 3]);
  });

  test('has each reader once, however often it joins', async () => {
    const pool = new ReadScheduler(64 * MIB);
    const reader = new Reader(MIB, 3 * MIB);
    for (let times = 0; times < 5; times += 1) pool.enqueue(reader);
    await finish([reader]);
    assert.ok(reader.reads <= 4);
  });

  for (const count of [2, 8, 40, 1000]) {
    test(`gives ${count} readers 1 MiB a turn together, and none more than a spell more than another`, async () => {
      const pool = new ReadScheduler(64 * MIB);
      const readers = Array.from({ length: count }, () => new Reader());
      for (const reader of readers) pool.enqueue(reader);
      const total = (): number => readers.reduce((sum, reader) => sum + reader.served, 0);
      let before = 0;
      for (let turn = 0; turn < 4000; turn += 1) {
        await turns(1);
        const now = total();
        assert.ok(now - before <= 2 * MIB, `${now - before} bytes in one turn`);
        before = now;
      }
      const served = readers.map((reader) => reader.served);
      const lead = Math.max(...served) - Math.min(...served);
      assert.ok(lead <= LONGEST_SPELL + 2 * MIB, `${lead} bytes ahead`);
      await finish(readers);
    });
  }

  test('ends a turn early where each read takes long to deal with', async () => {
    /** Takes a millisecond for each read, of which a turn has two. */
    class SlowReader extends Reader {
      override serve(memory: Uint8Array): number {
        const end = performance.now() + 1;
        while (performance.now() < end);
        return super.serve(memory);
      }
    }
    const pool = new ReadScheduler(0);
    const readers = [new SlowReader(), new SlowReader()];
    for (const reader of readers) pool.enqueue(reader);
    const reads = (): number => readers.reduce((sum, reader) => sum + reader.reads, 0);
    for (let turn = 1; turn <= 5; turn += 1) {
      const before = reads();
      await turns(1);
      assert.ok(reads() - before <= 2, `${reads() - before} reads in one turn`);
    }
    assert.ok(reads() >= 5);
    await finish(readers);
  });

  test('serves one that comes before the many that are there, but only for a moment', async () => {
    const pool = new ReadScheduler(64 * MIB);
    const crowd = Array.from({ length: 100 }, () => new Reader());
    for (const reader of crowd) pool.enqueue(reader);
    await turns(200);
    const newcomer = new Reader(PLENTY);
    pool.enqueue(newcomer);
    await turns(2);
    assert.ok(newcomer.served >= 4 * PLENTY);
    assert.ok(newcomer.served <= MIB);
    await finish([...crowd, newcomer]);
  });
});

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
