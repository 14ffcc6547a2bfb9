import { periodEnd, periodStart } from './quota-period.ts';
import type { QuotaPeriod } from './quota-period.ts';

/** Percent of the limit that are worth a warning. */
const WARNINGS = [80, 95] as const;

/**
 * A clock that has fallen back into an earlier period is believed when the relay has run by it for this long, in
 * milliseconds: machines that start without a clock have it set within minutes.
 */
const BELIEVED_AFTER_MS = 2 * 86_400_000;

/** A clock that moves on by more than this between two looks has been set, in milliseconds. */
const JUMP_MS = 60_000;

/** What outlives a restart. All of it is independent of what the limit is, and of what counts. */
export interface SavedQuota {
  /** The last day that belongs to what was counted, in UTC, like `2026-01-31`. No period begins within a day. */
  readonly day: string;
  readonly period: 'month' | 'day';
  readonly relayedBytes: number;
}

export interface QuotaOptions extends QuotaPeriod {
  readonly limitBytes: number;
  /** A hoster sees every byte that is relayed twice: it comes in, and it goes out. */
  readonly counts: 'relayed' | 'in+out';
}

export interface QuotaEvents {
  /** So much is used. Not told after a higher one. */
  warn(percent: (typeof WARNINGS)[number]): void;
  /** Nothing is left. */
  spent(): void;
  /** A new period has begun, with nothing used. */
  reset(): void;
}

/**
 * How much may be relayed in a day or month, and how much was.
 *
 * What an operator may expect:
 * - Another limit, or `counts`, holds for what was used already too.
 * - Another reset day keeps what is counted until that day comes, even what was used before the new period would have
 *   begun: too much is counted rather than too little, as somebody pays for it.
 * - From days to months, what was used that day counts; from months to days, the day begins with nothing.
 * - A period ends when the clock is in a later one. A clock that is put back ends nothing and forgets nothing. Is it put
 *   back by whole periods, they end as planned before; only when the relay has run by it for two days, it is believed.
 */
export class Quota {
  readonly limitBytes: number;
  readonly #options: QuotaOptions;
  readonly #wallClock: () => number;
  readonly #events: QuotaEvents;
  /** The latest time that is known of, in milliseconds since the epoch. Its period is the one that counts. */
  #knownMs: number;
  /** When it was looked last, by whatever the clock said. */
  #lookedAtMs: number;
  /** For how long the clock has been in an earlier period. */
  #fallenBackMs = 0;
  #relayedBytes = 0;
  #relayedSinceStart = 0;
  /** Events that were told in this period, in the order of `WARNINGS`, and `spent` last. */
  #told = 0;

  /**
   * @param wallClock milliseconds since the epoch
   * @param saved null: nothing was used yet
   */
  constructor(options: QuotaOptions, wallClock: () => number, saved: SavedQuota | null, events: QuotaEvents) {
    this.limitBytes = options.limitBytes;
    this.#options = options;
    this.#wallClock = wallClock;
    this.#events = events;
    this.#lookedAtMs = wallClock();
    this.#knownMs = this.#lookedAtMs;
    if (saved === null || (saved.period === 'month' && options.period === 'day')) return;
    const savedMs = Date.parse(saved.day);
    if (this.#startOf(savedMs) < this.#startOf(this.#knownMs)) return;
    this.#knownMs = Math.max(savedMs, this.#knownMs);
    this.#relayedBytes = saved.relayedBytes;
  }

  /** What this period has used, in bytes as they count. */
  get usedBytes(): number {
    return this.#options.counts === 'in+out' ? 2 * this.#relayedBytes : this.#relayedBytes;
  }

  get isSpent(): boolean {
    return this.usedBytes >= this.limitBytes;
  }

  /** When the next period begins, in milliseconds since the epoch. */
  get resetsAtMs(): number {
    return periodEnd(this.#knownMs, this.#options);
  }

  /**
   * Counts what was relayed since the last look, and tells what has come of it. The first look tells where things
   * stand after a restart.
   *
   * @param relayedBytesSinceStart payload that the process has relayed so far; it never becomes less
   */
  look(relayedBytesSinceStart: number): void {
    if (this.#isInNewPeriod()) {
      this.#relayedBytes = 0;
      this.#told = 0;
      this.#events.reset();
    }
    // What came around midnight counts for the new period.
    this.#relayedBytes += Math.max(0, relayedBytesSinceStart - this.#relayedSinceStart);
    this.#relayedSinceStart = relayedBytesSinceStart;
    this.#tell();
  }

  /** The same for the same day and use, so that it need not be written again. */
  toSave(): SavedQuota {
    const [day = ''] = new Date(this.#knownMs).toISOString().split('T');
    return { day, period: this.#options.period, relayedBytes: this.#relayedBytes };
  }

  #isInNewPeriod(): boolean {
    const now = this.#wallClock();
    const passedMs = now - this.#lookedAtMs;
    this.#lookedAtMs = now;
    const [start, knownStart] = [this.#startOf(now), this.#startOf(this.#knownMs)];
    if (start >= knownStart) {
      this.#fallenBackMs = 0;
      this.#knownMs = Math.max(now, this.#knownMs);
      return start > knownStart;
    }
    if (passedMs > 0 && passedMs <= JUMP_MS) this.#fallenBackMs += passedMs;
    if (this.#fallenBackMs >= BELIEVED_AFTER_MS) {
      this.#fallenBackMs = 0;
      this.#knownMs = now;
    }
    return false;
  }

  /** Tells the highest event that is due and was not told. */
  #tell(): void {
    const percent = (this.usedBytes / this.limitBytes) * 100;
    const due = this.isSpent ? WARNINGS.length + 1 : WARNINGS.filter((warning) => percent >= warning).length;
    if (due <= this.#told) return;
    this.#told = due;
    const warning = WARNINGS[due - 1];
    if (warning === undefined) this.#events.spent();
    else this.#events.warn(warning);
  }

  #startOf(time: number): number {
    return periodStart(time, this.#options);
  }
}
