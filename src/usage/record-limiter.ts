import type { Mood } from '../protocol/messages.ts';
import type { RecordSink, UsageRecord } from './record.ts';

/** Records of one class that are written: `burst` at once, and then `perSecond`. */
interface RecordRate {
  readonly perSecond: number;
  readonly burst: number;
}

/** Connections that never named a token. Port scans and health checks of several load balancers stay below. */
const FAILED: RecordRate = { perSecond: 10, burst: 1000 };

/** Connections that named a token and were not paired: 1.7 million a day, and all that wait when a relay stops. */
const UNPAIRED: RecordRate = { perSecond: 20, burst: 50_000 };

/** Pairs that moved few bytes: 1.7 million a day, and a crowd that comes at once. */
const SMALL_PAIRS: RecordRate = { perSecond: 20, burst: 100_000 };

/** A pair that moved this much is always recorded: it costs an attacker far more than its row costs the disk. In bytes. */
const LARGE_PAIR_BYTES = 1_000_000;

/** Suppressed records since the start, by mood. */
export type SuppressedRecords = Readonly<Record<Mood, number>>;

/**
 * Passes usage records on to files, at a rate that no honest use reaches. One host can end thousands of connections a second, and
 * each would be a row on disk. The rates bound the rows to 50 a second; counters and histograms do not come through here.
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
   * @param clock milliseconds of a monotonic clock
   * @param onSuppressed called for each record that is suppressed
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

  /** False when the bucket is empty. */
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
