import type { UsageRow } from '../api.ts';
import { MOODS, moodName } from './moods.ts';
import type { MoodEntry } from './moods.ts';
import type { ViewRange } from './periods.ts';

/** What one mood had in each bar. */
export interface MoodSeries {
  readonly mood: MoodEntry;
  readonly records: readonly number[];
  readonly bytes: readonly number[];
  readonly totalRecords: number;
  readonly totalBytes: number;
}

/** A report without gaps: all moods, and all bars of the range in each of them. */
export interface UsageSeries {
  readonly moods: readonly MoodSeries[];
  /** Of all moods, a number for each bar. */
  readonly bytes: readonly number[];
  readonly totalRecords: number;
  readonly totalBytes: number;
  /** Records of pairs that were connected: transfers. */
  readonly transfers: number;
}

/** Fills the gaps of a report; rows outside of the range are left out. */
export function toSeries(range: ViewRange, rows: readonly UsageRow[]): UsageSeries {
  const moods = MOODS.map((mood): MoodSeries => {
    const own = rows.filter((row) => moodName(row.mood) === mood.name);
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

/** The moods that happened, and the one that everybody looks for. */
export function moodsShown(series: UsageSeries): readonly MoodSeries[] {
  return series.moods.filter((one) => one.totalRecords > 0 || one.mood.name === 'happy');
}

export function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

function fill(range: ViewRange, rows: readonly UsageRow[], value: (row: UsageRow) => number): number[] {
  const bars = range.buckets.map(() => 0);
  for (const row of rows) {
    const startMs = Date.parse(row.start);
    if (!(startMs >= range.fromMs && startMs < range.toMs)) continue;
    const bar = range.buckets.findLastIndex((bucket) => bucket.startMs <= startMs);
    bars[bar] = (bars[bar] ?? 0) + value(row);
  }
  return bars;
}
