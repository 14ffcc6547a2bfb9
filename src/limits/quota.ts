import type { RelayConfig } from '../config/relay-config.ts';
import { QuotaFile, loadQuota } from './quota-file.ts';

const DAY_MS = 86_400_000;

/** When a quota is reset, always at 00:00 UTC: each day, or on a day of each month. */
interface QuotaPeriod {
  readonly period: 'month' | 'day';
  /** From 1 to 31, for months. In a shorter month it is the last day. */
  readonly resetDay: number;
}

/** The start of the period that contains `time`. Both are milliseconds since the epoch. */
export function periodStart(time: number, { period, resetDay }: QuotaPeriod): number {
  if (period === 'day') return Math.floor(time / DAY_MS) * DAY_MS;
  const date = new Date(time);
  const [year, month] = [date.getUTCFullYear(), date.getUTCMonth()];
  const inThisMonth = resetTimeIn(year, month, resetDay);
  return inThisMonth <= time ? inThisMonth : resetTimeIn(year, month - 1, resetDay);
}

/** The end of the period that contains `time`, and the start of the next one. */
export function periodEnd(time: number, when: QuotaPeriod): number {
  const start = periodStart(time, when);
  if (when.period === 'day') return start + DAY_MS;
  const date = new Date(start);
  return resetTimeIn(date.getUTCFullYear(), date.getUTCMonth() + 1, when.resetDay);
}

/** @param month from 0; -1 and 12 are months of the previous and the next year */
function resetTimeIn(year: number, month: number, resetDay: number): number {
  // Day 0 is the last day of the previous month.
  const lastDay = new Date(Date.UTC(year, month + 1, 0)).getUTCDate();
  return Date.UTC(year, month, Math.min(resetDay, lastDay));
}

/** Percentages of the limit that cause a warning. */
const WARNING_PERCENTS = [80, 95] as const;

/**
 * A clock that was set back into an earlier period is accepted after this time, in milliseconds. Hosts that
 * boot without the correct time get it within minutes.
 */
const CLOCK_ACCEPTED_AFTER_MS = 2 * DAY_MS;

/** If the clock advances by more than this between two checks, it was set. In milliseconds. */
const CLOCK_JUMP_MS = 60_000;

/** The state that survives a restart. It does not depend on the limit or on `counts`. */
export interface SavedQuota {
  /** The last day that was counted, in UTC, such as `2026-01-31`. Periods start at day boundaries only. */
  readonly day: string;
  readonly period: 'month' | 'day';
  readonly relayedBytes: number;
  /** Start of the time that `relayedBytes` covers, in milliseconds since the epoch. Missing in older files. */
  readonly countsSinceMs?: number;
}

export interface QuotaOptions extends QuotaPeriod {
  readonly limitBytes: number;
  /** Hosting providers count every relayed byte twice: incoming and outgoing. */
  readonly counts: 'relayed' | 'in+out';
}

interface QuotaEvents {
  /** This percentage is used. Not called after a higher one. */
  onWarning(percent: (typeof WARNING_PERCENTS)[number]): void;
  /** The limit is reached. */
  onExhausted(): void;
  /** A new period has started with no usage. */
  onReset(): void;
}

/**
 * The bytes that may be relayed per day or month, and the bytes used.
 *
 * What operators can expect:
 * - A changed limit or `counts` applies to previous usage too.
 * - A changed reset day keeps the usage until that day comes, even usage from before the new period would
 *   have started: it counts too much rather than too little, because traffic costs money.
 * - After a change from days to months, the usage of that day counts. After a change from months to days, the
 *   day starts at zero.
 * - A period ends when the clock is in a later one. Setting the clock back ends no period and resets no
 *   usage. If the clock is set back by whole periods, the current period still ends at its original time. The
 *   new time is accepted after two days.
 */
export class Quota {
  readonly limitBytes: number;
  readonly #options: QuotaOptions;
  readonly #wallClock: () => number;
  readonly #events: QuotaEvents;
  /** The latest time seen, in milliseconds since the epoch. Its period is the current one. */
  #latestMs: number;
  /** The time of the last check, whatever the clock said. */
  #checkedAtMs: number;
  /** How long the clock has been in an earlier period, in milliseconds. */
  #clockBehindMs = 0;
  #relayedBytes = 0;
  /** Start of the time that `#relayedBytes` covers, in milliseconds since the epoch. */
  #countsSinceMs: number;
  #relayedSinceStart = 0;
  /** Number of events of this period: one per warning, and `onExhausted` as the last. */
  #notifiedCount = 0;

