import { randomUUID } from 'node:crypto';
import { rmSync } from 'node:fs';
import Database from 'better-sqlite3';

/** SQLite's codes for a lock that it did not get. Some of them come from another program's lock, too. */
const LOCK_CODES = /^SQLITE_(?:BUSY|PERM|IOERR_(?:LOCK|RDLOCK|UNLOCK|CHECKRESERVEDLOCK))/u;

/** The code of a lock that another program has. File systems without locks have it too. */
const LOCKED_CODE = /^SQLITE_BUSY/u;

const NO_LOCKS =
  'the file system does not support file locks: mount it with locks (CIFS: nobrl, NFS: local_lock=all), or keep the database on a local disk';

const LOCKED = 'another program keeps the database locked';

/**
 * Why SQLite did not get a lock, in a sentence for the operator; null for an error of another kind. To find out, it locks a file of
 * its own in the same directory, which nothing else can have locked.
 *
 * @param path of the database
 * @param code SQLite's
 */
export function whyNotLocked(path: string, code: string): string | null {
  if (!LOCK_CODES.test(code)) return null;
  const works = locksWork(`${path}.lock-test-${randomUUID()}`);
  if (works === false) return NO_LOCKS;
  return works === true && LOCKED_CODE.test(code) ? LOCKED : null;
}

/** Null where there can be no file to try it with. */
function locksWork(path: string): boolean | null {
  let database: Database.Database | null = null;
  try {
    database = new Database(path, { timeout: 0 });
    database.exec('BEGIN EXCLUSIVE; COMMIT');
    return true;
  } catch (error) {
    return error instanceof Database.SqliteError && LOCK_CODES.test(error.code) ? false : null;
  } finally {
    database?.close();
    for (const suffix of ['', '-journal']) rmSync(`${path}${suffix}`, { force: true });
  }
}
