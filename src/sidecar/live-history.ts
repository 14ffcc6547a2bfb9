import type { HistorySeries, LiveHistory as LiveHistoryReport, RelayState } from './api.ts';

const FINE_STEP_SECONDS = 1;
const FINE_RANGE_SECONDS = 300;

const COARSE_STEP_SECONDS = 10;

/** Longest range of the coarse series, in seconds: a day. */
export const MAX_HISTORY_SECONDS = 86_400;

/** Its range by default, in seconds. */
const DEFAULT_HISTORY_SECONDS = 3600;

const FIELDS = ['bytes_per_second', 'pairs', 'waiting', 'connections', 'refused'] as const;

type Field = (typeof FIELDS)[number];

/** What is kept of a poll. Not a number: unknown. */
type Sample = Readonly<Record<Field, number>>;

/** How a value is combined with that of an earlier poll in the same step; `count` is the number of polls with this one. */
const COMBINE: Readonly<Record<Field, (earlier: number, value: number, count: number) => number>> = {
  bytes_per_second: (mean, value, count) => mean + (value - mean) / count,
  pairs: (most, value) => Math.max(most, value),
  waiting: (most, value) => Math.max(most, value),
  connections: (most, value) => Math.max(most, value),
  refused: (sum, value) => sum + value,
};

/**
 * What the relay did in the last day, from one poll each second: the last 5 minutes in steps of 1 s, the day in
 * steps of 10 s. It takes 350 KiB of memory from the start, and no more.
 *
 * Steps follow the monotonic clock, so setting the clock makes no gap; it moves the labels.
 */
export class LiveHistory {
  readonly #fine = new Ring(FINE_STEP_SECONDS, FINE_RANGE_SECONDS);
  readonly #coarse = new Ring(COARSE_STEP_SECONDS, MAX_HISTORY_SECONDS);
  /** Of the last poll that was answered. */
  #last: { readonly started: string; readonly refused: number } | null = null;

  /** Size of its lists, in bytes. */
  get byteLength(): number {
    return this.#fine.byteLength + this.#coarse.byteLength;
  }

  /**
   * Adds the result of a poll.
   *
   * @param atMs time of the poll in milliseconds of the monotonic clock; never decreases
   */
  add(state: RelayState, atMs: number): void {
    const sample = state.state === 'down' ? null : { ...state, refused: this.#countRefused(state) };
    this.#fine.add(sample, atMs);
    this.#coarse.add(sample, atMs);
  }

  /**
   * @param wallClockMs now, in milliseconds since the epoch
   * @param atMs now, in milliseconds of the monotonic clock
   * @param seconds range of the coarse series
   */
  read(wallClockMs: number, atMs: number, seconds: number = DEFAULT_HISTORY_SECONDS): LiveHistoryReport {
    const now = new Date(wallClockMs);
    const toTime = (stepMs: number): string => new Date(wallClockMs - (atMs - stepMs)).toISOString();
    return {
      now: now.toISOString(),
      series: [this.#fine.read(FINE_RANGE_SECONDS, atMs, toTime), this.#coarse.read(seconds, atMs, toTime)],
    };
  }

  /** Clients rejected since the last answer. NaN: there was no answer before. */
  #countRefused({ started, refused }: Exclude<RelayState, { state: 'down' }>): number {
    const total = Object.values(refused).reduce((sum, count) => sum + count, 0);
    const last = this.#last;
    this.#last = { started, refused: total };
    if (last === null) return Number.NaN;
    // A restarted relay counts from 0.
    return last.started === started ? Math.max(0, total - last.refused) : total;
  }
}

/** The values of the last steps, by step modulo the number of steps. */
class Ring {
  readonly #stepSeconds: 1 | 10;
  readonly #length: number;
  readonly #values: Readonly<Record<Field, Float64Array>>;
  /** Number of the last step, from the start of the monotonic clock; null before the first poll. */
  #step: number | null = null;
  /** Polls with an answer in the last step. */
  #count = 0;

  constructor(stepSeconds: 1 | 10, rangeSeconds: number) {
    this.#stepSeconds = stepSeconds;
    this.#length = rangeSeconds / stepSeconds;
    const values = (): Float64Array => new Float64Array(this.#length).fill(Number.NaN);
    this.#values = {
      bytes_per_second: values(),
      pairs: values(),
      waiting: values(),
      connections: values(),
      refused: values(),
    };
  }

  get byteLength(): number {
    return FIELDS.reduce((sum, field) => sum + this.#values[field].byteLength, 0);
  }

  /** @param sample null: the relay did not answer */
  add(sample: Sample | null, atMs: number): void {
    this.#advanceTo(this.#stepAt(atMs));
    if (sample === null || this.#step === null) return;
    this.#count += 1;
    const slot = this.#slotOf(this.#step);
    for (const field of FIELDS) {
      const values = this.#values[field];
      const earlier = values[slot] ?? Number.NaN;
      values[slot] = Number.isNaN(earlier)
        ? sample[field]
        : COMBINE[field](earlier, sample[field], this.#count);
    }
  }

  read(seconds: number, atMs: number, toTime: (stepMs: number) => string): HistorySeries {
    const last = this.#step ?? this.#stepAt(atMs);
    const count = Math.ceil(seconds / this.#stepSeconds);
    const list = (field: Field): (number | null)[] =>
      Array.from({ length: count }, (_, index) => {
        const value = this.#values[field][this.#slotOf(last - count + 1 + index)] ?? Number.NaN;
        return Number.isNaN(value) ? null : Math.round(value);
      });
    return {
      step_seconds: this.#stepSeconds,
      end: toTime(last * this.#stepSeconds * 1000),
      bytes_per_second: list('bytes_per_second'),
      pairs: list('pairs'),
      waiting: list('waiting'),
      connections: list('connections'),
      refused: list('refused'),
    };
  }

  /** Clears the steps since the last poll. */
  #advanceTo(step: number): void {
    const passed = Math.min(step - (this.#step ?? step - 1), this.#length);
    if (passed === 0) return;
    for (let age = 0; age < passed; age += 1)
      for (const field of FIELDS) this.#values[field][this.#slotOf(step - age)] = Number.NaN;
    this.#step = step;
    this.#count = 0;
  }

  #stepAt(atMs: number): number {
    return Math.floor(atMs / 1000 / this.#stepSeconds);
  }

  /** Steps before the start of the clock are negative. */
  #slotOf(step: number): number {
    return ((step % this.#length) + this.#length) % this.#length;
  }
}
