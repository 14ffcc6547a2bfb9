import type { Mood } from '../protocol/messages.ts';
import type { RecordSink, UsageRecord } from './record.ts';

/** Limit for records of one class: `burst` at once, then `perSecond`. */
interface RecordRate {
  readonly perSecond: number;
  readonly burst: number;
}

/**
 * Connections that never sent a token. Port scans and health checks of several load balancers stay below this
 * rate.
 */
const FAILED: RecordRate = { perSecond: 10, burst: 1000 };

/**
 * Connections that sent a token and were not paired: 1.7 million a day, plus all waiting clients when a relay
 * stops.
 */
const UNPAIRED: RecordRate = { perSecond: 20, burst: 50_000 };

/** Pairs that relayed few bytes: 1.7 million a day, plus a peak of many at once. */
const SMALL_PAIRS: RecordRate = { perSecond: 20, burst: 100_000 };

/** Larger pairs are always recorded: they cost an attacker far more than a row costs the relay. In bytes. */
const LARGE_PAIR_BYTES = 1_000_000;

/** Suppressed records since the start, by mood. */
export type SuppressedRecords = Readonly<Record<Mood, number>>;

/**
 * Passes usage records on to files, up to a rate that legitimate use does not reach. One host can close
 * thousands of connections per second, and each would become a row on disk. The limits allow 50 rows per
 * second in total. Counters and histograms are not limited.
 */
export class RecordLimiter implements RecordSink {
  readonly #sinks: RecordSink[] = [];
  readonly #buckets: Readonly<Record<Mood, TokenBucket>>;
  readonly #suppressed: Record<Mood, number> = {
    happy: 0,
    lonely: 0,
    redundant: 0,
    impatient: 0,
    errory: 0,
    empty: 0,
  };
  readonly #onSuppressed: () => void;

  /**
   * @param clock monotonic clock, in milliseconds
   * @param onSuppressed called for each suppressed record
   */
  constructor(clock: () => number, onSuppressed: () => void) {
    const failed = new TokenBucket(FAILED, clock);
    const unpaired = new TokenBucket(UNPAIRED, clock);
    const small = new TokenBucket(SMALL_PAIRS, clock);
    this.#buckets = {
      happy: small,
      lonely: unpaired,
      redundant: unpaired,
      impatient: unpaired,
      errory: failed,
      empty: failed,
    };
    this.#onSuppressed = onSuppressed;
  }

  addSink(sink: RecordSink): void {
    this.#sinks.push(sink);
  }

  get suppressed(): SuppressedRecords {
    return this.#suppressed;
  }

  record(record: UsageRecord): void {
    if (record.total_bytes < LARGE_PAIR_BYTES && !this.#buckets[record.mood].take()) {
      this.#suppressed[record.mood] += 1;
      this.#onSuppressed();
      return;
    }
    for (const sink of this.#sinks) sink.record(record);
  }
}

class TokenBucket {
  readonly #rate: RecordRate;
  readonly #clock: () => number;
  #tokens: number;
  #refilledAt: number;

  constructor(rate: RecordRate, clock: () => number) {
    this.#rate = rate;
    this.#clock = clock;
    this.#tokens = rate.burst;
    this.#refilledAt = clock();
  }

  /** False if the bucket is empty. */
  take(): boolean {
    const now = this.#clock();
    const { perSecond, burst } = this.#rate;
    this.#tokens = Math.min(burst, this.#tokens + ((now - this.#refilledAt) / 1000) * perSecond);
    this.#refilledAt = now;
    if (this.#tokens < 1) return false;
    this.#tokens -= 1;
    return true;
  }
}
