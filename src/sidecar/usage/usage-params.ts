import { GRANULARITIES } from '../api.ts';
import type { Granularity } from '../api.ts';
import type { CsvGranularity } from './usage-job.ts';
import { DAY_SECONDS, HOUR_SECONDS, isoTime, monthStart, periodStart } from './usage-periods.ts';

/** What `by` may be for `usage.csv`. */
export const CSV_GRANULARITIES = [...GRANULARITIES, 'record'] as const;

/** Which records are asked for, and what for: `from` is included, `to` is not. */
export interface UsageRange<By extends CsvGranularity> {
  readonly by: By;
  /** Seconds since the epoch. */
  readonly from: number;
  /** Seconds since the epoch; null: until now, whenever that is when the database is asked. */
  readonly to: number | null;
}

export type UsageParams<By extends CsvGranularity> =
  | { readonly kind: 'ok'; readonly range: UsageRange<By> }
  | { readonly kind: 'invalid'; readonly problem: string };

const PARAMETERS = ['by', 'from', 'to'] as const;

/** Characters of a value that a fault repeats. */
const MAX_QUOTED_LENGTH = 60;

/** ISO 8601 has years of four digits. */
const MIN_SECONDS = Date.parse('0000-01-01T00:00:00Z') / 1000;
const MAX_SECONDS = Date.parse('9999-12-31T23:59:59Z') / 1000;

const TIME_GRAMMAR =
  'a date (2026-11-23), a date and time with Z or an offset (2026-11-23T05:00:00Z), or seconds since the epoch (1795410000)';

class InvalidParamError extends Error {}

/** Where a range without an end ends: with the current second, whole, in seconds since the epoch. */
export function endOfCurrentSecond(nowMs: number): number {
  return Math.floor(nowMs / 1000) + 1;
}

/**
 * Reads `by`, `from` and `to` of a query. Without them: by day, until now, and as far back as is useful for `by`,
 * from the start of a period. What would end in the future ends now.
 *
 * @param query as an HTTP library parses it: repeated parameters are arrays
 * @param bys what `by` may be: PERIODS or CSV_BY
 * @param nowMs milliseconds since the epoch
 */
export function parseUsageParams<By extends CsvGranularity>(
  query: Readonly<Record<string, unknown>>,
  bys: readonly By[],
  nowMs: number,
): UsageParams<By> {
  try {
    return { kind: 'ok', range: parseRange(query, bys, nowMs) };
  } catch (error) {
    if (error instanceof InvalidParamError) return { kind: 'invalid', problem: error.message };
    throw error;
  }
}

function parseRange<By extends CsvGranularity>(
  query: Readonly<Record<string, unknown>>,
  bys: readonly By[],
  nowMs: number,
): UsageRange<By> {
  for (const name of Object.keys(query)) {
    if (!PARAMETERS.some((known) => known === name)) {
      throw new InvalidParamError(`there is no parameter ${quoteTruncated(name)}: use by, from and to`);
    }
  }
  const by = parseBy(readParam(query, 'by') ?? 'day', bys);
  const asked = parseTime(query, 'to');
  const end = endOfCurrentSecond(nowMs);
  const from = parseTime(query, 'from') ?? defaultFrom(by, asked === null ? end : Math.min(asked, end));
  // One that lies in the future altogether stays as it is: a clock may have been wrong when records were made.
  const to = asked === null || (asked >= end - 1 && from < end) ? null : asked;
  if (from >= (to ?? end)) {
    throw new InvalidParamError(`"from" (${isoTime(from)}) must lie before "to" (${isoTime(to ?? end)})`);
  }
  return { by, from, to };
}

function parseBy<By extends CsvGranularity>(text: string, bys: readonly By[]): By {
  const by = bys.find((known) => known === text);
  if (by === undefined)
    throw new InvalidParamError(`"by" is ${quoteTruncated(text)}: use one of ${bys.join(', ')}`);
  return by;
}

function defaultFrom(by: CsvGranularity, to: number): number {
  // A record has no period of its own; a month of them is what one wants to look through.
  const period: Granularity = by === 'record' ? 'day' : by;
  return Math.max(MIN_SECONDS, periodStart(period, defaultRangeStart(period, to)));
}

function defaultRangeStart(period: Granularity, to: number): number {
  switch (period) {
    case 'hour':
      return to - 24 * HOUR_SECONDS;
    case 'day':
      return to - 30 * DAY_SECONDS;
    case 'month':
      return monthStart(to, -12);
  }
}

/** Seconds since the epoch, or null where the query says nothing. */
function parseTime(query: Readonly<Record<string, unknown>>, name: 'from' | 'to'): number | null {
  const text = readParam(query, name);
  if (text === null) return null;
  const seconds = parseSeconds(text);
  if (!(seconds >= MIN_SECONDS && seconds <= MAX_SECONDS)) {
    throw new InvalidParamError(
      `"${name}" is ${quoteTruncated(text)}, which is no time: use ${TIME_GRAMMAR}`,
    );
  }
  return seconds;
}

/** NaN for what is no time. */
function parseSeconds(text: string): number {
  if (/^\d{1,12}(?:\.\d{1,9})?$/u.test(text)) return Number(text);
  // Who forgets to encode the plus of an offset sends a space.
  const [, date, time, sign, offset] =
    /^(\d{4}-\d{2}-\d{2})(?:T(\d{2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?)(?:Z|([+ -])(\d{2}:\d{2})))?$/u.exec(
      text,
    ) ?? [];
  if (date === undefined || !isCalendarDate(date)) return NaN;
  const zone = offset === undefined ? 'Z' : `${sign === '-' ? '-' : '+'}${offset}`;
  return Date.parse(`${date}T${time ?? '00:00'}${zone}`) / 1000;
}

/** Whether the calendar has the day: JavaScript takes February 30th for March 2nd. */
function isCalendarDate(date: string): boolean {
  const atMs = Date.parse(`${date}T00:00Z`);
  return !Number.isNaN(atMs) && new Date(atMs).toISOString().startsWith(date);
}

function readParam(
  query: Readonly<Record<string, unknown>>,
  name: (typeof PARAMETERS)[number],
): string | null {
  const value = query[name];
  if (value === undefined) return null;
  if (typeof value !== 'string')
    throw new InvalidParamError(`"${name}" is there more than once: say it once`);
  return value;
}

function quoteTruncated(text: string): string {
  return JSON.stringify(text.length > MAX_QUOTED_LENGTH ? `${text.slice(0, MAX_QUOTED_LENGTH)}…` : text);
}
