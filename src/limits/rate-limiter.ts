import type { RelayConfig } from '../config/relay-config.ts';
import { FairShare } from './fair-share.ts';
import type { Share } from './fair-share.ts';

/** Milliseconds between two looks at who is held. It bounds how long a pair stands still for a moderate rate. */
const TICK_MS = 10;

/** What a pair did not use of its own rate is kept for this long, in milliseconds: 1 % of 5 s, and several ticks. */
const BURST_MS = 50;

/** A pair that is held earns no more than in this time, in milliseconds. Only a suspended process is so late. */
const MAX_STALL_MS = 250;

/** Large reads, in bytes. A pair is held when it has read too much, so that its debt may be as large as this. */
const LARGE_READ_BYTES = 524_288;

/** A rate is met, and shared fairly between this many pairs, over this many seconds with this error. */
const ACCURACY_TARGET = { pairs: 50, seconds: 5, error: 0.05 };

/** What is told when to read. It is never told the same thing twice in a row, and may read when it joins. */
export interface Throttleable {
  /** Stop reading, from both ends. */
  pauseBoth(): void;
  /** Read again. */
  resumeBoth(): void;
}

/** The place of one pair in the pacer. */
export interface RateLimitSlot {
  /** A read of so many bytes was forwarded. Bytes that come although it is held are counted too. */
  consume(bytes: number): void;
  /** The pair has ended, and is told nothing more. */
  release(): void;
}

/** Bytes per second, both directions of a pair together. Null: as fast as can be. */
export interface RateLimits {
  readonly pairBytesPerSecond: number | null;
  readonly totalBytesPerSecond: number | null;
}

interface ThrottledPair extends Share {
  readonly target: Throttleable;
  /** What it may read by its own rate; below 0 a debt. */
  ownCreditBytes: number;
  ownRefilledAt: number;
  isPaused: boolean;
  isReleased: boolean;
}

/**
 * Caps the rate of each pair, and of all pairs together, which have equal shares of it, whether they have one busy
 * direction or two. A pair that has read more than it may stops reading until that is made up for.
 *
 * Both count what has passed exactly, however late a timer is. So a rate is met with an error of one read
 * for each pair that begins or ends its silence, and what is kept of a silence, which is 1 % of 5 s.
 */
export class RateLimiter {
  readonly #clock: () => number;
  readonly #pairBytesPerMs: number | null;
  readonly #sharedRate: FairShare<ThrottledPair> | null;
  readonly #pairs = new Set<ThrottledPair>();
  /** Held by their own rate. Those held by the total wait in there. */
  readonly #overPairRate = new Set<ThrottledPair>();
  #timer: NodeJS.Timeout | null = null;
  #isClosed = false;

  /**
   * True where large reads would spoil these rates, so that all reads should be of 16 KiB: what pairs read too much,
   * a read for each, would be more than half of the error that is allowed. That is so below 210 MB/s for all pairs,
   * and below 4.2 MB/s for each.
   */
  readonly wantsSmallReads: boolean;

  /** @param clock milliseconds of a clock that never jumps */
  constructor({ pairBytesPerSecond, totalBytesPerSecond }: RateLimits, clock: () => number) {
    const leastForOne = LARGE_READ_BYTES / ((ACCURACY_TARGET.seconds * ACCURACY_TARGET.error) / 2);
    const isSlow = pairBytesPerSecond !== null && pairBytesPerSecond < leastForOne;
    const areSlow = totalBytesPerSecond !== null && totalBytesPerSecond < ACCURACY_TARGET.pairs * leastForOne;
    this.wantsSmallReads = isSlow || areSlow;
    this.#clock = clock;
    this.#pairBytesPerMs = pairBytesPerSecond === null ? null : pairBytesPerSecond / 1000;
    this.#sharedRate = totalBytesPerSecond === null ? null : new FairShare(totalBytesPerSecond, clock);
  }

