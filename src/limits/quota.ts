import { QuotaFile, loadQuota } from './quota-file.ts';

const DAY_MS = 86_400_000;

/** When a quota begins anew, always at 00:00 UTC: each day, or on a day of each month. */
export interface QuotaPeriod {
  readonly period: 'month' | 'day';
  /** From 1 to 31, for months; in a shorter month its last day stands for those it has not. */
  readonly resetDay: number;
}

/** When the period began that has `time` in it. Both are milliseconds since the epoch. */
export function periodStart(time: number, { period, resetDay }: QuotaPeriod): number {
  if (period === 'day') return Math.floor(time / DAY_MS) * DAY_MS;
  const date = new Date(time);
  const [year, month] = [date.getUTCFullYear(), date.getUTCMonth()];
  const inThisMonth = resetTimeIn(year, month, resetDay);
  return inThisMonth <= time ? inThisMonth : resetTimeIn(year, month - 1, resetDay);
}

/** When the period ends that has `time` in it, and the next one begins. */
export function periodEnd(time: number, when: QuotaPeriod): number {
  const start = periodStart(time, when);
  if (when.period === 'day') return start + DAY_MS;
  const date = new Date(start);
  return resetTimeIn(date.getUTCFullYear(), date.getUTCMonth() + 1, when.resetDay);
}

/** @param month from 0; may be -1 or 12, which are of the years before and after */
function resetTimeIn(year: number, month: number, resetDay: number): number {
  // Day 0 is the last one of the month before.
  const lastDay = new Date(Date.UTC(year, month + 1, 0)).getUTCDate();
  return Date.UTC(year, month, Math.min(resetDay, lastDay));
}

/** Percent of the limit that are worth a warning. */
const WARNING_PERCENTS = [80, 95] as const;

/**
 * A clock that has fallen back into an earlier period is believed when the relay has run by it for this long, in
 * milliseconds: machines that start without a clock have it set within minutes.
 */
const CLOCK_ACCEPTED_AFTER_MS = 2 * 86_400_000;

