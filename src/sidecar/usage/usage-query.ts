import type { Database } from 'better-sqlite3';
import type { Granularity, IsoTime, RecordedTime, UsageRow, WaitingBucket } from '../api.ts';

export const HOUR_SECONDS = 3600;

export const DAY_SECONDS = 86_400;

/** Upper bounds of the buckets of waiting times, in seconds. One more bucket has all longer times. */
export const WAITING_BUCKETS_SECONDS = [1, 5, 30, 120, 600, 3600] as const;

/**
 * Records per statement. SQLite sorts them by period and mood. It sorts this many in memory, which is twice
 * as fast as a year at once and needs no temporary files. It also limits each read transaction to about 10
 * ms, during which the relay can't restart its write-ahead log.
 */
const WINDOW_RECORDS = 20_000;

/** Moods from foreign databases are truncated to this many UTF-16 units. */
const MAX_MOOD_LENGTH = 100;

/** Replaces a mood that is not a text. */
const UNKNOWN_MOOD = 'unknown';

/** `from` is included, `to` is not; seconds since the epoch, with fractions. */
export interface TimeSpan {
  readonly from: number;
  readonly to: number;
}

/** The usage of one period. Empty periods are left out. */
export interface PeriodUsage {
  /** Seconds since the epoch; may be before the requested span. */
  readonly start: number;
  /** By mood. */
  readonly rows: readonly UsageRow[];
  /** Happy records for each of WAITING_BUCKETS_SECONDS, and for longer times. */
  readonly waiting: readonly number[];
}

/** One usage record, with invalid values replaced. */
export interface RecordRow {
  readonly started: IsoTime;
  readonly total_time: number;
  readonly waiting_time: number | null;
  readonly total_bytes: number;
  readonly mood: string;
}

/** The start of a page of records: `from`, or within `from` after the record `afterRowid`. */
export interface RecordPosition {
  readonly from: number;
  readonly afterRowid: number | null;
}

type RawRow = readonly unknown[];

interface MoodSums {
  records: number;
  bytes: number;
  totalSeconds: number;
  waitingSeconds: number;
}

interface PeriodAccumulator {
  readonly start: number;
  readonly moods: Map<string, MoodSums>;
  readonly waiting: number[];
}

// TOTAL, unlike SUM, accepts any type and does not overflow. SQLite sorts waiting times of other types after
// all numbers, and infinity is not below itself: neither is counted as a pair that waited.
const SUMS_QUERY = `
  SELECT CAST((started - @base) / @step AS INTEGER) AS period, result,
    COUNT(*), TOTAL(total_bytes), TOTAL(total_time), TOTAL(waiting_time),
    COUNT(*) FILTER (WHERE waiting_time < 9e999)
    ${WAITING_BUCKETS_SECONDS.map((step) => `, COUNT(*) FILTER (WHERE waiting_time <= ${step})`).join('')}
  FROM usage WHERE started >= @from AND started < @to
  GROUP BY period, +result ORDER BY period`;

/**
 * Sums the records that started in a span, by hour, day or month and by mood. Yields the periods in
 * chronological order. Reads with the index on `started`; records without a number there are left out.
 *
 * @throws SqliteError if the database can't be read
 */
export function* queryPeriods(database: Database, by: Granularity, span: TimeSpan): Generator<PeriodUsage> {
  const step = stepSeconds(by);
  const sums = database.prepare<[object], RawRow>(SUMS_QUERY).raw();
  let period: PeriodAccumulator | null = null;
  for (const { from, to } of queryWindows(database, span)) {
    // CAST rounds towards zero, which is down only if the base is not above any record.
    const base = Math.floor(from / step) * step;
    for (const cells of sums.all({ base, step, from, to })) {
      const start = periodStart(by, base + toNumber(cells[0]) * step);
      if (period !== null && period.start !== start) {
        yield toPeriodUsage(period);
        period = null;
      }
      period ??= { start, moods: new Map(), waiting: [...WAITING_BUCKETS_SECONDS, null].map(() => 0) };
      addRow(period, cells);
    }
  }
  if (period !== null) yield toPeriodUsage(period);
}

/** Converts the counts of periods to buckets of waiting times. */
export function toWaitingBuckets(counts: readonly number[]): WaitingBucket[] {
  return [...WAITING_BUCKETS_SECONDS, null].map((at_most_seconds, at) => ({
    at_most_seconds,
    records: counts[at] ?? 0,
  }));
}

/** Divides a span into windows of WINDOW_RECORDS records, and skips empty time at its end. */
function* queryWindows(database: Database, span: TimeSpan): Generator<TimeSpan> {
  const further = database
    .prepare<[number, number, number], number>(
      'SELECT started FROM usage WHERE started >= ? AND started < ? ORDER BY started LIMIT 1 OFFSET ?',
    )
    .pluck();
  const later = database
    .prepare<[number, number], number>(
      'SELECT started FROM usage WHERE started > ? AND started < ? ORDER BY started LIMIT 1',
    )
    .pluck();
  let from: number | undefined = further.get(span.from, span.to, 0);
  while (from !== undefined) {
    let next: number | undefined = further.get(from, span.to, WINDOW_RECORDS);
    // Blurred records can share one start time, which can't be divided further.
    if (next === from) next = later.get(from, span.to);
    yield { from, to: next ?? span.to };
    from = next;
  }
}

