import type { UsageRow } from '../api.ts';
import type { JobRunner } from '../job-pool.ts';
import type { CsvGranularity, CsvOutcome, CsvTask, UsageFailure } from './usage-job.ts';
import { endOfCurrentSecond } from './usage-params.ts';
import type { UsageRange } from './usage-params.ts';
import type { RecordPosition, RecordRow } from './usage-query.ts';
import type { UsageSource } from './usage-source.ts';

const PERIOD_COLUMNS = ['start', 'mood', 'records', 'total_bytes', 'total_time', 'waiting_time'] as const;

const RECORD_COLUMNS = ['started', 'total_time', 'waiting_time', 'total_bytes', 'mood'] as const;

/** The database could not be read, at the start or later. The message is a sentence for the operator. */
export class UsageCsvError extends Error {
  readonly state: UsageFailure['state'];

  constructor({ state, problem }: UsageFailure) {
    super(problem);
    this.state = state;
  }
}

export interface UsageCsvOptions {
  readonly source: UsageSource;
  readonly pool: JobRunner<'csvPage'>;
  readonly range: UsageRange<CsvGranularity>;
  /** The end of a range without `to`, in milliseconds since the epoch. */
  readonly nowMs: number;
  /** Ends the stream with an AbortError. The current page is read to its end, which does not take long. */
  readonly signal: AbortSignal;
}

/**
 * The lines of a range as CSV (RFC 4180), in pages of some 100 kB. The first page begins with the header.
 * Each page is read on demand, and the database is closed between pages.
 *
 * @throws UsageCsvError if the database can't be read, also after the first page
 */
export async function* streamUsageCsv(options: UsageCsvOptions): AsyncGenerator<string, void, undefined> {
  const { source, pool, range, signal } = options;
  const to = range.to ?? endOfCurrentSecond(options.nowMs);
  let position: RecordPosition | null = { from: range.from, afterRowid: null };
  let header = toLine(range.by === 'record' ? RECORD_COLUMNS : PERIOD_COLUMNS);
  while (position !== null) {
    const task: CsvTask = { source, by: range.by, position, to };
    const page: CsvOutcome = await pool.run('csvPage', task, { signal });
    if (page.kind === 'failed') throw new UsageCsvError(page);
    const text = header + page.text;
    if (text !== '') yield text;
    header = '';
    position = page.next;
  }
}

export function toPeriodLine(row: UsageRow): string {
  return toLine(PERIOD_COLUMNS.map((column) => row[column]));
}

export function toRecordLine(row: RecordRow): string {
  return toLine(RECORD_COLUMNS.map((column) => row[column]));
}

function toLine(cells: readonly (string | number | null)[]): string {
  return `${cells.map(toCell).join(',')}\r\n`;
}

/** Characters that make a spreadsheet evaluate a text, or that it ignores before a formula. */
// oxlint-disable-next-line no-control-regex
const FORMULA_PREFIX = /^[=+\-@\u0000-\u001f\u007f]/u;

function toCell(value: string | number | null): string {
  if (typeof value !== 'string') return value === null ? '' : String(value);
  const text = FORMULA_PREFIX.test(value) ? `'${value}` : value;
  return /[",\r\n]/u.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
