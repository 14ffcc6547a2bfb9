import type { Database } from 'better-sqlite3';
import { MOODS } from '../protocol/messages.ts';

/** Records deleted per transaction: a few milliseconds of work. */
const BATCH_RECORDS = 1000;

/** Free pages that are kept for new records. Further free pages are returned to the file system. */
const RESERVED_FREE_PAGES = 1000;

/** Maximum number of pages returned after one batch: 2 MiB, which SQLite may have to move first. */
const MAX_VACUUM_PAGES = 500;

/** SQLite's number for `auto_vacuum = INCREMENTAL`. It is set when a database is created, or by VACUUM. */
const AUTO_VACUUM_INCREMENTAL = 2;

const EXPIRED_BATCH = 'FROM usage WHERE started < @before ORDER BY started, rowid LIMIT @limit';

// SQLite sorts values of other types after all numbers: such records are kept, and such bytes are not
// counted.
const ADD_TOTALS = `
  INSERT INTO usage_deleted (result, records, total_bytes, last_rowid)
  SELECT CASE WHEN result IN (${MOODS.map((mood) => `'${mood}'`).join(', ')}) THEN result ELSE 'other' END AS mood,
    COUNT(*), CAST(TOTAL(total_bytes) FILTER (WHERE total_bytes > 0 AND total_bytes < 9e999) AS INTEGER), MAX(id)
  FROM (SELECT rowid AS id, result, total_bytes ${EXPIRED_BATCH}) WHERE true GROUP BY mood
  ON CONFLICT (result) DO UPDATE SET records = records + excluded.records,
    total_bytes = total_bytes + excluded.total_bytes, last_rowid = max(last_rowid, excluded.last_rowid)`;

const DELETE = `DELETE FROM usage WHERE rowid IN (SELECT rowid ${EXPIRED_BATCH})`;

/** Totals of deleted records by mood, for sums over all time. Created with the first deletion. */
const CREATE = `CREATE TABLE IF NOT EXISTS usage_deleted (
  result VARCHAR PRIMARY KEY, records INTEGER, total_bytes INTEGER, last_rowid INTEGER
)`;

export interface Deletion {
  readonly records: number;
  /** False if there are more records to delete, or more pages to return. */
  readonly isComplete: boolean;
}

/**
 * Deletes one batch of records that started before a time, and keeps their totals.
 *
 * @param before seconds since the epoch
 * @throws SqliteError
 */
export function deleteRecords(database: Database, before: number): Deletion {
  const deleteBatch = database.transaction((): number => {
    const chosen = { before, limit: BATCH_RECORDS };
    if (database.prepare(`SELECT 1 FROM usage WHERE started < ? LIMIT 1`).get(before) === undefined) return 0;
    database.exec(CREATE);
    database.prepare(ADD_TOTALS).run(chosen);
    return database.prepare(DELETE).run(chosen).changes;
  });
  const records = deleteBatch.immediate();
  const isVacuumed = vacuumFreePages(database);
  return { records, isComplete: records < BATCH_RECORDS && isVacuumed };
}

/** False if there are more pages to return. */
function vacuumFreePages(database: Database): boolean {
  if (readPragma(database, 'auto_vacuum') !== AUTO_VACUUM_INCREMENTAL) return true;
  const free = readPragma(database, 'freelist_count') - RESERVED_FREE_PAGES;
  if (free <= 0) return true;
  database.pragma(`incremental_vacuum(${Math.min(free, MAX_VACUUM_PAGES)})`);
  return free <= MAX_VACUUM_PAGES;
}

function readPragma(database: Database, name: string): number {
  return Number(database.pragma(name, { simple: true }));
}

/** Totals of deleted records. */
export interface DeletedTotals {
  /** By mood, or `other`. */
  readonly records: ReadonlyMap<string, number>;
  readonly bytes: number;
  /** Number of deleted records. It grows with each deletion. */
  readonly count: number;
  /** The highest rowid among them. */
  readonly lastRowid: bigint | null;
}

const FIND_TABLE = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'usage_deleted'";

// Works for databases that other programs have written, too.
const READ = `SELECT substr(CAST(result AS TEXT), 1, 100) AS result, CAST(records AS INTEGER) AS records,
  CAST(total_bytes AS REAL) AS bytes, CAST(last_rowid AS INTEGER) AS lastRowid
  FROM usage_deleted LIMIT ${MOODS.length + 1}`;

interface DeletedTotalsRow {
  readonly result: string | null;
  readonly records: bigint | null;
  readonly bytes: number | null;
  readonly lastRowid: bigint | null;
}

/**
 * Reads the totals of deleted records. `hasSchema` must be true for `database`.
 *
 * @throws SqliteError
 */
export function readDeletedTotals(database: Database): DeletedTotals {
  const records = new Map<string, number>();
  let [bytes, count] = [0, 0];
  let lastRowid: bigint | null = null;
  const exists = database.prepare(FIND_TABLE).get() !== undefined;
  const rows = exists ? database.prepare<[], DeletedTotalsRow>(READ).safeIntegers().all() : [];
  for (const row of rows) {
    const ofMood = Math.max(0, Number(row.records ?? 0));
    records.set(row.result ?? 'other', ofMood);
    count += ofMood;
    bytes += Math.min(Math.max(0, row.bytes ?? 0), Number.MAX_VALUE);
    if (row.lastRowid !== null && (lastRowid === null || row.lastRowid > lastRowid))
      lastRowid = row.lastRowid;
  }
  return { records, bytes: Math.min(bytes, Number.MAX_VALUE), count, lastRowid };
}
