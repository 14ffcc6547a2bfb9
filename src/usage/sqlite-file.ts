import { statSync } from 'node:fs';
import type { Database } from 'better-sqlite3';

/** How every SQLite file begins. */
const MAGIC = Buffer.from('SQLite format 3\0');

/** What SQLite may put beside a database, and the database itself: each follows the path. */
export const FILE_SUFFIXES = ['', '-wal', '-shm', '-journal'] as const;

/** Whether a file that begins with `header` is an SQLite database. */
export function isSqlite(header: Buffer): boolean {
  return header.subarray(0, MAGIC.length).equals(MAGIC);
}

/**
 * Runs SQLite's check, which reads every page and every record. `integrity_check` compares the indexes with the
 * table besides, which takes six times as long (5.7 s against 0.95 s for 10 million records) and finds nothing that a
 * copy page by page could have done.
 *
 * @returns what it says, in one line; null when all is well
 * @throws SqliteError
 */
export function quickCheck(database: Database): string | null {
  // Constraints are code of the file's author; nothing that was copied page by page has to be tested against them.
  database.pragma('trusted_schema = OFF');
  database.pragma('ignore_check_constraints = ON');
  const verdict = database.pragma('quick_check(1)', { simple: true });
  return verdict === 'ok' ? null : `SQLite's check says "${String(verdict).replaceAll('\n', ' ')}"`;
}

/** What stands for a name under which there is no file, or none that this process may see. */
const NO_FILE = 'none';

/**
 * Which file has this name now. A name that is given to another file, or to one that is made anew, has another identity;
 * one that is written to keeps its own.
 */
export function readFileIdentity(path: string): string {
  try {
    const stat = statSync(path, { bigint: true, throwIfNoEntry: false });
    return stat === undefined ? NO_FILE : `${stat.dev}:${stat.ino}`;
  } catch {
    return NO_FILE;
  }
}
