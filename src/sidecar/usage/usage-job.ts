import Database from 'better-sqlite3';
import { readFileIdentity } from '../../usage/sqlite-file.ts';
import type { DatabaseState, Granularity, RecordedTime, UsageRow, WaitingBucket } from '../api.ts';
import { toPeriodLine, toRecordLine } from './usage-csv.ts';
import {
  nextPeriodStart,
  queryPeriods,
  queryRecordedTime,
  queryRecordsPage,
  toWaitingBuckets,
} from './usage-query.ts';
import type { RecordPosition, TimeSpan } from './usage-query.ts';
import { UsageSourceError, openUsageDatabase, toUsageSourceError } from './usage-source.ts';
import type { UsageSource } from './usage-source.ts';
import { addTotals } from './usage-totals.ts';
import type { RecordTotalsState } from './usage-totals.ts';

/** The database could not be read; `problem` is a sentence for the operator. */
export type UsageFailure = { readonly kind: 'failed' } & Exclude<DatabaseState, { state: 'ok' }>;

/**
 * Task of `aggregate`: records that started from `from`, included, to `to`, excluded, in seconds since the
 * epoch.
 */
export interface AggregateTask {
  readonly source: UsageSource;
  readonly by: Granularity;
  readonly from: number;
  readonly to: number;
  /** The time of the query, in seconds since the epoch. */
  readonly now: number;
}

/**
 * - `ok`: the complete report
 * - `rejected`: the report would be too long; `problem` suggests another request
 *
 * `tookMs` is the time the job ran, in milliseconds.
 */
export type AggregateOutcome =
  | {
      readonly kind: 'ok';
      readonly rows: readonly UsageRow[];
      readonly waiting: readonly WaitingBucket[];
      readonly recorded: RecordedTime;
      readonly tookMs: number;
    }
  | { readonly kind: 'rejected'; readonly problem: string; readonly tookMs: number }
  | UsageFailure;

/** A line of the CSV is a period and mood, or a record. */
export type CsvGranularity = Granularity | 'record';

/** Task of `csvPage`: lines from `position` to `to`, excluded, in seconds since the epoch. */
export interface CsvTask {
  readonly source: UsageSource;
  readonly by: CsvGranularity;
  readonly position: RecordPosition;
  readonly to: number;
}

/** Lines without the header, and the position of the next page; null on the last page. */
export type CsvOutcome =
  { readonly kind: 'ok'; readonly text: string; readonly next: RecordPosition | null } | UsageFailure;

/** Task of `totals`: sums over all records. `known` are the sums so far, which are continued. */
export interface TotalsTask {
  readonly source: UsageSource;
  readonly known: RecordTotalsState | null;
}

/** `isComplete` is false after a page of a long table; another task with `state` reads the next page. */
export type TotalsOutcome =
  { readonly kind: 'ok'; readonly state: RecordTotalsState; readonly isComplete: boolean } | UsageFailure;

/** Maximum number of non-empty periods per report: a year of hours, about 6 MB of JSON. */
export const MAX_REPORT_PERIODS = 10_000;

/** Lines per CSV page, about 300 kB. A page of periods ends with the period that reaches this number. */
const MAX_PAGE_LINES = 5000;

/** A CSV page of periods also ends after this many records, about half a second of work. */
const MAX_PAGE_RECORDS = 1_000_000;

/** Records per page of totals, about 100 ms of work, so that queries do not wait long for a process. */
const TOTALS_PAGE_RECORDS = 400_000;

/** Job of a job process: the rows of `GET /usage.json`. */
export function aggregate({ source, by, from, to, now }: AggregateTask): AggregateOutcome {
  const startedAt = performance.now();
  return withUsageDatabase(source, (database) => {
    const rows: UsageRow[] = [];
    const waiting: number[] = [];
    let periods = 0;
    for (const period of queryPeriods(database, by, { from, to })) {
      periods += 1;
      if (periods > MAX_REPORT_PERIODS) {
        const problem = `more than ${MAX_REPORT_PERIODS} periods in one report: use a shorter range, a longer "by", or usage.csv`;
        return { kind: 'rejected', problem, tookMs: performance.now() - startedAt };
      }
      rows.push(...period.rows);
      for (const [at, count] of period.waiting.entries()) waiting[at] = (waiting[at] ?? 0) + count;
    }
    const recorded = queryRecordedTime(database, now);
    const tookMs = performance.now() - startedAt;
    return { kind: 'ok', rows, waiting: toWaitingBuckets(waiting), recorded, tookMs };
  });
}

/** Job of a job process: one page of `GET /usage.csv`. */
export function csvPage({ source, by, position, to }: CsvTask): CsvOutcome {
  return withUsageDatabase(source, (database) => {
    if (by !== 'record') return periodLines(database, by, { from: position.from, to });
    const { rows, next } = queryRecordsPage(database, position, to, MAX_PAGE_LINES);
    return { kind: 'ok', text: rows.map(toRecordLine).join(''), next };
  });
}

function periodLines(database: Database.Database, by: Granularity, span: TimeSpan): CsvOutcome {
  const lines: string[] = [];
  let records = 0;
  for (const { start, rows } of queryPeriods(database, by, span)) {
    for (const row of rows) {
      lines.push(toPeriodLine(row));
      records += row.records;
    }
    const from = nextPeriodStart(by, start);
    if ((lines.length >= MAX_PAGE_LINES || records >= MAX_PAGE_RECORDS) && from < span.to) {
      return { kind: 'ok', text: lines.join(''), next: { from, afterRowid: null } };
    }
  }
  return { kind: 'ok', text: lines.join(''), next: null };
}

/**
 * Job of a job process: one page of the sums over all records. The identity is that of the original, even if
 * a copy is read.
 */
export function totals({ source, known }: TotalsTask): TotalsOutcome {
  return withUsageDatabase(source, (database) => ({
    kind: 'ok',
    ...addTotals(database, readFileIdentity(source.databasePath), known, TOTALS_PAGE_RECORDS),
  }));
}

/** Opens the database for `job`. Failures are values, because errors lose their class between processes. */
function withUsageDatabase<Outcome>(
  source: UsageSource,
  job: (database: Database.Database) => Outcome,
): Outcome | UsageFailure {
  try {
    const { database } = openUsageDatabase(source);
    try {
      return job(database);
    } finally {
      database.close();
    }
  } catch (error) {
    if (!(error instanceof UsageSourceError || error instanceof Database.SqliteError)) throw error;
    const { kind, message } = toUsageSourceError(source.databasePath, error);
    return { kind: 'failed', state: kind, problem: message };
  }
}
