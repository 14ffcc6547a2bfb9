import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import * as fc from 'fast-check';
import { ReadPool, SMALLEST_READ_BYTES } from '../../src/net/read-pool.ts';
import type { PoolReader } from '../../src/net/read-pool.ts';

const KIB = 1024;
const MIB = 1_048_576;

/** No turn may be longer than this, in bytes, or small messages wait for long. */
const LONGEST_TURN_BYTES = 2 * MIB;

/** What one reader may bring more than another, in bytes: it does not grow with what they have brought. */
const LARGEST_LEAD_BYTES = 8 * MIB + LONGEST_TURN_BYTES;

/** A reader whose connection always has more, until it is told otherwise. */
class Reader implements PoolReader {
  readonly #pool: ReadPool;
  readonly #letIn: Reader[];
  step = 0;
  turn = 0;
  turnBytes = 0;
  spellBytes = 0;
  isParked = false;
  /** How often it was made to wait. */
  parked = 0;
  unparked = 0;
  readonly shrunkTo: number[] = [];

  /** @param letIn told in which order readers that waited are let in */
  constructor(pool: ReadPool, letIn: Reader[] = []) {
    this.#pool = pool;
    this.#letIn = letIn;
  }

  growTo(step: number): this {
    this.step = step;
    this.#pool.noteStep(this);
    return this;
  }

  shrinkTo(step: number): void {
    this.shrunkTo.push(step);
    this.growTo(step);
  }

  unpark(): void {
    assert.ok(this.isParked, 'it was let in and had not been made to wait');
    this.isParked = false;
    this.unparked += 1;
    this.#letIn.push(this);
  }

  /** One read. Returns whether there may be another. */
  read(bytes: number): boolean {
    assert.ok(!this.isParked);
    this.isParked = !this.#pool.spend(this, bytes);
    if (this.isParked) this.parked += 1;
    return !this.isParked;
  }

  /** Reads until it is made to wait. Returns what it got. */
  readAll(chunkBytes: number): number {
    if (this.isParked) return 0;
    let bytes = chunkBytes;
    while (this.read(chunkBytes)) {
      bytes += chunkBytes;
      assert.ok(bytes < 100 * MIB, 'it would keep the loop for ever');
    }
    return bytes;
  }
}

/** Readers that always have more, and read in the order they are let in. */
class Crowd {
  readonly letIn: Reader[] = [];
  readonly got = new Map<Reader, number>();
  #ready: readonly Reader[];

