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
  const inThisMonth = resetIn(year, month, resetDay);
  return inThisMonth <= time ? inThisMonth : resetIn(year, month - 1, resetDay);
}

/** When the period ends that has `time` in it, and the next one begins. */
export function periodEnd(time: number, when: QuotaPeriod): number {
  const start = periodStart(time, when);
  if (when.period === 'day') return start + DAY_MS;
  const date = new Date(start);
  return resetIn(date.getUTCFullYear(), date.getUTCMonth() + 1, when.resetDay);
}

/** @param month from 0; may be -1 or 12, which are of the years before and after */
function resetIn(year: number, month: number, resetDay: number): number {
  // Day 0 is the last one of the month before.
  const lastDay = new Date(Date.UTC(year, month + 1, 0)).getUTCDate();
  return Date.UTC(year, month, Math.min(resetDay, lastDay));
}
