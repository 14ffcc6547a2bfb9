import Database from 'better-sqlite3';
import { identityOf } from '../usage/file-identity.ts';
import type { UsageRow } from './api.ts';
import { addTotals } from './metrics-totals-query.ts';
import { toPeriodLine, toRecordLine } from './usage-csv.ts';
import type {
  AggregateOutcome,
  AggregateTask,
  CsvOutcome,
  CsvTask,
  TotalsOutcome,
  TotalsTask,
  UsageFailure,
} from './usage-messages.ts';
import { nextPeriodStart } from './usage-periods.ts';
import { recordsPage, usagePeriods, waitingSteps } from './usage-query.ts';
import { UsageSourceError, openUsage, toUsageSourceError } from './usage-source.ts';
import type { UsageSource } from './usage-source.ts';

/** Periods in which something happened that one report may have: a year of hours, at some 6 MB of JSON. */
export const MAX_REPORT_PERIODS = 10_000;

/** Lines of one page of CSV, some 300 kB; aggregated pages end with the period that reaches it. */
const PAGE_LINES = 5000;

/** Records that one aggregated page of CSV sums up at least before it ends; about half a second of work. */
const PAGE_RECORDS = 1_000_000;

/** Records that one page of totals reads; some 100 ms of work, so that no question waits long for a process. */
const TOTALS_RECORDS = 400_000;

/** Worker job: the rows of `GET /usage.json`. */
export function aggregate({ source, by, from, to }: AggregateTask): AggregateOutcome {
  const startedAt = performance.now();
  return withUsage(source, (database) => {
    const rows: UsageRow[] = [];
    const waiting: number[] = [];
    let periods = 0;
    for (const period of usagePeriods(database, by, { from, to })) {
      periods += 1;
      if (periods > MAX_REPORT_PERIODS) {
        const problem = `more than ${MAX_REPORT_PERIODS} periods are too many for one answer: ask for a shorter range, for a longer "by", or for usage.csv`;
        return { kind: 'refused', problem, tookMs: performance.now() - startedAt };
      }
      rows.push(...period.rows);
      for (const [at, count] of period.waiting.entries()) waiting[at] = (waiting[at] ?? 0) + count;
    }
    return { kind: 'ok', rows, waiting: waitingSteps(waiting), tookMs: performance.now() - startedAt };
  });
}

/** Worker job: one page of `GET /usage.csv`. */
export function csvPage(task: CsvTask): CsvOutcome {
  return withUsage(task.source, (database) =>
    task.by === 'record' ? recordLines(database, task) : periodLines(database, task, task.by),
  );
}

function recordLines(database: Database.Database, { position, to }: CsvTask): CsvOutcome {
  const { rows, next } = recordsPage(database, position, to, PAGE_LINES);
  return { kind: 'ok', text: rows.map(toRecordLine).join(''), next };
}

function periodLines(
  database: Database.Database,
  { position, to }: CsvTask,
  by: Exclude<CsvTask['by'], 'record'>,
): CsvOutcome {
  const lines: string[] = [];
  let records = 0;
  for (const { start, rows } of usagePeriods(database, by, { from: position.from, to })) {
    for (const row of rows) {
      lines.push(toPeriodLine(row));
      records += row.records;
    }
    const from = nextPeriodStart(by, start);
    if ((lines.length >= PAGE_LINES || records >= PAGE_RECORDS) && from < to) {
      return { kind: 'ok', text: lines.join(''), next: { from, afterRowid: null } };
    }
  }
  return { kind: 'ok', text: lines.join(''), next: null };
}

/** Worker job: a page of the sums over all records, of which a private copy may be what is read. */
export function totals({ source, known }: TotalsTask): TotalsOutcome {
  return withUsage(source, (database) => ({
    kind: 'ok',
    ...addTotals(database, identityOf(source.databasePath), known, TOTALS_RECORDS),
  }));
}

/** Runs `job` on the database, open for as long as that takes. Failures are values: between processes errors lose what they are. */
function withUsage<Outcome>(
  source: UsageSource,
  job: (database: Database.Database) => Outcome,
): Outcome | UsageFailure {
  try {
    const usage = openUsage(source);
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
