import type { Database } from 'better-sqlite3';
import { MOODS } from '../../protocol/messages.ts';
import type { Mood } from '../../protocol/messages.ts';
import { readDeletedTotals } from '../../usage/retention.ts';
import type { DeletedTotals } from '../../usage/retention.ts';
import type { JobRunner } from '../job-pool.ts';
import type { TotalsOutcome, TotalsTask } from './usage-job.ts';
import type { UsageSource } from './usage-source.ts';

/** A mood, or any other value from a foreign database. */
export type TotalsMood = Mood | 'other';

export const TOTALS_MOODS: readonly TotalsMood[] = [...MOODS, 'other'];

/** Sums over records. */
export interface RecordTotals {
  readonly records: Readonly<Record<TotalsMood, number>>;
  readonly bytes: number;
}

/** Sums over all records up to the last one, with the data to check that they are still valid. */
export interface RecordTotalsState extends RecordTotals {
  /** Identity of the file, from `readFileIdentity`. */
  readonly file: string;
  /** The last record in the sums; null if there is none. Its content shows whether it was replaced. */
  readonly last: { readonly rowid: bigint; readonly content: string } | null;
  /** Number of records deleted so far. Their totals are in the sums. */
  readonly deletedCount: number;
}

export const NO_TOTALS: RecordTotals = {
  records: { happy: 0, lonely: 0, redundant: 0, impatient: 0, errory: 0, empty: 0, other: 0 },
  bytes: 0,
};

/** Records per statement, about 5 ms. During its transaction the relay can't restart its write-ahead log. */
const WINDOW_RECORDS = 20_000;

// Records are read by rowid, in the order of writing. SQLite sorts values of other types after all numbers,
// and infinity is not below itself.
const WINDOW_QUERY = `
  SELECT COUNT(*) AS records, MAX(rowid) AS last,
    TOTAL(total_bytes) FILTER (WHERE total_bytes > 0 AND total_bytes < 9e999) AS bytes
    ${MOODS.map((mood) => `, COUNT(*) FILTER (WHERE result = '${mood}') AS ${mood}`).join('')}
  FROM (SELECT rowid, total_bytes, result FROM usage WHERE rowid > ? ORDER BY rowid LIMIT ${WINDOW_RECORDS})`;

const FIRST_ROWID = -(2n ** 63n);

const CONTENT_QUERY = `
  SELECT quote(started) || ' ' || quote(total_time) || ' ' || quote(waiting_time) || ' ' || quote(total_bytes)
    || ' ' || substr(quote(result), 1, 100)
  FROM usage WHERE rowid = ?`;

type WindowRow = Readonly<Record<Mood | 'records' | 'last' | 'bytes', bigint | number | null>>;

/**
 * Adds new records to `known`, in windows, until `limit` records have been read. Starts over with the totals
 * of deleted records if `known` is of another file, or if its last record is missing or different, so that
 * the table is not the one that was summed. It also starts over if records were deleted before they were
 * read.
 *
 * @param file identity of `database`, from `readFileIdentity`
 * @returns `isComplete` is false if there may be more records
 * @throws SqliteError if the database can't be read
 */
export function addTotals(
  database: Database,
  file: string,
  known: RecordTotalsState | null,
  limit: number,
): { readonly state: RecordTotalsState; readonly isComplete: boolean } {
  const content = database.prepare<[bigint], string>(CONTENT_QUERY).pluck();
  const last = known?.last ?? null;
  const isValid = known?.file === file && last !== null && content.get(last.rowid) === last.content;
  const sums = new TotalsAccumulator(isValid ? known : null);
  // A rowid may be any 64-bit integer.
  const windows = database.prepare<[bigint], WindowRow>(WINDOW_QUERY).safeIntegers();
  let isComplete = false;
  for (let read = 0; read < limit && !isComplete; read += WINDOW_RECORDS) {
    // Deletions and records are read in one transaction.
    const count = database.transaction(() => {
      sums.applyDeletions(readDeletedTotals(database));
      return sums.add(windows.get(sums.rowid));
    })();
    isComplete = count < WINDOW_RECORDS;
  }
  const { rowid, records, bytes, deletedCount } = sums;
  // If the record was removed just now, the content is empty and the next call starts over.
  const newLast = rowid === FIRST_ROWID ? null : { rowid, content: content.get(rowid) ?? '' };
  return { state: { file, last: newLast, records, bytes, deletedCount }, isComplete };
}

