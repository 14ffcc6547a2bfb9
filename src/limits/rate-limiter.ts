import type { RelayConfig } from '../config/relay-config.ts';
import { FairShare } from './fair-share.ts';
import type { Share } from './fair-share.ts';

/**
 * Time between two checks of paused pairs, in milliseconds. It bounds how long a pair pauses at a moderate
 * rate.
 */
const TICK_MS = 10;

/** Unused rate of a pair is kept for this long, in milliseconds: 1 % of 5 s, and several ticks. */
const BURST_MS = 50;

/**
 * A paused pair gets at most the bytes of this time, in milliseconds. Only a suspended process is that late.
 */
const MAX_STALL_MS = 250;

/** A large read, in bytes. A pair is paused after it has read too much, so its debt may be this large. */
const LARGE_READ_BYTES = 524_288;

/** Rates are met, and shared fairly between this many pairs, within this error over this many seconds. */
const ACCURACY_TARGET = { pairs: 50, seconds: 5, error: 0.05 };

/** Is paused and resumed by the rate limiter, never twice in a row. It may read when it joins. */
export interface Throttleable {
  /** Stop reading, from both ends. */
  pauseBoth(): void;
  /** Read again. */
  resumeBoth(): void;
}

/** The slot of one pair in the rate limiter. */
export interface RateLimitSlot {
  /** Counts forwarded bytes, also those that come while the pair is paused. */
  consume(bytes: number): void;
  /** The pair has ended. It is not paused or resumed any more. */
  release(): void;
}

/** Both directions of a pair together. Null: no limit. */
export type RateLimits = Pick<RelayConfig['limits'], 'pairBytesPerSecond' | 'totalBytesPerSecond'>;

interface ThrottledPair extends Share {
  readonly target: Throttleable;
  /** Bytes that it may read by its own rate; a debt below 0. */
  ownCreditBytes: number;
  ownRefilledAt: number;
  isPaused: boolean;
  isReleased: boolean;
}

/**
 * Limits the rate of each pair and the total rate of all pairs. Pairs have equal shares of the total, with
 * one busy direction or two. A pair that has read too much stops reading until its debt is paid.
 *
 * Both limits count exactly, however late a timer is. The error of a rate is one read per pair that becomes
 * active or idle, plus the unused rate that is kept, which is 1 % of 5 s.
 */
export class RateLimiter {
  readonly #clock: () => number;
  readonly #pairBytesPerMs: number | null;
  readonly #sharedRate: FairShare<ThrottledPair> | null;
  readonly #pairs = new Set<ThrottledPair>();
  /** Pairs paused by their own rate. Pairs paused by the total rate wait in `#sharedRate`. */
  readonly #overPairRate = new Set<ThrottledPair>();
  #timer: NodeJS.Timeout | null = null;
  #isClosed = false;

  /**
   * True if large reads would make these rates inaccurate, so that all reads should be of 16 KiB: the excess,
   * one read per pair, would be more than half of the allowed error. That is so below 210 MB/s for all pairs,
   * and below 4.2 MB/s for each.
   */
  readonly wantsSmallReads: boolean;

  /** @param clock milliseconds of a monotonic clock */
  constructor({ pairBytesPerSecond, totalBytesPerSecond }: RateLimits, clock: () => number) {
    const leastForOne = LARGE_READ_BYTES / ((ACCURACY_TARGET.seconds * ACCURACY_TARGET.error) / 2);
    const isSlow = pairBytesPerSecond !== null && pairBytesPerSecond < leastForOne;
    const areSlow = totalBytesPerSecond !== null && totalBytesPerSecond < ACCURACY_TARGET.pairs * leastForOne;
    this.wantsSmallReads = isSlow || areSlow;
    this.#clock = clock;
    this.#pairBytesPerMs = pairBytesPerSecond === null ? null : pairBytesPerSecond / 1000;
    this.#sharedRate = totalBytesPerSecond === null ? null : new FairShare(totalBytesPerSecond, clock);
  }

  /** Adds a pair that is reading. If others are waiting, it is paused before this returns. */
  join(target: Throttleable): RateLimitSlot {
    const pair: ThrottledPair = {
      target,
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

  /** Resumes all pairs. Neither they nor later ones are limited any more. */
  close(): void {
    this.#isClosed = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    const pairs = [...this.#pairs];
    for (const pair of pairs) this.#release(pair);
    for (const { target, isPaused } of pairs) if (isPaused) target.resumeBoth();
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
    // A resumed pair may read at once, and may even end another pair.
    for (const pair of mayGo) {
      if (pair.isReleased) continue;
      pair.isPaused = false;
      pair.target.resumeBoth();
    }
  }

  /** Checks the pairs that are paused by their own rate. Returns those that may resume. */
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

  /** Adds the bytes of the pair's own rate; at most those of `mostMs` milliseconds are kept. */
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
export function createRateLimiter(limits: RateLimits, clock: () => number): RateLimiter | null {
  const { pairBytesPerSecond, totalBytesPerSecond } = limits;
  const isUnlimited = pairBytesPerSecond === null && totalBytesPerSecond === null;
  return isUnlimited ? null : new RateLimiter(limits, clock);
}
