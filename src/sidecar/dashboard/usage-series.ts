import type { Granularity, UsageRow, WaitingBucket } from '../api.ts';
import { formatDuration, formatShare } from './format.ts';

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
export function toPeriodRange(period: UsagePeriod, nowMs: number): UsagePeriodRange {
  const { by, count } = PERIOD_BUCKETS[period];
  const startsMs = Array.from({ length: count + 1 }, (_, index) => bucketStart(by, nowMs, index - count + 1));
  const toMs = startsMs.pop() ?? nowMs;
  return {
    period,
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

/** In stacking order, from bottom to top. */
const MOODS = (
  [
    { name: 'happy', meaning: 'Two clients were connected' },
    { name: 'lonely', meaning: 'Left before a partner came' },
    { name: 'redundant', meaning: 'Not needed: its partner used another connection' },
    { name: 'impatient', meaning: 'Sent data before it had a partner' },
    { name: 'errory', meaning: 'Did not speak the relay’s protocol' },
    { name: 'empty', meaning: 'Sent nothing, like port scans' },
    { name: 'other', meaning: 'Unknown moods' },
  ] as const
).map(({ name, meaning }) => ({
  name,
  meaning,
  /** CSS custom property that holds its colour. */
  colour: `--mood-${name}`,
}));

/** The values of one mood, one per bar. */
export interface MoodSeries {
  readonly mood: (typeof MOODS)[number];
  readonly records: readonly number[];
  readonly bytes: readonly number[];
  readonly totalRecords: number;
  readonly totalBytes: number;
}

/** A report without gaps: all moods, each with all bars of the range. */
export interface UsageSeries {
  readonly moods: readonly MoodSeries[];
  /** Sum of all moods, one number per bar. */
  readonly bytes: readonly number[];
  readonly totalRecords: number;
  readonly totalBytes: number;
  /** Records of connected pairs. */
  readonly transfers: number;
}

/** Fills the gaps of a report, and drops rows outside the range. */
export function toSeries(range: UsagePeriodRange, rows: readonly UsageRow[]): UsageSeries {
  const known = new Set<string>(MOODS.map(({ name }) => name));
  const moods = MOODS.map((mood): MoodSeries => {
    const own = rows.filter((row) => (known.has(row.mood) ? row.mood : 'other') === mood.name);
    const records = fill(range, own, (row) => row.records);
    const bytes = fill(range, own, (row) => row.total_bytes);
    return { mood, records, bytes, totalRecords: sum(records), totalBytes: sum(bytes) };
  });
  const bytes = range.buckets.map((_, bar) => sum(moods.map((series) => series.bytes[bar] ?? 0)));
  return {
    moods,
    bytes,
    totalRecords: sum(moods.map((series) => series.totalRecords)),
    totalBytes: sum(bytes),
    transfers: moods.find((series) => series.mood.name === 'happy')?.totalRecords ?? 0,
  };
}

/** The moods with records, and always `happy`. */
export function visibleMoods(series: UsageSeries): readonly MoodSeries[] {
  return series.moods.filter((one) => one.totalRecords > 0 || one.mood.name === 'happy');
}

export function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

function fill(
  range: UsagePeriodRange,
  rows: readonly UsageRow[],
  value: (row: UsageRow) => number,
): number[] {
  const bars = range.buckets.map(() => 0);
  for (const row of rows) {
    const startMs = Date.parse(row.start);
    if (!(startMs >= range.fromMs && startMs < range.toMs)) continue;
    const bar = range.buckets.findLastIndex((bucket) => bucket.startMs <= startMs);
    bars[bar] = (bars[bar] ?? 0) + value(row);
  }
  return bars;
}

/** One bar of the distribution of waiting times. */
export interface WaitingBar {
  /** `up to 1 s`, `5 s to 30 s`, `over 1 h`. */
  readonly label: string;
  readonly records: number;
  /** Share of all transfers, 0 to 1. */
  readonly share: number;
}

export function toWaitingBars(buckets: readonly WaitingBucket[]): WaitingBar[] {
  const total = sum(buckets.map(({ records }) => records));
  return buckets.map(({ at_most_seconds: most, records }, index) => {
    const least = buckets[index - 1]?.at_most_seconds ?? null;
    return { label: waitingLabel(least, most), records, share: total === 0 ? 0 : records / total };
  });
}

function waitingLabel(leastSeconds: number | null, mostSeconds: number | null): string {
  if (mostSeconds === null) return `over ${formatDuration(leastSeconds ?? 0)}`;
  if (leastSeconds === null) return `up to ${formatDuration(mostSeconds)}`;
  return `${formatDuration(leastSeconds)} to ${formatDuration(mostSeconds)}`;
}

/**
 * The distribution in a sentence: the shortest upper bound for at least half of the transfers, and their
 * share.
 */
export function waitingSummary(buckets: readonly WaitingBucket[]): string {
  const total = sum(buckets.map(({ records }) => records));
  if (total === 0) return 'There were no transfers in this period.';
  let count = 0;
  let longest = 0;
  for (const { at_most_seconds: most, records } of buckets) {
    // The last bucket.
    if (most === null) break;
    count += records;
    longest = most;
    if (count * 2 >= total)
      return `${formatShare(count, total)} waited at most ${formatDuration(most)} for their partner.`;
  }
  return `${formatShare(total - count, total)} waited longer than ${formatDuration(longest)} for their partner.`;
}
