import type { UsageRow, WaitingBucket } from '../api.ts';
import { formatDuration, formatShare } from './format.ts';
import type { UsagePeriodRange } from './usage-periods.ts';

/** In stacking order, from bottom to top. */
const MOODS = (
  [
    { name: 'happy', label: 'transfer', meaning: 'Two clients were connected, however it ended' },
    { name: 'lonely', label: 'no partner came', meaning: 'Left, or was closed, before a partner came' },
    {
      name: 'redundant',
      label: 'replaced',
      meaning: 'A newer connection of the same client got the partner',
    },
    { name: 'impatient', label: 'sent too early', meaning: 'Sent data before it had a partner' },
    { name: 'errory', label: 'bad handshake', meaning: 'Did not speak the relay’s protocol' },
    { name: 'empty', label: 'no handshake', meaning: 'Ended before a whole handshake came, like port scans' },
    { name: 'other', label: 'other', meaning: 'Moods that this version does not know' },
  ] as const
).map(({ name, label, meaning }) => ({
  /** The value in the usage database. */
  name,
  /** The outcome of one connection in a few words. */
  label,
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
  /** Sums of all moods, one number per bar. */
  readonly records: readonly number[];
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
  const records = range.buckets.map((_, bar) => sum(moods.map((series) => series.records[bar] ?? 0)));
  const bytes = range.buckets.map((_, bar) => sum(moods.map((series) => series.bytes[bar] ?? 0)));
  return {
    moods,
    records,
    bytes,
    totalRecords: sum(moods.map((series) => series.totalRecords)),
    totalBytes: sum(bytes),
    transfers: moods.find((series) => series.mood.name === 'happy')?.totalRecords ?? 0,
  };
}

/** `Transfers` if there is nothing else to show, otherwise `Connections by outcome`. */
export function chartTitle(series: UsageSeries): string {
  return series.transfers === series.totalRecords ? 'Transfers' : 'Connections by outcome';
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