class TotalsAccumulator {
  /** Rowid of the last record in the sums. */
  rowid: bigint;
  readonly records: Record<TotalsMood, number>;
  bytes: number;
  deletedCount: number;

  /** @param known the sums to continue; null to start over */
  constructor(known: RecordTotalsState | null) {
    this.rowid = known?.last?.rowid ?? FIRST_ROWID;
    this.records = { ...(known ?? NO_TOTALS).records };
    this.bytes = known?.bytes ?? 0;
    this.deletedCount = known?.deletedCount ?? 0;
  }

  /** The sums already contain deleted records that had been read before. */
  applyDeletions(now: DeletedTotals): void {
    const isRead = now.count >= this.deletedCount && (now.lastRowid === null || now.lastRowid <= this.rowid);
    const isFirst = this.rowid === FIRST_ROWID;
    if (isFirst || (now.count !== this.deletedCount && !isRead)) {
      this.rowid = FIRST_ROWID;
      this.bytes = now.bytes;
      for (const mood of TOTALS_MOODS) this.records[mood] = now.records.get(mood) ?? 0;
    }
    this.deletedCount = now.count;
  }

  /** @returns the number of records */
  add(window: WindowRow | undefined): number {
    if (window === undefined || typeof window.last !== 'bigint') return 0;
    const count = Number(window.records ?? 0);
    this.rowid = window.last;
    this.bytes = Math.min(this.bytes + Number(window.bytes), Number.MAX_VALUE);
    this.records.other += count;
    for (const mood of MOODS) {
      this.records[mood] += Number(window[mood]);
      this.records.other -= Number(window[mood]);
    }
    return count;
  }
}

export interface UsageTotalsOptions {
  readonly source: UsageSource;
  /** Runs the jobs. The caller closes it. */
  readonly pool: JobRunner<'totals'>;
  /** An internal error; the next `refresh` retries. */
  readonly onInternalError: (error: unknown) => void;
}

/**
 * Sums over all records. Each record is read once: the first time takes seconds for millions of records,
 * later updates take almost no time. One job runs at a time and reads one page, so that queries are not
 * delayed.
 */
export class UsageTotals {
  readonly #options: UsageTotalsOptions;
  readonly #closing = new AbortController();
  /** The sums of the records read so far. */
  #state: RecordTotalsState | null = null;
  #current: RecordTotals = NO_TOTALS;
  #reading: Promise<boolean> | null = null;

  constructor(options: UsageTotalsOptions) {
    this.#options = options;
  }

  /**
   * The sums when all records were last read; zeros before. They grow, and restart if the table was replaced.
   */
  get current(): RecordTotals {
    return this.#current;
  }

  /**
   * Reads new records. Never rejects.
   *
   * @returns whether the database can be read, after the first page; further pages are read in the background
   */
  refresh(): Promise<boolean> {
    this.#reading ??= this.#readPage();
    return this.#reading;
  }

  /** Aborts the running job, and resolves when it has ended. */
  async close(): Promise<void> {
    this.#closing.abort();
    await this.#reading;
  }

  async #readPage(): Promise<boolean> {
    const { source, pool, onInternalError } = this.#options;
    const task: TotalsTask = { source, known: this.#state };
    const { signal } = this.#closing;
    let isMore = false;
    try {
      const outcome: TotalsOutcome = await pool.run('totals', task, { signal });
      if (outcome.kind === 'failed') return false;
      this.#state = outcome.state;
      isMore = !outcome.isComplete;
      // Partial sums would look like a sudden increase.
      if (outcome.isComplete) this.#current = outcome.state;
      return true;
    } catch (error) {
      if (!signal.aborted) onInternalError(error);
      return false;
    } finally {
      this.#reading = null;
      if (isMore && !signal.aborted) void this.refresh();
    }
  }
}
