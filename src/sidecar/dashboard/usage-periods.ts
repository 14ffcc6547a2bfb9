import type { Granularity } from '../api.ts';

export const USAGE_PERIODS = ['day', 'week', 'month', 'billing', 'year'] as const;

/** The periods that the page can show: 24 hours, 7 days, 30 days, the quota's period, 12 months. */
export type UsagePeriod = (typeof USAGE_PERIODS)[number];

/** The quota's current period, which ends in the future. Milliseconds since the epoch. */
export interface BillingPeriod {
  readonly startMs: number;
  readonly endMs: number;
}

/** One bar: an hour, day or month of UTC. */
export interface TimeBucket {
  readonly startMs: number;
  readonly endMs: number;
  /** For the axis: `14:00`, `Mon 23`, `Nov`. */
  readonly label: string;
  /** Second line of the axis, shown where it changes: `23 Nov`, `Nov`, `2026`. */
  readonly group: string;
  /** Labels that are n bars apart are at the bars whose ordinal is a multiple of n. */
  readonly ordinal: number;
  /** In the tooltip: `22 Nov, 14:00–15:00`, `Monday 23 November`, `November 2026, so far`. */
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

const ROLLING: Readonly<
  Record<Exclude<UsagePeriod, 'billing'>, { readonly by: Granularity; readonly count: number }>
> = {
  day: { by: 'hour', count: 24 },
  week: { by: 'day', count: 7 },
  month: { by: 'day', count: 30 },
  year: { by: 'month', count: 12 },
};

/**
 * The last 24 hours, 7 days, 30 days or 12 months in UTC including the current one, or the whole billing
 * period. Null for the billing period of a relay without a quota.
 */
export function toPeriodRange(
  period: UsagePeriod,
  nowMs: number,
  billing: BillingPeriod | null = null,
): UsagePeriodRange | null {
  if (period === 'billing') return billing === null ? null : toBillingRange(billing, nowMs);
  const { by, count } = ROLLING[period];
  const startsMs = Array.from({ length: count + 1 }, (_, index) => bucketStart(by, nowMs, index - count + 1));
  return toRange(period, by, startsMs, nowMs);
}

/** A quota counts for a day or about a month. Both begin at 00:00 UTC. */
function toBillingRange({ startMs, endMs }: BillingPeriod, nowMs: number): UsagePeriodRange {
  const by = endMs - startMs <= DAY_MS ? 'hour' : 'day';
  const stepMs = by === 'hour' ? HOUR_MS : DAY_MS;
  const count = Math.ceil((endMs - startMs) / stepMs);
  const startsMs = Array.from({ length: count + 1 }, (_, index) => startMs + index * stepMs);
  return toRange('billing', by, startsMs, nowMs);
}

/** @param edgesMs the starts of all bars, and the end of the last one */
function toRange(
  period: UsagePeriod,
  by: Granularity,
  edgesMs: readonly number[],
  nowMs: number,
): UsagePeriodRange {
  const buckets = edgesMs.slice(0, -1).map((startMs, bar): TimeBucket => {
    const endMs = edgesMs[bar + 1] ?? startMs;
    const isCurrent = startMs <= nowMs && nowMs < endMs;
    return {
      startMs,
      endMs,
      label: bucketLabel(by, startMs),
      group: bucketGroup(by, startMs),
      // The newest day has a label.
      ordinal: by === 'day' ? bar - (edgesMs.length - 2) : bucketOrdinal(by, startMs),
      title: bucketTitle(by, startMs) + (isCurrent ? ', so far' : ''),
    };
  });
  return { period, by, fromMs: edgesMs[0] ?? nowMs, toMs: edgesMs.at(-1) ?? nowMs, buckets };
}

/** The start of the hour, day or month `steps` after the one of `timeMs`. */
function bucketStart(by: Granularity, timeMs: number, steps: number): number {
  if (by === 'hour') return (Math.floor(timeMs / HOUR_MS) + steps) * HOUR_MS;
  if (by === 'day') return (Math.floor(timeMs / DAY_MS) + steps) * DAY_MS;
  const time = new Date(timeMs);
  return Date.UTC(time.getUTCFullYear(), time.getUTCMonth() + steps);
}

/** The hour of the day, so that midnight has a label; or the month of the year, so that January has one. */
function bucketOrdinal(by: 'hour' | 'month', startMs: number): number {
  const time = new Date(startMs);
  return by === 'hour' ? time.getUTCHours() : time.getUTCMonth();
}

function format(timeMs: number, options: Intl.DateTimeFormatOptions, locale = 'en-GB'): string {
  return new Intl.DateTimeFormat(locale, { timeZone: 'UTC', ...options }).format(timeMs);
}

function bucketLabel(by: Granularity, startMs: number): string {
  if (by === 'hour') return format(startMs, { hour: '2-digit', minute: '2-digit' });
  if (by === 'day') return format(startMs, { weekday: 'short', day: 'numeric' });
  return shortMonth(startMs);
}

function bucketGroup(by: Granularity, startMs: number): string {
  if (by === 'hour') return formatDate(startMs);
  return by === 'day' ? shortMonth(startMs) : format(startMs, { year: 'numeric' });
}

/** `23 Nov`. */
export function formatDate(timeMs: number): string {
  return `${format(timeMs, { day: 'numeric' })} ${shortMonth(timeMs)}`;
}

/** Always three letters: British English has `Sept`. */
function shortMonth(timeMs: number): string {
  return format(timeMs, { month: 'short' }, 'en-US');
}

function bucketTitle(by: Granularity, startMs: number): string {
  if (by === 'hour')
    return `${bucketGroup(by, startMs)}, ${bucketLabel(by, startMs)}–${bucketLabel(by, startMs + HOUR_MS)}`;
  if (by === 'day') return format(startMs, { weekday: 'long', day: 'numeric', month: 'long' });
  return format(startMs, { month: 'long', year: 'numeric' });
}