  constructor(readers: number) {
    const pool = new ReadPool(64 * MIB);
    this.#ready = Array.from({ length: readers }, () => new Reader(pool, this.letIn));
    for (const reader of this.#ready) this.got.set(reader, 0);
  }

  /** Returns how much they got in it. */
  async turn(chunkBytes: number): Promise<number> {
    let bytes = 0;
    for (const reader of this.#ready) {
      const here = reader.readAll(chunkBytes);
      this.got.set(reader, (this.got.get(reader) ?? 0) + here);
      bytes += here;
    }
    const before = this.letIn.length;
    await nextTurn();
    this.#ready = this.letIn.slice(before);
    assert.ok(this.#ready.length > 0, 'nobody was let in');
    return bytes;
  }
}

function sizeOf(pool: ReadPool): number {
  return pool.view(pool.largestStep).length;
}

describe('the sizes of reads', () => {
  test('go from 16 KiB to 1 MiB, each twice the one before, all in the same memory', () => {
    const pool = new ReadPool(64 * MIB);
    const views = Array.from({ length: 7 }, (_, step) => pool.view(step));
    assert.deepEqual(
      views.map((view) => view.length / KIB),
      [16, 32, 64, 128, 256, 512, 1024],
    );
    assert.equal(new Set(views.map((view) => view.buffer)).size, 1);
    assert.equal(new Set(views.map((view) => view.byteOffset)).size, 1);
    assert.throws(() => pool.view(7), RangeError);
    assert.throws(() => pool.view(-1), RangeError);
  });

  test('shrink as more is held, and grow again', () => {
    const pool = new ReadPool(64 * MIB);
    const quarter = MIB / 4;
    assert.equal(sizeOf(pool), MIB);
    const shrinking: number[] = [];
    for (let held = quarter; held <= 70 * MIB; held += quarter) {
      pool.hold(quarter);
      assert.equal(pool.heldBytes, held);
      shrinking.push(sizeOf(pool));
    }
    assert.deepEqual(
      shrinking.toSorted((one, other) => other - one),
      shrinking,
    );
    assert.equal(new Set(shrinking).size, 7, 'some size is left out');
    assert.equal(shrinking[(64 * MIB) / quarter - 1], SMALLEST_READ_BYTES);
    const growing = shrinking.map(() => {
      const size = sizeOf(pool);
      pool.hold(-quarter);
      return size;
    });
    assert.deepEqual(growing, shrinking.toReversed());
    assert.equal(sizeOf(pool), MIB);
  });

  test('are the smallest where there is no budget to speak of', () => {
    for (const budget of [0, 1, 16 * KIB, 256 * KIB])
      assert.equal(sizeOf(new ReadPool(budget)), SMALLEST_READ_BYTES);
  });

  test('are never more than a small part of what is left, nor less than the smallest', () => {
    const property = fc.property(
      fc.integer({ min: 0, max: 256 * MIB }),
      fc.array(fc.integer({ min: 0, max: 256 * MIB })),
      (budget, amounts) => {
        const pool = new ReadPool(budget);
        for (const held of amounts) {
          pool.hold(held - pool.heldBytes);
          const size = sizeOf(pool);
          assert.ok(size >= SMALLEST_READ_BYTES && size <= MIB);
          assert.ok(size === SMALLEST_READ_BYTES || size <= (budget - held) / 16);
        }
      },
    );
    fc.assert(property);
  });

  test('keep what any number of stalled receivers hold within the budget and the smallest read for each', () => {
    for (const budget of [0, MIB, 64 * MIB]) {
      const pool = new ReadPool(budget);
      for (let receivers = 1; receivers <= 5000; receivers += 1) {
        pool.hold(sizeOf(pool));
        assert.ok(pool.heldBytes <= budget + receivers * SMALLEST_READ_BYTES);
      }
    }
  });
});

describe('readers that have grown', () => {
  test('shrink at once when memory gets scarce, and only those that are too large', () => {
    const pool = new ReadPool(64 * MIB);
    const readers = [0, 1, 3, 5, 6].map((step) => new Reader(pool).growTo(step));
    for (let held = 0; held <= 64 * MIB; held += 256 * KIB) {
      const before = readers.map(({ step }) => step);
      pool.hold(256 * KIB);
      for (const [index, reader] of readers.entries()) {
        const isTooLarge = (before[index] ?? 0) > pool.largestStep;
        assert.deepEqual(reader.shrunkTo.splice(0), isTooLarge ? [pool.largestStep] : []);
      }
    }
    assert.ok(readers.every(({ step }) => step === 0));
  });

  test('are left alone when memory is there again, when they shrank by themselves, and when they are gone', () => {
    const pool = new ReadPool(64 * MIB);
    const [gone, meek, keen] = [6, 6, 6].map((step) => new Reader(pool).growTo(step));
    if (gone !== undefined) pool.forget(gone);
    meek?.growTo(0);
    pool.hold(63 * MIB);
    pool.hold(-63 * MIB);
    assert.deepEqual(
      [gone, meek, keen].map((reader) => reader?.shrunkTo),
      [[], [], [0]],
    );
  });
});

describe('who reads when', () => {
  test('a reader that brings little is never made to wait, however much others bring', async () => {
    const pool = new ReadPool(64 * MIB);
    const greedy = Array.from({ length: 8 }, () => new Reader(pool));
    const modest = new Reader(pool);
    for (let turn = 0; turn < 200; turn += 1) {
      for (const reader of greedy) reader.readAll(256 * KIB);
      assert.ok(modest.read(KIB));
      assert.ok(modest.read(8 * KIB));
      await nextTurn();
    }
    assert.equal(modest.parked, 0);
    for (const reader of greedy) assert.ok(reader.unparked > 10);
  });

  test('a reader alone goes on up to a bound, waits, and is let in again in the next turn', async () => {
    const pool = new ReadPool(64 * MIB);
    for (const chunkBytes of [16 * KIB, 256 * KIB, MIB]) {
      const reader = new Reader(pool);
      for (let turn = 1; turn <= 50; turn += 1) {
        const bytes = reader.readAll(chunkBytes);
        assert.ok(bytes >= MIB, `${bytes} bytes are not much for a turn`);
        assert.ok(bytes <= LONGEST_TURN_BYTES, `${bytes} bytes are too much for a turn`);
        assert.equal(reader.parked, turn);
        await nextTurn();
        assert.equal(reader.unparked, turn);
      }
      await nextTurn();
    }
  });

  for (const [readers, chunkBytes] of [
    [2, 16 * KIB],
    [2, MIB],
    [3, 16 * KIB],
    [8, 64 * KIB],
    [8, 256 * KIB],
    [16, MIB],
    [40, 64 * KIB],
    [101, 100 * KIB],
  ] as const) {
    const who = `${readers} readers with plenty, ${chunkBytes / KIB} KiB a read,`;

    test(`${who} take turns: nobody gets far ahead, and nobody much in one turn`, async () => {
      const crowd = new Crowd(readers);
      // At the first turn nobody can know who has plenty.
      await crowd.turn(chunkBytes);
      for (let relayed = 0; relayed < readers * 200 * MIB;) {
        const bytes = await crowd.turn(chunkBytes);
        assert.ok(bytes > 0 && bytes <= LONGEST_TURN_BYTES, `${bytes} bytes in one turn`);
        relayed += bytes;
        const shares = [...crowd.got.values()];
        const lead = Math.max(...shares) - Math.min(...shares);
        assert.ok(lead <= LARGEST_LEAD_BYTES, `somebody is ${lead} bytes ahead after ${relayed}`);
      }
    });
  }

  test('the queue empties when nobody has more, and a reader alone is free again', async () => {
    const pool = new ReadPool(64 * MIB);
    const all = Array.from({ length: 20 }, () => new Reader(pool));
    for (let turn = 0; turn < 10; turn += 1) {
      for (const reader of all) reader.readAll(MIB);
      await nextTurn();
    }
    while (all.some((reader) => reader.isParked)) {
      const waiting = all.filter((reader) => reader.isParked).length;
      await nextTurn();
      assert.ok(all.filter((reader) => reader.isParked).length < waiting);
    }
    for (const reader of all) assert.equal(reader.unparked, reader.parked);
    await nextTurn();
    const [first] = all;
    assert.ok(first !== undefined && first.readAll(128 * KIB) > MIB);
  });

  test('readers come and go: nobody is forgotten and nobody is let in for nothing', async () => {
    const sizes = fc.array(fc.array(fc.integer({ min: 0, max: 300 * KIB }), { minLength: 6, maxLength: 6 }), {
      maxLength: 30,
    });
    const property = fc.asyncProperty(sizes, async (turns) => {
      const pool = new ReadPool(64 * MIB);
      const all = Array.from({ length: 6 }, () => new Reader(pool));
      for (const turn of turns) {
        for (const [index, reader] of all.entries()) if (!reader.isParked) reader.read(turn[index] ?? 0);
        await nextTurn();
      }
      for (const _ of all) await nextTurn();
      for (const reader of all) assert.equal(reader.unparked, reader.parked);
    });
    await fc.assert(property);
  });
});