  /**
   * @param wallClock milliseconds since the epoch
   * @param saved null: no previous usage
   */
  constructor(options: QuotaOptions, wallClock: () => number, saved: SavedQuota | null, events: QuotaEvents) {
    this.limitBytes = options.limitBytes;
    this.#options = options;
    this.#wallClock = wallClock;
    this.#events = events;
    this.#checkedAtMs = wallClock();
    this.#latestMs = this.#checkedAtMs;
    this.#countsSinceMs = this.#checkedAtMs;
    if (saved === null || (saved.period === 'month' && options.period === 'day')) return;
    const savedMs = Date.parse(saved.day);
    // Without a file of this period, nothing was relayed in it before.
    this.#countsSinceMs = this.#startOf(this.#latestMs);
    if (this.#startOf(savedMs) < this.#startOf(this.#latestMs)) return;
    this.#latestMs = Math.max(savedMs, this.#latestMs);
    this.#relayedBytes = saved.relayedBytes;
    this.#countsSinceMs = saved.countsSinceMs ?? periodStart(savedMs, { ...options, period: saved.period });
  }

  /** Usage of this period, in bytes after `counts`. */
  get usedBytes(): number {
    return this.#options.counts === 'in+out' ? 2 * this.#relayedBytes : this.#relayedBytes;
  }

  get isExhausted(): boolean {
    return this.usedBytes >= this.limitBytes;
  }

  /** Start of this period, in milliseconds since the epoch. */
  get periodStartedAtMs(): number {
    return this.#startOf(this.#latestMs);
  }

  /** Start of the time that `usedBytes` covers: the start of this period, or later if the quota is newer. */
  get countsSinceMs(): number {
    // The clock may have been set back since.
    return Math.max(this.periodStartedAtMs, Math.min(this.#countsSinceMs, this.#latestMs));
  }

  /** Start of the next period, in milliseconds since the epoch. */
  get resetsAtMs(): number {
    return periodEnd(this.#latestMs, this.#options);
  }

  /**
   * Counts the bytes relayed since the last check and calls the events that are due. The first check reports
   * the state after a restart.
   *
   * @param relayedBytesSinceStart payload relayed by this process; never decreases
   */
  check(relayedBytesSinceStart: number): void {
    if (this.#isInNewPeriod()) {
      this.#relayedBytes = 0;
      this.#countsSinceMs = this.periodStartedAtMs;
      this.#notifiedCount = 0;
      this.#events.onReset();
    }
    // Bytes relayed around midnight count for the new period.
    this.#relayedBytes += Math.max(0, relayedBytesSinceStart - this.#relayedSinceStart);
    this.#relayedSinceStart = relayedBytesSinceStart;
    this.#notify();
  }

  /** Identical for the same day and usage, so that it is not written again. */
  toSavedQuota(): SavedQuota {
    const [day = ''] = new Date(this.#latestMs).toISOString().split('T');
    const [relayedBytes, countsSinceMs] = [this.#relayedBytes, this.#countsSinceMs];
    return { day, period: this.#options.period, relayedBytes, countsSinceMs };
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

  /** Calls the highest event that is due and has not been called. */
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

/** Time between two checks, in milliseconds. A crash loses the usage since the last one. */
const CHECK_INTERVAL_MS = 1000;

interface QuotaTrackerDependencies extends QuotaEvents {
  /** Payload relayed since the start of the process, in bytes; never decreases. */
  readonly relayedBytes: () => number;
  /** Milliseconds since the epoch. */
  readonly wallClock: () => number;
  /** The grace period of pairs is over. */
  onGraceEnd(): void;
  /** Saving failed. Not called again until a save has succeeded. */
  onSaveFailed(code: string): void;
  /** A save has succeeded after that. */
  onSaveRecovered(): void;
}

/** Checks a quota every second, and saves it to a file. */
export class QuotaTracker {
  readonly quota: Quota;
  readonly #file: QuotaFile;
  readonly #relayedBytes: () => number;
  readonly #timer: NodeJS.Timeout;
  #grace: NodeJS.Timeout | undefined;

  /** @throws QuotaFileError if the previous usage cannot be read */
  constructor(options: NonNullable<RelayConfig['quota']>, dependencies: QuotaTrackerDependencies) {
    this.#relayedBytes = dependencies.relayedBytes;
    this.quota = new Quota(options, dependencies.wallClock, loadQuota(options.path), {
      onWarning: (percent) => dependencies.onWarning(percent),
      onExhausted: () => {
        dependencies.onExhausted();
        if (options.graceMs !== null)
          this.#grace = setTimeout(() => dependencies.onGraceEnd(), options.graceMs);
      },
      onReset: () => {
        clearTimeout(this.#grace);
        dependencies.onReset();
      },
    });
    this.#file = new QuotaFile(
      options.path,
      (code) => dependencies.onSaveFailed(code),
      () => dependencies.onSaveRecovered(),
    );
    this.#timer = setInterval(() => this.check(), CHECK_INTERVAL_MS);
  }

  /** Counts the bytes relayed since the last check. */
  check(): void {
    this.quota.check(this.#relayedBytes());
    void this.#file.save(this.quota.toSavedQuota());
  }

  /** Counts the last bytes and saves the usage. */
  async close(): Promise<void> {
    clearInterval(this.#timer);
    this.quota.check(this.#relayedBytes());
    // That check may have started a grace period.
    clearTimeout(this.#grace);
    await this.#file.save(this.quota.toSavedQuota());
  }
}
