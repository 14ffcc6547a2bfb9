import Database from 'better-sqlite3';
import { readFileIdentity } from '../../usage/sqlite-file.ts';
import type { DatabaseState, Granularity, UsageRow, WaitingBucket } from '../api.ts';
import { toPeriodLine, toRecordLine } from './usage-csv.ts';
import { nextPeriodStart } from './usage-periods.ts';
import { queryPeriods, queryRecordsPage, toWaitingBuckets } from './usage-query.ts';
import type { RecordPosition } from './usage-query.ts';
import { UsageSourceError, openUsageDatabase, toUsageSourceError } from './usage-source.ts';
import type { UsageSource } from './usage-source.ts';
import { addTotals } from './usage-totals.ts';
import type { RecordTotalsState } from './usage-totals.ts';

/** The database could not be read; `problem` is a sentence for the operator. */
export type UsageFailure = { readonly kind: 'failed' } & Exclude<DatabaseState, { state: 'ok' }>;

/** Asks `aggregate` for all that began from `from`, included, to `to`, excluded; seconds since the epoch. */
export interface AggregateTask {
  readonly source: UsageSource;
  readonly by: Granularity;
  readonly from: number;
  readonly to: number;
}

/**
 * - `ok`: all of it
 * - `rejected`: it would be too long; `problem` says what to ask instead
 *
 * `tookMs` is the time the job ran, in milliseconds.
 */
export type AggregateOutcome =
  | {
      readonly kind: 'ok';
      readonly rows: readonly UsageRow[];
      readonly waiting: readonly WaitingBucket[];
      readonly tookMs: number;
    }
  | { readonly kind: 'rejected'; readonly problem: string; readonly tookMs: number }
  | UsageFailure;

/** What one line of the CSV stands for: a period and mood, or a record. */
export type CsvGranularity = Granularity | 'record';

/** Asks `csvPage` for lines from `position` on, up to `to`, excluded, in seconds since the epoch. */
export interface CsvTask {
  readonly source: UsageSource;
  readonly by: CsvGranularity;
  readonly position: RecordPosition;
  readonly to: number;
}

/** Lines without the header, and where the next page begins; null when this is the last one. */
export type CsvOutcome =
  { readonly kind: 'ok'; readonly text: string; readonly next: RecordPosition | null } | UsageFailure;

/** Asks `totals` for sums over all records; `known` is what is known of them, and spares reading those again. */
export interface TotalsTask {
  readonly source: UsageSource;
  readonly known: RecordTotalsState | null;
}

/** `isComplete` false: it is a page of a long table, and asking again with `state` brings the next one. */
export type TotalsOutcome =
  { readonly kind: 'ok'; readonly state: RecordTotalsState; readonly isComplete: boolean } | UsageFailure;

/** Periods in which something happened that one report may have: a year of hours, at some 6 MB of JSON. */
export const MAX_REPORT_PERIODS = 10_000;

/** Lines of one page of CSV, some 300 kB; aggregated pages end with the period that reaches it. */
const MAX_PAGE_LINES = 5000;

/** Records that one aggregated page of CSV sums up at least before it ends; about half a second of work. */
const MAX_PAGE_RECORDS = 1_000_000;

/** Records that one page of totals reads; some 100 ms of work, so that no question waits long for a process. */
const TOTALS_PAGE_RECORDS = 400_000;

/** Worker job: the rows of `GET /usage.json`. */
export function aggregate({ source, by, from, to }: AggregateTask): AggregateOutcome {
  const startedAt = performance.now();
  return withUsageDatabase(source, (database) => {
    const rows: UsageRow[] = [];
    const waiting: number[] = [];
    let periods = 0;
    for (const period of queryPeriods(database, by, { from, to })) {
      periods += 1;
      if (periods > MAX_REPORT_PERIODS) {
        const problem = `more than ${MAX_REPORT_PERIODS} periods are too many for one answer: ask for a shorter range, for a longer "by", or for usage.csv`;
        return { kind: 'rejected', problem, tookMs: performance.now() - startedAt };
      }
      rows.push(...period.rows);
      for (const [at, count] of period.waiting.entries()) waiting[at] = (waiting[at] ?? 0) + count;
    }
    return { kind: 'ok', rows, waiting: toWaitingBuckets(waiting), tookMs: performance.now() - startedAt };
  });
}

/** Worker job: one page of `GET /usage.csv`. */
export function csvPage(task: CsvTask): CsvOutcome {
  return withUsageDatabase(task.source, (database) =>
    task.by === 'record' ? recordLines(database, task) : periodLines(database, task, task.by),
  );
}

function recordLines(database: Database.Database, { position, to }: CsvTask): CsvOutcome {
  const { rows, next } = queryRecordsPage(database, position, to, MAX_PAGE_LINES);
  return { kind: 'ok', text: rows.map(toRecordLine).join(''), next };
}

function periodLines(
  database: Database.Database,
  { position, to }: CsvTask,
  by: Exclude<CsvTask['by'], 'record'>,
): CsvOutcome {
  const lines: string[] = [];
  let records = 0;
  for (const { start, rows } of queryPeriods(database, by, { from: position.from, to })) {
    for (const row of rows) {
      lines.push(toPeriodLine(row));
      records += row.records;
    }
    const from = nextPeriodStart(by, start);
    if ((lines.length >= MAX_PAGE_LINES || records >= MAX_PAGE_RECORDS) && from < to) {
      return { kind: 'ok', text: lines.join(''), next: { from, afterRowid: null } };
    }
  }
  return { kind: 'ok', text: lines.join(''), next: null };
}

/** Worker job: a page of the sums over all records, of which a private copy may be what is read. */
export function totals({ source, known }: TotalsTask): TotalsOutcome {
  return withUsageDatabase(source, (database) => ({
    kind: 'ok',
    ...addTotals(database, readFileIdentity(source.databasePath), known, TOTALS_PAGE_RECORDS),
  }));
}

/** Runs `job` on the database, open for as long as that takes. Failures are values: between processes errors lose what they are. */
function withUsageDatabase<Outcome>(
  source: UsageSource,
  job: (database: Database.Database) => Outcome,
): Outcome | UsageFailure {
  try {
    const usage = openUsageDatabase(source);
    try {
      return job(usage.database);
    } finally {
      usage.close();
    }
  } catch (error) {
    if (!(error instanceof UsageSourceError || error instanceof Database.SqliteError)) throw error;
    const { kind, message } = toUsageSourceError(source.databasePath, error);
    return { kind: 'failed', state: kind, problem: message };
  }
}
