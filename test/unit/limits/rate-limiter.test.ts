import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, mock, test } from 'node:test';
import * as fc from 'fast-check';
import { RateLimiter, createRateLimiter } from '../../../src/limits/rate-limiter.ts';
import type { RateLimitSlot, RateLimits, Throttleable } from '../../../src/limits/rate-limiter.ts';

/** Bytes that the simulated machine can forward per millisecond, all pairs together: 5 GB/s. */
const MACHINE_BYTES_PER_MS = 5_000_000;

const SMALL_READ_BYTES = 16_384;
const LARGE_READ_BYTES = 524_288;

let now = 0;
/** Index of the pair that reads first, so that it is not always the same one. */
let turn = 0;

/** A pair whose clients send as fast as possible, or at a fixed rate. */
class SimulatedPair {
  bytes = 0;
  isPaused = false;
  pauses = 0;
  /** Size of its largest reads. */
  readBytes: number;
  readonly directions: number;
  readonly #slot: RateLimitSlot;
  readonly #bytesPerMs: number;
  #offeredBytes = 0;

  constructor(
    rateLimiter: RateLimiter,
    { bytesPerSecond = Infinity, directions = 1, readBytes = readBytesOf(rateLimiter) }: PairOptions = {},
  ) {
    this.directions = directions;
    this.readBytes = readBytes;
    this.#bytesPerMs = bytesPerSecond / 1000;
    this.#slot = rateLimiter.join({
      pauseBoth: () => {
        assert.equal(this.isPaused, false, 'paused twice');
        this.isPaused = true;
        this.pauses += 1;
      },
      resumeBoth: () => {
        assert.equal(this.isPaused, true, 'resumed without having been paused');
        this.isPaused = false;
      },
    });
  }

  /** Adds the bytes that its clients send in a millisecond. The kernel buffers only a few of them. */
  offer(): void {
    this.#offeredBytes = Math.min(this.#offeredBytes + this.#bytesPerMs, 4_000_000);
  }

  /** Reads once in each direction. Returns the bytes. */
  read(): number {
    let bytes = 0;
    for (let direction = 0; direction < this.directions; direction += 1) {
      if (this.isPaused) break;
      const count = Math.floor(Math.min(this.readBytes, this.#offeredBytes));
      if (count === 0) break;
      this.#offeredBytes -= count;
      bytes += count;
      this.#slot.consume(count);
    }
    this.bytes += bytes;
    return bytes;
  }

  /** Reads a message even while paused, because decoded messages cannot be held back. */
  spend(bytes: number): void {
    this.bytes += bytes;
    this.#slot.consume(bytes);
  }

  leave(): void {
    this.#slot.release();
  }
}

interface PairOptions {
  /** Rate at which its clients send, even while it is paused. */
  readonly bytesPerSecond?: number;
  readonly directions?: number;
  readonly readBytes?: number;
}

function readBytesOf(rateLimiter: RateLimiter): number {
  return rateLimiter.wantsSmallReads ? SMALL_READ_BYTES : LARGE_READ_BYTES;
}

const UNLIMITED: RateLimits = { pairBytesPerSecond: null, totalBytesPerSecond: null };

function limiterOf(limits: Partial<RateLimits>): RateLimiter {
  return new RateLimiter({ ...UNLIMITED, ...limits }, () => now);
}

/** Advances the clock while the pairs read in turn. */
function run(ms: number, pairs: readonly SimulatedPair[]): void {
  for (let step = 0; step < ms; step += 1) {
    now += 1;
    mock.timers.tick(1);
    for (const pair of pairs) pair.offer();
    let budget = MACHINE_BYTES_PER_MS;
    let isBusy = true;
    while (budget > 0 && isBusy) {
      isBusy = false;
      turn += 1;
      for (let index = 0; index < pairs.length && budget > 0; index += 1) {
        const bytes = pairs[(turn + index) % pairs.length]?.read() ?? 0;
        budget -= bytes;
        isBusy ||= bytes > 0;
      }
    }
  }
}

/** The bytes that each pair forwards in that time. */
function forwardedBytes(ms: number, pairs: readonly SimulatedPair[]): number[] {
  const before = pairs.map(({ bytes }) => bytes);
  run(ms, pairs);
  return pairs.map(({ bytes }, index) => bytes - (before[index] ?? 0));
}

const sum = (numbers: readonly number[]): number => numbers.reduce((total, number) => total + number, 0);

function assertNear(actual: number, expected: number, tolerance: number, label: string): void {
  const error = actual / expected - 1;
  assert.ok(
    Math.abs(error) <= tolerance,
    `${label}: ${actual} is ${(error * 100).toFixed(1)} % from ${expected}`,
  );
}

const times = <T>(count: number, make: (index: number) => T): T[] =>
  Array.from({ length: count }, (_, i) => make(i));

/**
 * Number of running timers: set, and neither fired nor cleared. `mock.timers.reset` ends it. `mock.method`
 * would take most of the time of these tests, because it stores a stack trace for each call.
 */
function watchTimers(): () => number {
  const running = new Set<unknown>();
  const { setTimeout: set, clearTimeout: clear } = globalThis;
  const setWatched = (callback: () => void, ms: number): NodeJS.Timeout => {
    const timer = set(() => {
      running.delete(timer);
      callback();
    }, ms);
    running.add(timer);
    return timer;
  };
  const clearWatched = (timer: NodeJS.Timeout): void => {
    running.delete(timer);
    clear(timer);
  };
  Object.defineProperty(globalThis, 'setTimeout', { value: setWatched });
  Object.defineProperty(globalThis, 'clearTimeout', { value: clearWatched });
  return () => running.size;
}

let timers: () => number = () => 0;
beforeEach(() => {
  now = 1000;
  mock.timers.enable({ apis: ['setTimeout'] });
  timers = watchTimers();
});
afterEach(() => {
  mock.timers.reset();
});

const RATES = [100_000, 1_000_000, 12_500_000, 100_000_000, 250_000_000, 2_000_000_000] as const;

describe('a total rate', () => {
  for (const rate of RATES) {
    for (const count of [1, 2, 50, 500]) {
      test(`of ${rate / 1e6} MB/s is met by ${count} pairs, from the first second on`, () => {
        const rateLimiter = limiterOf({ totalBytesPerSecond: rate });
        const pairs = times(count, () => new SimulatedPair(rateLimiter));
        // The target is for 50 pairs. More pairs have a larger excess.
        const error = count > 50 ? 0.15 : 0.05;
        for (const seconds of ['0 to 5', '5 to 10', '10 to 15']) {
          assertNear(sum(forwardedBytes(5000, pairs)), rate * 5, error, `bytes in ${seconds} s`);
        }
      });
    }
  }
});

describe('the share of a total rate', () => {
  for (const rate of RATES) {
    test(`of ${rate / 1e6} MB/s is equal for pairs with one busy direction and with two`, () => {
      const rateLimiter = limiterOf({ totalBytesPerSecond: rate });
      const pairs = times(10, (index) => new SimulatedPair(rateLimiter, { directions: 1 + (index % 2) }));
      run(5000, pairs);
      // At 100 kB/s each has 10 kB per second, which is less than a read.
      const ms = rate < 1e6 ? 50_000 : 5000;
      for (const bytes of forwardedBytes(ms, pairs))
        assertNear(bytes, (rate / 10) * (ms / 1000), 0.05, 'a share');
    });

    test(`of ${rate / 1e6} MB/s is equal for all sizes of reads`, () => {
      const rateLimiter = limiterOf({ totalBytesPerSecond: rate });
      const pairs = [
        new SimulatedPair(rateLimiter, { readBytes: LARGE_READ_BYTES }),
        new SimulatedPair(rateLimiter, { readBytes: SMALL_READ_BYTES }),
        new SimulatedPair(rateLimiter, { readBytes: 1000 }),
      ];
      run(5000, pairs);
      const ms = rate < 1e6 ? 500_000 : rate < 1e8 ? 50_000 : 5000;
      for (const bytes of forwardedBytes(ms, pairs))
        assertNear(bytes, (rate / 3) * (ms / 1000), 0.05, 'a share');
    });
  }

  test('includes what slow pairs and slow clients do not use', () => {
    for (const rate of [1_000_000, 12_500_000, 100_000_000, 1_000_000_000]) {
      for (const slowCount of [1, 2, 49]) {
        const rateLimiter = limiterOf({ totalBytesPerSecond: rate });
        // Together they need half of the rate.
        const habits = { bytesPerSecond: rate / 2 / slowCount };
        const slow = times(slowCount, () => new SimulatedPair(rateLimiter, habits));
        const greedy = new SimulatedPair(rateLimiter);
        run(20_000, [...slow, greedy]);
        const [greedyBytes = 0, ...slowBytes] = forwardedBytes(5000, [greedy, ...slow]);
        const label = `at ${rate / 1e6} MB/s beside ${slowCount}`;
        assertNear(greedyBytes, (rate / 2) * 5, 0.05, `greedy ${label}`);
        assertNear(sum(slowBytes), (rate / 2) * 5, 0.05, `slow ${label}`);
        rateLimiter.close();
      }
    }
  });

  test('does not slow down a pair that needs a little less than its share', () => {
    const rate = 200_000_000;
    const rateLimiter = limiterOf({ totalBytesPerSecond: rate });
    const modest = new SimulatedPair(rateLimiter, { bytesPerSecond: 0.95 * (rate / 3) });
    const pairs = [modest, new SimulatedPair(rateLimiter), new SimulatedPair(rateLimiter)];
    run(1000, pairs);
    const [bytes = 0] = forwardedBytes(5000, pairs);
    assertNear(bytes, 0.95 * (rate / 3) * 5, 0.03, 'a modest pair');
  });

  test('does not pause a single pair that needs less', () => {
    const rateLimiter = limiterOf({ totalBytesPerSecond: 10_000_000 });
    const pair = new SimulatedPair(rateLimiter, { bytesPerSecond: 9_000_000 });
    run(10_000, [pair]);
    assert.equal(pair.pauses, 0);
  });

  test('is available to a new pair, and goes to the others when a pair ends', () => {
    const rate = 50_000_000;
    const rateLimiter = limiterOf({ totalBytesPerSecond: rate });
    const [first, second] = [new SimulatedPair(rateLimiter), new SimulatedPair(rateLimiter)];
    run(2000, [first, second]);
    const late = new SimulatedPair(rateLimiter);
    run(200, [first, second, late]);
    for (const bytes of forwardedBytes(2000, [first, second, late]))
      assertNear(bytes, (rate / 3) * 2, 0.05, 'a third');
    first.leave();
    run(200, [second, late]);
    for (const bytes of forwardedBytes(2000, [second, late])) assertNear(bytes, rate, 0.05, 'a half');
  });

  test('is not exceeded by pairs that join, read once and end', () => {
    const rate = 10_000_000;
    const rateLimiter = limiterOf({ totalBytesPerSecond: rate });
    const steady = new SimulatedPair(rateLimiter);
    let bytes = 0;
    for (let ms = 0; ms < 5000; ms += 1) {
      const brief = times(5, () => new SimulatedPair(rateLimiter));
      run(1, [steady, ...brief]);
      for (const pair of brief) {
        bytes += pair.bytes;
        pair.leave();
      }
    }
    assertNear(bytes + steady.bytes, rate * 5, 0.05, 'bytes of all');
  });

  test('is not reduced by pairs that end without a byte, or end twice', () => {
    const rate = 10_000_000;
    const rateLimiter = limiterOf({ totalBytesPerSecond: rate });
    const steady = new SimulatedPair(rateLimiter);
    const silent: SimulatedPair[] = [];
    let bytes = 0;
    for (let step = 0; step < 1000; step += 1) {
      silent.push(new SimulatedPair(rateLimiter));
      run(5, [steady]);
      const [first] = silent;
      if (silent.length < 20 || first === undefined) continue;
      silent.shift();
      for (let again = 0; again < 5; again += 1) first.leave();
      bytes += first.bytes;
    }
    assertNear(bytes + steady.bytes, rate * 5, 0.05, 'bytes of all');
  });

  test('loses nothing to late timers, and has no burst after a suspension', () => {
    const rate = 20_000_000;
    const rateLimiter = limiterOf({ totalBytesPerSecond: rate });
    const pairs = times(2, () => new SimulatedPair(rateLimiter));
    run(1000, pairs);
    const before = sum(pairs.map(({ bytes }) => bytes));
    for (let late = 0; late < 50; late += 1) {
      now += 90;
      run(10, pairs);
    }
    assertNear(sum(pairs.map(({ bytes }) => bytes)) - before, rate * 5, 0.05, 'with late timers');
    now += 60_000;
    assertNear(sum(forwardedBytes(5000, pairs)), rate * 5, 0.055, 'after a standstill');
  });

  test('is met after an idle time', () => {
    for (const count of [1, 2, 50]) {
      const rateLimiter = limiterOf({ totalBytesPerSecond: 12_500_000 });
      const pairs = times(count, () => new SimulatedPair(rateLimiter));
      run(1000, pairs);
      run(30_000, []);
      assertNear(sum(forwardedBytes(5000, pairs)), 12_500_000 * 5, 0.05, `${count} pairs`);
      rateLimiter.close();
    }
  });
});

describe('a rate per pair', () => {
  for (const rate of RATES) {
    for (const count of rate < 1e8 ? [1, 2, 50] : [1, 2]) {
      test(`of ${rate / 1e6} MB/s is met by each of ${count}, from the first second on`, () => {
        const rateLimiter = limiterOf({ pairBytesPerSecond: rate });
        const pairs = times(
          count,
          (index) => new SimulatedPair(rateLimiter, { directions: 1 + (index % 2) }),
        );
        for (const bytes of forwardedBytes(5000, pairs)) assertNear(bytes, rate * 5, 0.05, 'at first');
        for (const bytes of forwardedBytes(5000, pairs)) assertNear(bytes, rate * 5, 0.05, 'later');
        run(30_000, []);
        for (const bytes of forwardedBytes(5000, pairs)) assertNear(bytes, rate * 5, 0.05, 'after a silence');
      });
    }
  }

  test('loses nothing to late timers, and has no burst after a suspension', () => {
    const rate = 20_000_000;
    const rateLimiter = limiterOf({ pairBytesPerSecond: rate });
    const pair = new SimulatedPair(rateLimiter);
    run(1000, [pair]);
    const before = pair.bytes;
    for (let late = 0; late < 50; late += 1) {
      now += 90;
      run(10, [pair]);
    }
    assertNear(pair.bytes - before, rate * 5, 0.05, 'with late timers');
    now += 60_000;
    assertNear(sum(forwardedBytes(5000, [pair])), rate * 5, 0.055, 'after a standstill');
  });

  test('leaves the unused part of the total to others', () => {
    for (const count of [1, 2, 30]) {
      const totalRate = 90_000_000;
      const rateLimiter = limiterOf({ totalBytesPerSecond: totalRate, pairBytesPerSecond: totalRate / 3 });
      // These pairs are slower than their rate. Two fast pairs are limited by theirs.
      const slow = times(
        count,
        () => new SimulatedPair(rateLimiter, { bytesPerSecond: totalRate / 3 / count }),
      );
      const fast = times(2, () => new SimulatedPair(rateLimiter));
      run(1000, [...slow, ...fast]);
      const bytes = forwardedBytes(5000, [...slow, ...fast]);
      assertNear(sum(bytes), totalRate * 5, 0.05, 'all');
      for (const one of bytes.slice(-2)) assertNear(one, (totalRate / 3) * 5, 0.05, 'a fast one');
      rateLimiter.close();
    }
  });

  test('above the share of the total changes nothing', () => {
    const rateLimiter = limiterOf({ totalBytesPerSecond: 30_000_000, pairBytesPerSecond: 12_000_000 });
    const pairs = times(5, () => new SimulatedPair(rateLimiter));
    run(1000, pairs);
    for (const bytes of forwardedBytes(5000, pairs)) assertNear(bytes, 6_000_000 * 5, 0.05, 'a fifth');
  });
});

describe('a rate limiter', () => {
  test('runs no timer while no pair is paused', () => {
    for (const limits of [
      { totalBytesPerSecond: 1_000_000 },
      { pairBytesPerSecond: 1_000_000 },
      { totalBytesPerSecond: 1_000_000, pairBytesPerSecond: 700_000 },
    ]) {
      const rateLimiter = limiterOf(limits);
      const pairs = times(3, () => new SimulatedPair(rateLimiter));
      run(5, pairs);
      assert.equal(timers(), 1);
      // The pairs send nothing more. One of them ends while it is paused.
      const pausedPair = pairs.find(({ isPaused }) => isPaused);
      assert.ok(pausedPair !== undefined);
      pausedPair.leave();
      run(3000, []);
      assert.deepEqual([timers(), pairs.filter((pair) => pair !== pausedPair && pair.isPaused)], [0, []]);
      assert.ok(pausedPair.isPaused, 'a pair that has ended is not notified');
      run(5, pairs);
      assert.equal(timers(), 1);
      rateLimiter.close();
    }
  });

  test('resumes all pairs and runs no timer after it is closed', () => {
    const rateLimiter = limiterOf({ totalBytesPerSecond: 100_000, pairBytesPerSecond: 100_000 });
    const pairs = times(5, () => new SimulatedPair(rateLimiter));
    run(10, pairs);
    assert.ok(pairs.some(({ isPaused }) => isPaused));
    rateLimiter.close();
    pairs.push(new SimulatedPair(rateLimiter));
    assert.deepEqual([timers(), pairs.filter(({ isPaused }) => isPaused)], [0, []]);
    run(100, pairs);
    assert.deepEqual([timers(), pairs.filter(({ isPaused }) => isPaused)], [0, []]);
    pairs[0]?.leave();
  });

  test('pauses no pair if there are no limits', () => {
    const pair = new SimulatedPair(limiterOf({}));
    run(1000, [pair]);
    assert.deepEqual([pair.pauses, timers()], [0, 0]);
    pair.leave();
    pair.leave();
  });

  test('requests small reads if large ones would be a large part of a rate', () => {
    const wants = (limits: Partial<RateLimits>): boolean => limiterOf(limits).wantsSmallReads;
    assert.deepEqual(
      [
        wants({}),
        wants({ totalBytesPerSecond: 200_000_000 }),
        wants({ totalBytesPerSecond: 210_000_000 }),
        wants({ pairBytesPerSecond: 4_000_000 }),
        wants({ pairBytesPerSecond: 4_200_000 }),
        wants({ pairBytesPerSecond: 4_000_000, totalBytesPerSecond: 1e9 }),
        wants({ pairBytesPerSecond: 1e9, totalBytesPerSecond: 4_000_000 }),
      ],
      [false, true, false, true, false, true, true],
    );
  });

  test('counts bytes of paused pairs, and a pair that ends twice once', () => {
    const rate = 1_000_000;
    const rateLimiter = limiterOf({ totalBytesPerSecond: rate });
    const [one, other] = [new SimulatedPair(rateLimiter), new SimulatedPair(rateLimiter)];
    run(100, [one, other]);
    for (let message = 0; message < 30; message += 1) {
      one.spend(100_000);
      if (message === 15) other.leave();
      other.leave();
    }
    const before = one.bytes;
    run(2500, [one]);
    assert.equal(one.bytes, before, '3 MB at 1 MB/s take 3 s');
    run(1000, [one]);
    assert.ok(one.bytes > before);
  });

  test('accepts reads, ends and new pairs while it resumes a pair', () => {
    const rateLimiter = limiterOf({ totalBytesPerSecond: 10_000_000 });
    const slots: RateLimitSlot[] = [];
    const released = new Set<number>();
    let reads = 0;
    const join = (depth: number): void => {
      const index = slots.length;
      let isPaused = false;
      const slot = rateLimiter.join({
        pauseBoth: () => {
          assert.equal(isPaused, false);
          isPaused = true;
        },
        resumeBoth: () => {
          assert.equal(isPaused, true);
          assert.ok(!released.has(index), 'a pair that has ended is not notified');
          isPaused = false;
          reads += 1;
          slots[index]?.consume(16_384);
          slots[index + 1]?.release();
          released.add(index + 1);
          if (depth > 0) join(depth - 1);
        },
      });
      slots.push(slot);
      slot.consume(16_384);
    };
    for (let count = 0; count < 20; count += 1) join(5);
    run(10_000, []);
    assert.ok(reads > 20, `${reads} reads`);
  });
});

test('for any behaviour of pairs, the total rate is not exceeded and no pair is paused forever', () => {
  const action = fc.record({
    kind: fc.constantFrom('join', 'leave', 'read', 'read', 'read', 'pass', 'pass'),
    pair: fc.nat(20),
    bytes: fc.integer({ min: 1, max: LARGE_READ_BYTES }),
    ms: fc.integer({ min: 1, max: 100 }),
  });
  const rates = fc.integer({ min: 100_000, max: 2_000_000_000 });
  fc.assert(
    fc.property(
      rates,
      fc.option(rates),
      fc.array(action, { maxLength: 300 }),
      (totalRate, pairRate, actions) => {
        const rateLimiter = limiterOf({ totalBytesPerSecond: totalRate, pairBytesPerSecond: pairRate });
        const pairs: SimulatedPair[] = [];
        const start = now;
        let [bytes, maxPairs] = [0, 0];
        for (const { kind, pair: index, bytes: size, ms } of actions) {
          const pair = pairs[index % Math.max(1, pairs.length)];
          if (kind === 'join') pairs.push(new SimulatedPair(rateLimiter));
          else if (kind === 'leave' && pair !== undefined) {
            pair.leave();
            pairs.splice(pairs.indexOf(pair), 1);
          } else if (kind === 'read' && pair?.isPaused === false) {
            pair.spend(size);
            bytes += size;
          } else if (kind === 'pass') run(ms, []);
          maxPairs = Math.max(maxPairs, pairs.length);
          const allowedBytes = (totalRate / 1000) * (now - start + 50);
          assert.ok(
            bytes <= allowedBytes + maxPairs * LARGE_READ_BYTES + 1,
            `${bytes} of ${allowedBytes} by ${maxPairs}`,
          );
        }
        run(
          Math.ceil(
            ((pairs.length * LARGE_READ_BYTES * 2) / Math.min(totalRate, pairRate ?? totalRate)) * 1000,
          ) + 1000,
          [],
        );
        assert.deepEqual([timers(), pairs.filter(({ isPaused }) => isPaused).length], [0, 0]);
        // After an idle time, the accumulated bytes are available.
        if (pairs.length > 0) {
          run(100, []);
          const [pair] = pairs;
          pair?.spend(Math.floor((Math.min(totalRate, pairRate ?? totalRate) / 1000) * 50) - 1);
          assert.equal(pair?.isPaused, false);
        }
        rateLimiter.close();
      },
    ),
    { numRuns: 200 },
  );
});

/** A pair that records whether it is paused. */
class Reader implements Throttleable {
  isPaused = false;
  pauseBoth(): void {
    this.isPaused = true;
  }
  resumeBoth(): void {
    this.isPaused = false;
  }
}

/** One pair reads that many bytes, another one reads nothing. Returns for both whether they are paused. */
function pausedAfter(
  rateLimiter: RateLimiter | null,
  bytes: number,
): { readonly busy: boolean; readonly newcomer: boolean } {
  assert.ok(rateLimiter);
  const busy = new Reader();
  const newcomer = new Reader();
  rateLimiter.join(busy).consume(bytes);
  rateLimiter.join(newcomer);
  const paused = { busy: busy.isPaused, newcomer: newcomer.isPaused };
  rateLimiter.close();
  return paused;
}

describe('a rate limiter from the configuration', () => {
  test('is null if no rate is set', () => {
    assert.equal(
      createRateLimiter(UNLIMITED, () => 0),
      null,
    );
  });

  test('pauses only the pair that exceeds its own rate', () => {
    const rateLimiter = createRateLimiter({ ...UNLIMITED, pairBytesPerSecond: 1e6 }, () => 0);
    assert.deepEqual(pausedAfter(rateLimiter, 1e6), { busy: true, newcomer: false });
  });

  test('pauses all pairs at the total rate', () => {
    const rateLimiter = createRateLimiter({ ...UNLIMITED, totalBytesPerSecond: 1e6 }, () => 0);
    assert.deepEqual(pausedAfter(rateLimiter, 1e6), { busy: true, newcomer: true });
  });

  test('keeps both rates separate', () => {
    const limits = { pairBytesPerSecond: 1e6, totalBytesPerSecond: 1e9 };
    const paused = pausedAfter(
      createRateLimiter(limits, () => 0),
      2e6,
    );
    assert.deepEqual(paused, { busy: true, newcomer: false });
  });

  test('uses the given clock', () => {
    now = 0;
    const rateLimiter = createRateLimiter({ ...UNLIMITED, pairBytesPerSecond: 1e6 }, () => now);
    const reader = new Reader();
    const slot = rateLimiter?.join(reader);
    now = 40;
    slot?.consume(40_000);
    assert.equal(reader.isPaused, false);
    slot?.consume(1);
    assert.equal(reader.isPaused, true);
    rateLimiter?.close();
  });
});
