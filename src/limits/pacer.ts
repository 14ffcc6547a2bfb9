import { FairShare } from './fair-share.ts';
import type { Share } from './fair-share.ts';

/** Milliseconds between two looks at who is held. It bounds how long a pair stands still for a moderate rate. */
const TICK_MS = 10;

/** What a pair did not use of its own rate is kept for this long, in milliseconds: 1 % of 5 s, and several ticks. */
const BURST_MS = 50;

/** A pair that is held earns no more than in this time, in milliseconds. Only a suspended process is so late. */
const LONGEST_STANDSTILL_MS = 250;

/** Large reads, in bytes. A pair is held when it has read too much, so that its debt may be as large as this. */
const LARGE_READ_BYTES = 524_288;

/** A rate is met, and shared fairly between this many pairs, over this many seconds with this error. */
const GOAL = { pairs: 50, seconds: 5, error: 0.05 };

/** What is told when to read. It is never told the same thing twice in a row, and may read when it joins. */
export interface Paced {
  /** Stop reading, from both ends. */
  hold(): void;
  /** Read again. */
  release(): void;
}

/** The place of one pair in the pacer. */
export interface Pace {
  /** A read of so many bytes was forwarded. Bytes that come although it is held are counted too. */
  spend(bytes: number): void;
  /** The pair has ended, and is told nothing more. */
  leave(): void;
}

/** Bytes per second, both directions of a pair together. Null: as fast as can be. */
export interface PaceLimits {
  readonly pairBytesPerSecond: number | null;
  readonly totalBytesPerSecond: number | null;
}

interface Pair extends Share {
  readonly paced: Paced;
  /** What it may read by its own rate; below 0 a debt. */
  ownBytes: number;
  ownEarnedAt: number;
  isHeld: boolean;
  hasLeft: boolean;
}

/**
 * Caps the rate of each pair, and of all pairs together, which have equal shares of it, whether they have one busy
 * direction or two. A pair that has read more than it may stops reading until that is made up for.
 *
 * Both count what has passed exactly, however late a timer is. So a rate is met with an error of one read
 * for each pair that begins or ends its silence, and what is kept of a silence, which is 1 % of 5 s.
 */
export class Pacer {
  readonly #clock: () => number;
  readonly #ownBytesPerMs: number | null;
  readonly #total: FairShare<Pair> | null;
  readonly #pairs = new Set<Pair>();
  /** Held by their own rate. Those held by the total wait in there. */
  readonly #resting = new Set<Pair>();
  #timer: NodeJS.Timeout | null = null;
  #isClosed = false;

  /**
   * True where large reads would spoil these rates, so that all reads should be of 16 KiB: what pairs read too much,
   * a read for each, would be more than half of the error that is allowed. That is so below 210 MB/s for all pairs,
   * and below 4.2 MB/s for each.
   */
  readonly wantsSmallReads: boolean;

  /** @param clock milliseconds of a clock that never jumps */
  constructor({ pairBytesPerSecond, totalBytesPerSecond }: PaceLimits, clock: () => number) {
    const leastForOne = LARGE_READ_BYTES / ((GOAL.seconds * GOAL.error) / 2);
    const isSlow = pairBytesPerSecond !== null && pairBytesPerSecond < leastForOne;
    const areSlow = totalBytesPerSecond !== null && totalBytesPerSecond < GOAL.pairs * leastForOne;
    this.wantsSmallReads = isSlow || areSlow;
    this.#clock = clock;
    this.#ownBytesPerMs = pairBytesPerSecond === null ? null : pairBytesPerSecond / 1000;
    this.#total = totalBytesPerSecond === null ? null : new FairShare(totalBytesPerSecond, clock);
  }

  /** Takes in a pair that reads. Where others wait already it is held before this returns. */
  join(paced: Paced): Pace {
    const pair: Pair = {
      paced,
      creditBytes: 0,
      spentBytes: 0,
      ownBytes: 0,
      ownEarnedAt: this.#clock(),
      isHeld: false,
      hasLeft: this.#isClosed,
    };
    if (!this.#isClosed) {
      this.#pairs.add(pair);
      if (this.#total?.join(pair) === false) this.#hold(pair);
    }
    return { spend: (bytes) => this.#spend(pair, bytes), leave: () => this.#leave(pair) };
  }

  /** Lets all pairs go, as fast as they can, and whoever comes later. */
  close(): void {
    this.#isClosed = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    const pairs = [...this.#pairs];
    for (const pair of pairs) this.#leave(pair);
    for (const { paced, isHeld } of pairs) if (isHeld) paced.release();
  }

  #spend(pair: Pair, bytes: number): void {
    if (pair.hasLeft) return;
    this.#earn(pair, BURST_MS);
    pair.ownBytes -= bytes;
    const hasPaid = this.#total === null || this.#total.spend(pair, bytes);
    if (pair.isHeld) return;
    if (this.#ownBytesPerMs !== null && pair.ownBytes < 0) {
      this.#resting.add(pair);
      this.#hold(pair);
    } else if (!hasPaid) {
      this.#total?.wait(pair);
      this.#hold(pair);
    }
  }

  #leave(pair: Pair): void {
    if (pair.hasLeft) return;
    pair.hasLeft = true;
    this.#pairs.delete(pair);
    this.#resting.delete(pair);
    this.#total?.leave(pair);
  }

  #hold(pair: Pair): void {
    pair.isHeld = true;
    this.#timer ??= setTimeout(() => this.#tick(), TICK_MS);
    pair.paced.hold();
  }

  #tick(): void {
    const mayGo = this.#wake();
    mayGo.push(...(this.#total?.distribute() ?? []));
    const isIdle = this.#resting.size === 0 && (this.#total?.isCalm ?? true);
    this.#timer = isIdle ? null : setTimeout(() => this.#tick(), TICK_MS);
    // Whoever is told to read may do so at once, and even end another pair.
    for (const pair of mayGo) {
      if (pair.hasLeft) continue;
      pair.isHeld = false;
      pair.paced.release();
    }
  }

  /** Looks after those that are held by their own rate. Returns who may go on. */
  #wake(): Pair[] {
    const mayGo: Pair[] = [];
    for (const pair of this.#resting) {
      this.#earn(pair, LONGEST_STANDSTILL_MS);
      if (pair.ownBytes < 0) continue;
      this.#resting.delete(pair);
      if (pair.creditBytes >= 0) mayGo.push(pair);
      else this.#total?.wait(pair);
    }
    return mayGo;
  }

  /** Adds what has come by the pair's own rate: no more than that of `mostMs` milliseconds is kept. */
  #earn(pair: Pair, mostMs: number): void {
    if (this.#ownBytesPerMs === null) return;
    const now = this.#clock();
    const most = Math.max(pair.ownBytes, this.#ownBytesPerMs * mostMs);
    pair.ownBytes = Math.min(most, pair.ownBytes + this.#ownBytesPerMs * (now - pair.ownEarnedAt));
    pair.ownEarnedAt = now;
  }
}
