import type { LiveHistory } from '../api.ts';

/** Time range of the live chart, in seconds. */
export const HISTORY_S = 3600;

/** Length of an interval of the chart, in seconds: about a pixel and a half. */
const INTERVAL_S = 10;

/** The mean rate of one interval. */
interface Interval {
  /** Start, in seconds since the epoch; a multiple of `INTERVAL_S`. */
  readonly start: number;
  /** Sum of the known rates, in bytes per second. */
  sum: number;
  count: number;
}

/** Rates of the last hour, as means of ten seconds. Times are seconds since the epoch. */
export class RateHistory {
  #intervals: Interval[] = [];
  #latest = Number.NEGATIVE_INFINITY;
  #latestKnown: number | null = null;

  /** Replaces all rates by those of the sidecar, which has them of the time before the page was opened. */
  load({ series }: LiveHistory): void {
    this.#intervals = [];
    this.#latest = Number.NEGATIVE_INFINITY;
    this.#latestKnown = null;
    // Coarse values first. Finer ones only continue them, because both are means of the same samples.
    for (const { step_seconds: step, end, bytes_per_second: rates } of series.toSorted(byStep)) {
      const endSeconds = Date.parse(end) / 1000;
      for (const [index, rate] of rates.entries())
        this.add(endSeconds - (rates.length - 1 - index) * step, rate);
    }
  }

  /**
   * Adds a rate. Skipped intervals have none; times that are not after the latest one are ignored.
   *
   * @param rate bytes per second; null if unknown
   */
  add(timeSeconds: number, rate: number | null): void {
    if (timeSeconds <= this.#latest) return;
    this.#latest = timeSeconds;
    const start = Math.floor(timeSeconds / INTERVAL_S) * INTERVAL_S;
    let last = this.#intervals.at(-1);
    if (last?.start !== start) {
      // A missing interval is a gap. One is enough, however many are missing.
      if (last !== undefined && start - last.start > INTERVAL_S) this.#push(last.start + INTERVAL_S);
      last = this.#push(start);
    }
    if (rate !== null) {
      last.sum += rate;
      last.count += 1;
      this.#latestKnown = timeSeconds;
    }
    while ((this.#intervals[0]?.start ?? start) < start - HISTORY_S) this.#intervals.shift();
  }

  /** The latest time added; negative infinity without any. */
  get latest(): number {
    return this.#latest;
  }

  /** The latest time with a known rate; null without any. */
  get latestKnown(): number | null {
    return this.#latestKnown;
  }

  get times(): number[] {
    return this.#intervals.map(({ start }) => start);
  }

  /** One per time, in bytes per second; null where none is known. */
  get rates(): (number | null)[] {
    return this.#intervals.map(({ sum, count }) => (count === 0 ? null : sum / count));
  }

  /** The interval with the highest rate; null if none is above 0. */
  get peak(): { readonly timeSeconds: number; readonly rate: number } | null {
    let peak = null;
    for (const { start, sum, count } of this.#intervals)
      if (sum > 0 && sum / count > (peak?.rate ?? 0)) peak = { timeSeconds: start, rate: sum / count };
    return peak;
  }

  #push(start: number): Interval {
    const interval = { start, sum: 0, count: 0 };
    this.#intervals.push(interval);
    return interval;
  }
}

function byStep(one: { readonly step_seconds: number }, other: { readonly step_seconds: number }): number {
  return other.step_seconds - one.step_seconds;
}