  /** Takes in a pair that reads. Where others wait already it is held before this returns. */
  join(paced: Throttleable): RateLimitSlot {
    const pair: ThrottledPair = {
      target: paced,
      creditBytes: 0,
      consumedBytes: 0,
      ownCreditBytes: 0,
      ownRefilledAt: this.#clock(),
      isPaused: false,
      isReleased: this.#isClosed,
    };
    if (!this.#isClosed) {
      this.#pairs.add(pair);
      if (this.#sharedRate?.join(pair) === false) this.#pause(pair);
    }
    return { consume: (bytes) => this.#consume(pair, bytes), release: () => this.#release(pair) };
  }

  /** Lets all pairs go, as fast as they can, and whoever comes later. */
  close(): void {
    this.#isClosed = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    const pairs = [...this.#pairs];
    for (const pair of pairs) this.#release(pair);
    for (const { target: paced, isPaused: isHeld } of pairs) if (isHeld) paced.resumeBoth();
  }

  #consume(pair: ThrottledPair, bytes: number): void {
    if (pair.isReleased) return;
    this.#refill(pair, BURST_MS);
    pair.ownCreditBytes -= bytes;
    const hasPaid = this.#sharedRate === null || this.#sharedRate.consume(pair, bytes);
    if (pair.isPaused) return;
    if (this.#pairBytesPerMs !== null && pair.ownCreditBytes < 0) {
      this.#overPairRate.add(pair);
      this.#pause(pair);
    } else if (!hasPaid) {
      this.#sharedRate?.wait(pair);
      this.#pause(pair);
    }
  }

  #release(pair: ThrottledPair): void {
    if (pair.isReleased) return;
    pair.isReleased = true;
    this.#pairs.delete(pair);
    this.#overPairRate.delete(pair);
    this.#sharedRate?.leave(pair);
  }

  #pause(pair: ThrottledPair): void {
    pair.isPaused = true;
    this.#timer ??= setTimeout(() => this.#tick(), TICK_MS);
    pair.target.pauseBoth();
  }

  #tick(): void {
    const mayGo = this.#resumable();
    mayGo.push(...(this.#sharedRate?.distribute() ?? []));
    const isIdle = this.#overPairRate.size === 0 && (this.#sharedRate?.isUncontended ?? true);
    this.#timer = isIdle ? null : setTimeout(() => this.#tick(), TICK_MS);
    // Whoever is told to read may do so at once, and even end another pair.
    for (const pair of mayGo) {
      if (pair.isReleased) continue;
      pair.isPaused = false;
      pair.target.resumeBoth();
    }
  }

  /** Looks after those that are held by their own rate. Returns who may go on. */
  #resumable(): ThrottledPair[] {
    const mayGo: ThrottledPair[] = [];
    for (const pair of this.#overPairRate) {
      this.#refill(pair, MAX_STALL_MS);
      if (pair.ownCreditBytes < 0) continue;
      this.#overPairRate.delete(pair);
      if (pair.creditBytes >= 0) mayGo.push(pair);
      else this.#sharedRate?.wait(pair);
    }
    return mayGo;
  }

  /** Adds what has come by the pair's own rate: no more than that of `mostMs` milliseconds is kept. */
  #refill(pair: ThrottledPair, mostMs: number): void {
    if (this.#pairBytesPerMs === null) return;
    const now = this.#clock();
    const most = Math.max(pair.ownCreditBytes, this.#pairBytesPerMs * mostMs);
    pair.ownCreditBytes = Math.min(
      most,
      pair.ownCreditBytes + this.#pairBytesPerMs * (now - pair.ownRefilledAt),
    );
    pair.ownRefilledAt = now;
  }
}

/** Null if no rate is limited. `clock`: milliseconds of a monotonic clock. */
export function createRateLimiter(limits: RelayConfig['limits'], clock: () => number): RateLimiter | null {
  const { pairBytesPerSecond, totalBytesPerSecond } = limits;
  if (pairBytesPerSecond === null && totalBytesPerSecond === null) return null;
  return new RateLimiter({ pairBytesPerSecond, totalBytesPerSecond }, clock);
}