function addRow(period: PeriodAccumulator, cells: RawRow): void {
  const [, result, records, bytes, totalSeconds, waitingSeconds, waited, ...atMost] = cells;
  const mood = toMood(result);
  const sums = period.moods.get(mood) ?? { records: 0, bytes: 0, totalSeconds: 0, waitingSeconds: 0 };
  sums.records += toNumber(records);
  sums.bytes += toNumber(bytes);
  sums.totalSeconds += toNumber(totalSeconds);
  sums.waitingSeconds += toNumber(waitingSeconds);
  period.moods.set(mood, sums);
  if (mood !== 'happy') return;
  let below = 0;
  for (const [at, cell] of [...atMost, waited].entries()) {
    period.waiting[at] = (period.waiting[at] ?? 0) + toNumber(cell) - below;
    below = toNumber(cell);
  }
}

function toPeriodUsage({ start, moods, waiting }: PeriodAccumulator): PeriodUsage {
  const rows = [...moods]
    .toSorted(([one], [other]) => (one < other ? -1 : 1))
    .map(([mood, sums]) => ({
      start: isoTime(start),
      mood,
      records: sums.records,
      total_bytes: sums.bytes,
      total_time: roundToMicroseconds(sums.totalSeconds),
      waiting_time: roundToMicroseconds(sums.waitingSeconds),
    }));
  return { start, rows, waiting };
}

/**
 * The time that the database covers. Reads two records and one row, without a scan.
 *
 * @param now seconds since the epoch; later times come from a wrong clock and count as `now`
 * @throws SqliteError if the database can't be read
 */
export function queryRecordedTime(database: Database, now: number): RecordedTime {
  // A comparison with a number leaves out NULL; SQLite sorts values of other types after all numbers.
  const first: unknown = database
    .prepare('SELECT started FROM usage WHERE started > 0 ORDER BY started LIMIT 1')
    .pluck()
    .get();
  const last: unknown = database
    .prepare('SELECT started FROM usage WHERE started > 0 AND started <= ? ORDER BY started DESC LIMIT 1')
    .pluck()
    .get(now);
  const current = database.prepare<[], RawRow>('SELECT MAX(rebooted), MAX(updated) FROM current').raw().get();
  const toTime = (cell: unknown): number | null =>
    toNumber(cell) > 0 ? Math.min(toNumber(cell), now) : null;
  const relayStarted = toTime(current?.[0]);
  const froms = [toTime(first), relayStarted].filter((time) => time !== null);
  const tos = [toTime(last), toTime(current?.[1])].filter((time) => time !== null);
  return {
    from: froms.length === 0 ? null : isoTime(Math.min(...froms)),
    to: tos.length === 0 ? null : isoTime(Math.max(...tos)),
    relay_started: relayStarted === null ? null : isoTime(relayStarted),
  };
}

const RECORD_COLUMNS = 'rowid, started, total_time, waiting_time, total_bytes, result';

/**
 * The next `limit` records of a span in order of (started, rowid), and the position of the next page; null if
 * there is none. The cost of a page does not depend on how many records share a start time.
 *
 * @throws SqliteError if the database can't be read
 */
export function queryRecordsPage(
  database: Database,
  { from, afterRowid }: RecordPosition,
  to: number,
  limit: number,
): { readonly rows: readonly RecordRow[]; readonly next: RecordPosition | null } {
  const cells: RawRow[] = [];
  // SQLite can't seek by (started, rowid) > (?, ?): it would read all records with the same start for each
  // page.
  if (afterRowid !== null) {
    const rest = `SELECT ${RECORD_COLUMNS} FROM usage WHERE started = ? AND rowid > ? ORDER BY rowid LIMIT ?`;
    cells.push(
      ...database.prepare<[number, number, number], RawRow>(rest).raw().all(from, afterRowid, limit),
    );
  }
  const after = `SELECT ${RECORD_COLUMNS} FROM usage WHERE started ${afterRowid === null ? '>=' : '>'} ? AND started < ?
    ORDER BY started, rowid LIMIT ?`;
  const room = limit - cells.length;
  cells.push(...database.prepare<[number, number, number], RawRow>(after).raw().all(from, to, room));
  const last = cells.at(-1);
  const next =
    last === undefined || cells.length < limit
      ? null
      : { from: toNumber(last[1]), afterRowid: toNumber(last[0]) };
  return { rows: cells.map(toRecordRow), next };
}

function toRecordRow([, started, totalTime, waitingTime, totalBytes, result]: RawRow): RecordRow {
  return {
    started: isoTime(toNumber(started)),
    total_time: toNumber(totalTime),
    waiting_time: waitingTime === null ? null : toNumber(waitingTime),
    total_bytes: toNumber(totalBytes),
    mood: toMood(result),
  };
}

function toNumber(cell: unknown): number {
  return typeof cell === 'number' && Number.isFinite(cell) ? cell : 0;
}

function toMood(cell: unknown): string {
  const text = typeof cell === 'number' ? String(cell) : cell;
  return typeof text === 'string' && text !== '' ? text.slice(0, MAX_MOOD_LENGTH) : UNKNOWN_MOOD;
}

/** To the microsecond: sums of fractions have rounding errors. */
function roundToMicroseconds(seconds: number): number {
  return Math.round(seconds * 1e6) / 1e6;
}

/** The start of the hour, day or month (UTC) that contains `seconds` since the epoch. */
export function periodStart(by: Granularity, seconds: number): number {
  if (by === 'month') return monthStart(seconds, 0);
  const step = stepSeconds(by);
  return Math.floor(seconds / step) * step;
}

/** The start of the period after the one that contains `seconds`. */
export function nextPeriodStart(by: Granularity, seconds: number): number {
  return by === 'month' ? monthStart(seconds, 1) : periodStart(by, seconds) + stepSeconds(by);
}

/** The length of a period, or of a day in a month. */
function stepSeconds(by: Granularity): number {
  return by === 'hour' ? HOUR_SECONDS : DAY_SECONDS;
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
