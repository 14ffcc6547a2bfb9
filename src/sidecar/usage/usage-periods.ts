import type { Granularity } from '../api.ts';

export const HOUR_SECONDS = 3600;

export const DAY_SECONDS = 86_400;

/** `from` is included, `to` is not; seconds since the epoch, with fractions. */
export interface TimeSpan {
  readonly from: number;
  readonly to: number;
}

/** The start of the hour, day or month (UTC) that contains `seconds` since the epoch. */
export function periodStart(by: Granularity, seconds: number): number {
  switch (by) {
    case 'hour':
      return Math.floor(seconds / HOUR_SECONDS) * HOUR_SECONDS;
    case 'day':
      return Math.floor(seconds / DAY_SECONDS) * DAY_SECONDS;
    case 'month':
      return monthStart(seconds, 0);
  }
}

/** The start of the period after the one that contains `seconds`. */
export function nextPeriodStart(by: Granularity, seconds: number): number {
  switch (by) {
    case 'hour':
      return periodStart(by, seconds) + HOUR_SECONDS;
    case 'day':
      return periodStart(by, seconds) + DAY_SECONDS;
    case 'month':
      return monthStart(seconds, 1);
  }
}

/** The start of the month `later` months after that of `seconds`; negative for earlier months. */
export function monthStart(seconds: number, later: number): number {
  // Not Date.UTC, which turns the years 0 to 99 into 1900 to 1999.
  const date = new Date(seconds * 1000);
  date.setUTCHours(0, 0, 0, 0);
  date.setUTCMonth(date.getUTCMonth() + later, 1);
  return date.getTime() / 1000;
}

/** Formats as ISO 8601 in UTC, to the millisecond. */
export function isoTime(seconds: number): string {
  return new Date(Math.round(seconds * 1000)).toISOString();
}
