import type { Database } from 'better-sqlite3';
import { MOODS } from '../../protocol/messages.ts';
import type { Mood } from '../../protocol/messages.ts';
import { readDeletedTotals } from '../../usage/retention.ts';
import type { DeletedTotals } from '../../usage/retention.ts';
import type { JobRunner } from '../job-pool.ts';
import type { TotalsOutcome, TotalsTask } from './usage-job.ts';
import type { UsageSource } from './usage-source.ts';

/** A mood, or whatever else a foreign database may say. */
export type TotalsMood = Mood | 'other';

export const TOTALS_MOODS: readonly TotalsMood[] = [...MOODS, 'other'];

/** Sums over records. */
export interface RecordTotals {
  readonly records: Readonly<Record<TotalsMood, number>>;
  readonly bytes: number;
}

/** Sums over all records up to one of them, and how to know that they still hold. */
export interface RecordTotalsState extends RecordTotals {
  /** Which file it was, as `identityOf` tells. */
  readonly file: string;
  /** The last record that is in the sums; null where there was none. Its content tells it from one that took its place. */
  readonly last: { readonly rowid: bigint; readonly content: string } | null;
  /** How many records had been deleted then. Their totals are in the sums. */
  readonly deletedCount: number;
}

export const NO_TOTALS: RecordTotals = {
  records: { happy: 0, lonely: 0, redundant: 0, impatient: 0, errory: 0, empty: 0, other: 0 },
  bytes: 0,
};

/**
 * Records that are summed by one statement, in some 5 ms: for as long its transaction keeps the relay from reusing
 * its write-ahead log.
 */
const WINDOW_RECORDS = 20_000;

// An integer key, and no index on anything else: records are read in the order in which they were written. Values that are
// no numbers are greater than all numbers to SQLite, and infinity is not below itself.
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
 * Adds to `known` what has been written since, in windows, until `limit` records have been read. Starts over with the totals of deleted
 * records when `known` is of another file, or when its last record is gone or another one: the table is not what was summed.
 * It also starts over when records were deleted that had not been read.
 *
 * @param file which file `database` is, as `identityOf` tells
 * @returns `isComplete` false: there may be more records
 * @throws SqliteError when the database can't be read
 */
export function addTotals(
  database: Database,
  file: string,
  known: RecordTotalsState | null,
  limit: number,
): { readonly state: RecordTotalsState; readonly isComplete: boolean } {
  const content = database.prepare<[bigint], string>(CONTENT_QUERY).pluck();
  const last = known?.last ?? null;
  const holds = known?.file === file && last !== null && content.get(last.rowid) === last.content;
  // A rowid may be a whole number of 64 bits.
  const windows = database.prepare<[bigint], WindowRow>(WINDOW_QUERY).safeIntegers();
  const sums = new TotalsAccumulator();
  if (holds && known !== null) sums.resume(known, last.rowid);
  let isComplete = false;
  for (let read = 0; read < limit && !isComplete; read += WINDOW_RECORDS) {
    // Both as they are at one moment.
    const count = database.transaction(() => {
      sums.applyDeletions(readDeletedTotals(database));
      return sums.add(windows.get(sums.rowid));
    })();
    isComplete = count < WINDOW_RECORDS;
  }
  const { rowid, records, bytes, deleted } = sums;
  // Should it have been removed just now, no content is the same as none, and the next time begins anew.
  const newLast = rowid === FIRST_ROWID ? null : { rowid, content: content.get(rowid) ?? '' };
  return {
    state: { file, last: newLast, records: { ...records }, bytes, deletedCount: deleted },
    isComplete,
  };
}

class TotalsAccumulator {
  /** Of the last record that is in the sums. */
  rowid = FIRST_ROWID;
  records: Record<TotalsMood, number> = { ...NO_TOTALS.records };
  bytes = 0;
  deleted = 0;

  resume({ records, bytes, deletedCount: deleted }: RecordTotalsState, rowid: bigint): void {
    this.rowid = rowid;
    this.records = { ...records };
    this.bytes = bytes;
    this.deleted = deleted;
  }

  /** Deleted records that were read before are in the sums already. */
  applyDeletions(now: DeletedTotals): void {
    const isRead = now.count >= this.deleted && (now.lastRowid === null || now.lastRowid <= this.rowid);
    const isFirst = this.rowid === FIRST_ROWID;
    if (isFirst || (now.count !== this.deleted && !isRead)) {
      this.rowid = FIRST_ROWID;
      this.bytes = now.bytes;
      this.records = { ...NO_TOTALS.records };
      for (const mood of TOTALS_MOODS) this.records[mood] = now.records.get(mood) ?? 0;
    }
    this.deleted = now.count;
  }

  /** @returns how many records there were */
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
  /** Where the jobs run; it stays the caller's. */
  readonly pool: JobRunner<'totals'>;
  /** Something in this program is wrong; the next `refresh` tries again. */
  readonly onInternalError: (error: unknown) => void;
}

/**
 * Sums over all records, for which each record is read once: the first time that takes seconds where there are
 * millions, and then next to nothing. One job runs at a time, a page long, so that questions get their turn.
 */
export class UsageTotals {
  readonly #options: UsageTotalsOptions;
  readonly #closing = new AbortController();
  /** How far the reading is. */
  #state: RecordTotalsState | null = null;
  #current: RecordTotals = NO_TOTALS;
  #reading: Promise<boolean> | null = null;

  constructor(options: UsageTotalsOptions) {
    this.#options = options;
  }

  /**
   * As of the last time that all had been read; zeros until then. They grow, and begin anew with a table that is
   * not the one that was read before.
   */
  get current(): RecordTotals {
    return this.#current;
  }

  /**
   * Reads what is new. Never rejects.
   *
   * @returns whether the database can be read, which is known when a page of it was: where there are more, reading goes
   * on by itself
   */
  refresh(): Promise<boolean> {
    this.#reading ??= this.#readPage();
    return this.#reading;
  }

  /** Ends what runs, and resolves when it has ended. */
  async close(): Promise<void> {
    this.#closing.abort();
    await this.#reading;
  }

  async #readPage(): Promise<boolean> {
    const { source, pool, onInternalError: fault } = this.#options;
    const task: TotalsTask = { source, known: this.#state };
    const { signal } = this.#closing;
    let isMore = false;
    try {
      const outcome: TotalsOutcome = await pool.run('totals', task, { signal });
      if (outcome.kind === 'failed') return false;
      this.#state = outcome.state;
      isMore = !outcome.isComplete;
      // What is not whole yet would look as if all these records were made just now.
      if (outcome.isComplete) this.#current = outcome.state;
      return true;
    } catch (error) {
      if (!signal.aborted) fault(error);
      return false;
    } finally {
      this.#reading = null;
      if (isMore && !signal.aborted) void this.refresh();
    }
  }
}
