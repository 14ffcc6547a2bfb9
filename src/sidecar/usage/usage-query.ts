import type { Database } from 'better-sqlite3';
import type { Granularity, IsoTime, UsageRow, WaitingBucket } from '../api.ts';
import { DAY_SECONDS, HOUR_SECONDS, isoTime, periodStart } from './usage-periods.ts';
import type { TimeSpan } from './usage-periods.ts';

/** Upper bounds of the steps of waiting, in seconds; what waited longer than the last one is a step of its own. */
export const WAITING_BUCKETS_SECONDS = [1, 5, 30, 120, 600, 3600] as const;

/**
 * Records that are summed by one statement. SQLite sorts them by period and mood: so few it sorts in memory,
 * which is twice as fast as a year at once and needs no room for temporary files. It also bounds, to some
 * 10 ms, how long a read transaction keeps the relay from reusing its write-ahead log.
 */
const WINDOW_RECORDS = 20_000;

/** A mood of a foreign database is cut to so many UTF-16 units. */
const MAX_MOOD_LENGTH = 100;

/** Stands for a mood that is no text. */
const UNKNOWN_MOOD = 'unknown';

/** What happened in one period. There is none where nothing happened. */
export interface PeriodUsage {
  /** Seconds since the epoch; may lie before the span that was asked for. */
  readonly start: number;
  /** By mood. */
  readonly rows: readonly UsageRow[];
  /** Happy records for each of WAITING_STEPS_SECONDS, and for longer than all. */
  readonly waiting: readonly number[];
}

/** One usage record, with whatever was strange about it made ordinary. */
export interface RecordRow {
  readonly started: IsoTime;
  readonly total_time: number;
  readonly waiting_time: number | null;
  readonly total_bytes: number;
  readonly mood: string;
}

/** Where a page of records begins: after the record `afterRowid` of those that started at `from`, or with `from`. */
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

// TOTAL, unlike SUM, takes any type and does not overflow. A waiting time that is no number is greater than all numbers
// to SQLite, and infinity is not below itself: neither is counted as a pair that waited.
const SUMS_QUERY = `
  SELECT CAST((started - @base) / @step AS INTEGER) AS period, result,
    COUNT(*), TOTAL(total_bytes), TOTAL(total_time), TOTAL(waiting_time),
    COUNT(*) FILTER (WHERE waiting_time < 9e999)
    ${WAITING_BUCKETS_SECONDS.map((step) => `, COUNT(*) FILTER (WHERE waiting_time <= ${step})`).join('')}
  FROM usage WHERE started >= @from AND started < @to
  GROUP BY period, +result ORDER BY period`;

/**
 * Sums what began in a span by hour, day or month and by mood, in order of time, a period at a time. Reads with
 * the index on `started`; what has no number there is left out.
 *
 * @throws SqliteError when the database can't be read
 */
export function* queryPeriods(database: Database, by: Granularity, span: TimeSpan): Generator<PeriodUsage> {
  const step = by === 'hour' ? HOUR_SECONDS : DAY_SECONDS;
  const sums = database.prepare<[object], RawRow>(SUMS_QUERY).raw();
  let period: PeriodAccumulator | null = null;
  for (const { from, to } of queryWindows(database, span)) {
    // CAST cuts towards zero, which is downwards only from a base that is not above any of the records.
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

/** Steps of waiting from the counts of periods. */
export function toWaitingBuckets(counts: readonly number[]): WaitingBucket[] {
  return [...WAITING_BUCKETS_SECONDS, null].map((at_most_seconds, at) => ({
    at_most_seconds,
    records: counts[at] ?? 0,
  }));
}

/** Cuts a span where WINDOW_RECORDS more have begun, and skips what is empty at its end. */
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
    // Blurred records share their start, and those that do can't be told apart here.
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

const RECORD_COLUMNS = 'rowid, started, total_time, waiting_time, total_bytes, result';

/**
 * The next `limit` records of a span in order of (started, rowid), and where the ones after them begin; null
 * when there are no more. A page costs the same however many records share their start.
 *
 * @throws SqliteError when the database can't be read
 */
export function queryRecordsPage(
  database: Database,
  { from, afterRowid }: RecordPosition,
  to: number,
  limit: number,
): { readonly rows: readonly RecordRow[]; readonly next: RecordPosition | null } {
  const cells: RawRow[] = [];
  // SQLite does not seek by (started, rowid) > (?, ?) in one go: it would read all that share their start each time.
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

/** To the microsecond: sums of fractions end in digits that nobody wrote. */
function roundToMicroseconds(seconds: number): number {
  return Math.round(seconds * 1e6) / 1e6;
}
