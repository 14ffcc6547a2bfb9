import { GRANULARITIES } from '../api.ts';
import type { Granularity } from '../api.ts';
import type { CsvGranularity } from './usage-job.ts';
import { DAY_SECONDS, HOUR_SECONDS, isoTime, monthStart, periodStart } from './usage-query.ts';

/** Values of `by` for `usage.csv`. */
export const CSV_GRANULARITIES = [...GRANULARITIES, 'record'] as const;

/** The requested records and their granularity: `from` is included, `to` is not. */
export interface UsageRange<By extends CsvGranularity> {
  readonly by: By;
  /** Seconds since the epoch. */
  readonly from: number;
  /** Seconds since the epoch; null: until the time of the query. */
  readonly to: number | null;
}

const PARAMETERS = ['by', 'from', 'to'] as const;

/** Error messages quote at most this many characters of a value. */
const MAX_QUOTED_LENGTH = 60;

/** ISO 8601 has four-digit years. */
const MIN_SECONDS = Date.parse('0000-01-01T00:00:00Z') / 1000;
const MAX_SECONDS = Date.parse('9999-12-31T23:59:59Z') / 1000;

const TIME_GRAMMAR =
  'a date (2026-11-23), a date and time with Z or an offset (2026-11-23T05:00:00Z), or seconds since the epoch (1795410000)';

/** A parameter is invalid. The message is a sentence for the client. */
export class InvalidParamError extends Error {}

/** The end of a range without `to`: the end of the current second, in seconds since the epoch. */
export function endOfCurrentSecond(nowMs: number): number {
  return Math.floor(nowMs / 1000) + 1;
}

/**
 * Parses `by`, `from` and `to` of a query. Defaults: by day, until now, and from the start of a period that
 * lies far enough back to be useful for `by`. A range that would end in the future ends now.
 *
 * @param query as parsed by an HTTP library: repeated parameters are arrays
 * @param bys accepted values of `by`: GRANULARITIES or CSV_GRANULARITIES
 * @param nowMs milliseconds since the epoch
 * @throws InvalidParamError
 */
export function parseUsageParams<By extends CsvGranularity>(
  query: Readonly<Record<string, unknown>>,
  bys: readonly By[],
  nowMs: number,
): UsageRange<By> {
  for (const name of Object.keys(query)) {
    if (!PARAMETERS.some((known) => known === name)) {
      throw new InvalidParamError(`unknown parameter ${quoteTruncated(name)}: use by, from and to`);
    }
  }
  const by = parseBy(readParam(query, 'by') ?? 'day', bys);
  const requestedTo = parseTime(query, 'to');
  const end = endOfCurrentSecond(nowMs);
  const from =
    parseTime(query, 'from') ?? defaultFrom(by, requestedTo === null ? end : Math.min(requestedTo, end));
  // A range entirely in the future is kept: the clock may have been wrong when records were written.
  const to = requestedTo === null || (requestedTo >= end - 1 && from < end) ? null : requestedTo;
  if (from >= (to ?? end)) {
    throw new InvalidParamError(`"from" (${isoTime(from)}) must be before "to" (${isoTime(to ?? end)})`);
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
  // For single records, a month is a useful range.
  const period: Granularity = by === 'record' ? 'day' : by;
  const starts = { hour: to - 24 * HOUR_SECONDS, day: to - 30 * DAY_SECONDS, month: monthStart(to, -12) };
  return Math.max(MIN_SECONDS, periodStart(period, starts[period]));
}

/** Seconds since the epoch, or null if the query does not have the parameter. */
function parseTime(query: Readonly<Record<string, unknown>>, name: 'from' | 'to'): number | null {
  const text = readParam(query, name);
  if (text === null) return null;
  const seconds = parseSeconds(text);
  if (!(seconds >= MIN_SECONDS && seconds <= MAX_SECONDS)) {
    throw new InvalidParamError(
      `"${name}" is ${quoteTruncated(text)}, which is not a time: use ${TIME_GRAMMAR}`,
    );
  }
  return seconds;
}

/** NaN for invalid times. */
function parseSeconds(text: string): number {
  if (/^\d{1,12}(?:\.\d{1,9})?$/u.test(text)) return Number(text);
  // The plus sign of an offset becomes a space if the client does not encode it.
  const [, date, time, sign, offset] =
    /^(\d{4}-\d{2}-\d{2})(?:T(\d{2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?)(?:Z|([+ -])(\d{2}:\d{2})))?$/u.exec(
      text,
    ) ?? [];
  if (date === undefined || !isCalendarDate(date)) return NaN;
  const zone = offset === undefined ? 'Z' : `${sign === '-' ? '-' : '+'}${offset}`;
  return Date.parse(`${date}T${time ?? '00:00'}${zone}`) / 1000;
}

/** Whether the day exists: JavaScript turns February 30th into March 2nd. */
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
  if (typeof value !== 'string') throw new InvalidParamError(`"${name}" is given more than once`);
  return value;
}

function quoteTruncated(text: string): string {
  return JSON.stringify(text.length > MAX_QUOTED_LENGTH ? `${text.slice(0, MAX_QUOTED_LENGTH)}…` : text);
}
