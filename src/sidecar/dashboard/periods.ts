import type { Granularity } from '../api.ts';

export const USAGE_PERIODS = ['day', 'week', 'year'] as const;

/** The periods that the page can show. */
export type UsagePeriod = (typeof USAGE_PERIODS)[number];

/** One bar: an hour, day or month of UTC. */
export interface TimeBucket {
  readonly startMs: number;
  /** For the axis: `14:00`, `Mon 23`, `Nov`. */
  readonly label: string;
  /** In the tooltip: `22 Nov, 14:00–15:00`, `Monday, 23 November`, `November 2026, so far`. */
  readonly title: string;
}

/** The range of a report, and its bars. */
export interface UsagePeriodRange {
  readonly period: UsagePeriod;
  readonly by: Granularity;
  readonly fromMs: number;
  /** The end of the last bar, which is in the future. */
  readonly toMs: number;
  readonly buckets: readonly TimeBucket[];
}

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

const PERIOD_BUCKETS: Readonly<Record<UsagePeriod, { readonly by: Granularity; readonly count: number }>> = {
  day: { by: 'hour', count: 24 },
  week: { by: 'day', count: 7 },
  year: { by: 'month', count: 12 },
};

/** The last 24 hours, 7 days or 12 months in UTC, including the current one. */
export function toPeriodRange(view: UsagePeriod, nowMs: number): UsagePeriodRange {
  const { by, count } = PERIOD_BUCKETS[view];
  const startsMs = Array.from({ length: count + 1 }, (_, index) => bucketStart(by, nowMs, index - count + 1));
  const toMs = startsMs.pop() ?? nowMs;
  return {
    period: view,
    by,
    fromMs: startsMs[0] ?? nowMs,
    toMs,
    buckets: startsMs.map((startMs, bar) => ({
      startMs,
      label: bucketLabel(by, startMs),
      title: bucketTitle(by, startMs) + (bar === count - 1 ? ', so far' : ''),
    })),
  };
}

/** The start of the hour, day or month `steps` after the one of `timeMs`. */
function bucketStart(by: Granularity, timeMs: number, steps: number): number {
  if (by === 'hour') return (Math.floor(timeMs / HOUR_MS) + steps) * HOUR_MS;
  if (by === 'day') return (Math.floor(timeMs / DAY_MS) + steps) * DAY_MS;
  const time = new Date(timeMs);
  return Date.UTC(time.getUTCFullYear(), time.getUTCMonth() + steps);
}

function format(timeMs: number, options: Intl.DateTimeFormatOptions, locale = 'en-GB'): string {
  return new Intl.DateTimeFormat(locale, { timeZone: 'UTC', ...options }).format(timeMs);
}

function bucketLabel(by: Granularity, startMs: number): string {
  if (by === 'hour') return format(startMs, { hour: '2-digit', minute: '2-digit' });
  if (by === 'day') return format(startMs, { weekday: 'short', day: 'numeric' });
  return format(startMs, { month: 'short' }, 'en-US');
}

function bucketTitle(by: Granularity, startMs: number): string {
  if (by === 'hour') {
    const day = format(startMs, { day: 'numeric', month: 'short' });
    return `${day}, ${bucketLabel(by, startMs)}–${bucketLabel(by, startMs + HOUR_MS)}`;
  }
  if (by === 'day') return format(startMs, { weekday: 'long', day: 'numeric', month: 'long' });
  return format(startMs, { month: 'long', year: 'numeric' });
}