/** A clock that moves on by more than this between two looks has been set, in milliseconds. */
const CLOCK_JUMP_MS = 60_000;

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
  onWarning(percent: (typeof WARNING_PERCENTS)[number]): void;
  /** Nothing is left. */
  onExhausted(): void;
  /** A new period has begun, with nothing used. */
  onReset(): void;
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
  #latestMs: number;
  /** When it was looked last, by whatever the clock said. */
  #checkedAtMs: number;
  /** For how long the clock has been in an earlier period. */
  #clockBehindMs = 0;
  #relayedBytes = 0;
  #relayedSinceStart = 0;
  /** Events that were told in this period, in the order of `WARNINGS`, and `spent` last. */
  #notifiedCount = 0;

  /**
   * @param wallClock milliseconds since the epoch
   * @param saved null: nothing was used yet
   */
  constructor(options: QuotaOptions, wallClock: () => number, saved: SavedQuota | null, events: QuotaEvents) {
    this.limitBytes = options.limitBytes;
    this.#options = options;
    this.#wallClock = wallClock;
    this.#events = events;
    this.#checkedAtMs = wallClock();
    this.#latestMs = this.#checkedAtMs;
    if (saved === null || (saved.period === 'month' && options.period === 'day')) return;
    const savedMs = Date.parse(saved.day);
    if (this.#startOf(savedMs) < this.#startOf(this.#latestMs)) return;
    this.#latestMs = Math.max(savedMs, this.#latestMs);
    this.#relayedBytes = saved.relayedBytes;
  }

  /** What this period has used, in bytes as they count. */
  get usedBytes(): number {
    return this.#options.counts === 'in+out' ? 2 * this.#relayedBytes : this.#relayedBytes;
  }

  get isExhausted(): boolean {
    return this.usedBytes >= this.limitBytes;
  }

  /** When the next period begins, in milliseconds since the epoch. */
  get resetsAtMs(): number {
    return periodEnd(this.#latestMs, this.#options);
  }

  /**
   * Counts what was relayed since the last look, and tells what has come of it. The first look tells where things
   * stand after a restart.
   *
   * @param relayedBytesSinceStart payload that the process has relayed so far; it never becomes less
   */
  check(relayedBytesSinceStart: number): void {
    if (this.#isInNewPeriod()) {
      this.#relayedBytes = 0;
      this.#notifiedCount = 0;
      this.#events.onReset();
    }
    // What came around midnight counts for the new period.
    this.#relayedBytes += Math.max(0, relayedBytesSinceStart - this.#relayedSinceStart);
    this.#relayedSinceStart = relayedBytesSinceStart;
    this.#notify();
  }

  /** The same for the same day and use, so that it need not be written again. */
  toSavedQuota(): SavedQuota {
    const [day = ''] = new Date(this.#latestMs).toISOString().split('T');
    return { day, period: this.#options.period, relayedBytes: this.#relayedBytes };
  }

  #isInNewPeriod(): boolean {
    const now = this.#wallClock();
    const passedMs = now - this.#checkedAtMs;
    this.#checkedAtMs = now;
    const [start, knownStart] = [this.#startOf(now), this.#startOf(this.#latestMs)];
    if (start >= knownStart) {
      this.#clockBehindMs = 0;
      this.#latestMs = Math.max(now, this.#latestMs);
      return start > knownStart;
    }
    if (passedMs > 0 && passedMs <= CLOCK_JUMP_MS) this.#clockBehindMs += passedMs;
    if (this.#clockBehindMs >= CLOCK_ACCEPTED_AFTER_MS) {
      this.#clockBehindMs = 0;
      this.#latestMs = now;
    }
    return false;
  }

  /** Tells the highest event that is due and was not told. */
  #notify(): void {
    const percent = (this.usedBytes / this.limitBytes) * 100;
    const due = this.isExhausted
      ? WARNING_PERCENTS.length + 1
      : WARNING_PERCENTS.filter((warning) => percent >= warning).length;
    if (due <= this.#notifiedCount) return;
    this.#notifiedCount = due;
    const warning = WARNING_PERCENTS[due - 1];
    if (warning === undefined) this.#events.onExhausted();
    else this.#events.onWarning(warning);
  }

  #startOf(time: number): number {
    return periodStart(time, this.#options);
  }
}

/** Time between two looks, in milliseconds. A crash forgets what was relayed since the last one. */
const CHECK_INTERVAL_MS = 1000;

export interface QuotaTrackerOptions extends QuotaOptions {
  /** The file that it is kept in. */
  readonly path: string;
  /** Time that pairs have when it is spent, in milliseconds; null: until they end. */
  readonly graceMs: number | null;
}

export interface QuotaTrackerDependencies extends QuotaEvents {
  /** Payload relayed since the start of the process, in bytes; never less than before. */
  readonly relayedBytes: () => number;
  /** Milliseconds since the epoch. */
  readonly wallClock: () => number;
  /** The time that pairs had is over. */
  onGraceEnd(): void;
  /** It can't be saved. Told once, until it can be again. */
  onSaveFailed(code: string): void;
}

/** A quota that is looked at every second, and outlives the process. */
export class QuotaTracker {
  readonly #quota: Quota;
  readonly #file: QuotaFile;
  readonly #relayedBytes: () => number;
  readonly #timer: NodeJS.Timeout;
  #grace: NodeJS.Timeout | undefined;

  /** @throws QuotaFileError where what was used before can't be known */
  constructor(options: QuotaTrackerOptions, watch: QuotaTrackerDependencies) {
    this.#relayedBytes = watch.relayedBytes;
    this.#quota = new Quota(options, watch.wallClock, loadQuota(options.path), {
      onWarning: (percent) => watch.onWarning(percent),
      onExhausted: () => {
        watch.onExhausted();
        if (options.graceMs !== null) this.#grace = setTimeout(() => watch.onGraceEnd(), options.graceMs);
      },
      onReset: () => {
        clearTimeout(this.#grace);
        watch.onReset();
      },
    });
    this.#file = new QuotaFile(options.path, (code) => watch.onSaveFailed(code));
    this.#timer = setInterval(() => this.check(), CHECK_INTERVAL_MS);
  }

  get usedBytes(): number {
    return this.#quota.usedBytes;
  }

  get limitBytes(): number {
    return this.#quota.limitBytes;
  }

  /** When the next period begins, in milliseconds since the epoch. */
  get resetsAtMs(): number {
    return this.#quota.resetsAtMs;
  }

  /** Counts what was relayed since the last look. */
  check(): void {
    this.#quota.check(this.#relayedBytes());
    void this.#file.save(this.#quota.toSavedQuota());
  }

  /** Counts what is left, and saves it. */
  async close(): Promise<void> {
    clearInterval(this.#timer);
    this.#quota.check(this.#relayedBytes());
    // That look may have found it spent.
    clearTimeout(this.#grace);
    await this.#file.save(this.#quota.toSavedQuota());
  }
}
