import type { UsageRow, WaitingBucket } from '../api.ts';
import { formatDuration, formatShare } from './format.ts';
import type { UsagePeriodRange } from './periods.ts';

/** A mood as shown on the page. */
export interface MoodInfo {
  readonly name: MoodName;
  readonly meaning: string;
  /** CSS custom property that holds its colour. */
  readonly colour: string;
}

export type MoodName = (typeof MOOD_NAMES)[number];

/** Replaces unknown moods from the database. */
const OTHER_MOOD = 'other';

const MOOD_NAMES = ['happy', 'lonely', 'redundant', 'impatient', 'errory', 'empty', OTHER_MOOD] as const;

const MOOD_MEANINGS: Readonly<Record<MoodName, string>> = {
  happy: 'Two clients were connected',
  lonely: 'Left before a partner came',
  redundant: 'Not needed: its partner used another connection',
  impatient: 'Sent data before it had a partner',
  errory: 'Did not speak the relay’s protocol',
  empty: 'Sent nothing, like port scans',
  other: 'Unknown moods',
};

/** In stacking order, from bottom to top. */
export const MOODS: readonly MoodInfo[] = MOOD_NAMES.map((name) => ({
  name,
  meaning: MOOD_MEANINGS[name],
  colour: `--mood-${name}`,
}));

export function toMoodName(mood: string): MoodName {
  return MOOD_NAMES.find((name) => name === mood) ?? OTHER_MOOD;
}

/** The values of one mood, one per bar. */
export interface MoodSeries {
  readonly mood: MoodInfo;
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
  const moods = MOODS.map((mood): MoodSeries => {
    const own = rows.filter((row) => toMoodName(row.mood) === mood.name);
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

export function toWaitingBars(steps: readonly WaitingBucket[]): WaitingBar[] {
  const total = sum(steps.map((step) => step.records));
  return steps.map(({ at_most_seconds: most, records }, index) => {
    const least = steps[index - 1]?.at_most_seconds ?? null;
    return { label: waitingLabel(least, most), records, share: total === 0 ? 0 : records / total };
  });
}

function waitingLabel(leastSeconds: number | null, mostSeconds: number | null): string {
  if (mostSeconds === null) return leastSeconds === null ? 'any' : `over ${formatDuration(leastSeconds)}`;
  if (leastSeconds === null) return `up to ${formatDuration(mostSeconds)}`;
  return `${formatDuration(leastSeconds)} to ${formatDuration(mostSeconds)}`;
}

/**
 * The distribution in a sentence: the shortest upper bound for at least half of the transfers, and their
 * share.
 */
export function waitingSummary(steps: readonly WaitingBucket[]): string {
  const total = sum(steps.map((step) => step.records));
  if (total === 0) return 'There were no transfers in this period.';
  let count = 0;
  for (const { at_most_seconds: most, records } of steps) {
    count += records;
    if (most !== null && count * 2 >= total)
      return `${formatShare(count, total)} waited at most ${formatDuration(most)} for their partner.`;
  }
  const longest = steps.findLast((step) => step.at_most_seconds !== null)?.at_most_seconds ?? 0;
  const longer =
    total - sum(steps.filter((step) => step.at_most_seconds !== null).map((step) => step.records));
  return `${formatShare(longer, total)} waited longer than ${formatDuration(longest)} for their partner.`;
}
