import { randomUUID } from 'node:crypto';
import { accessSync, constants, rmSync, statSync } from 'node:fs';
import type { Stats } from 'node:fs';
import { dirname } from 'node:path';
import Database from 'better-sqlite3';
import { errorCode } from '../process/error-code.ts';

/** What keeps this process from writing a database, and what the operator can do about it, in one sentence. */
export function diagnoseWriteFailure(path: string): string {
  const directory = dirname(path);
  const closed = findUnsearchableDirectory(directory);
  const itsOwner = statOrUndefined(directory)?.uid;
  if (closed === directory && itsOwner !== undefined) return describeOwner(directory, itsOwner, 'EACCES');
  if (closed !== null) {
    return `this process may not look into "${closed}"; open that directory to user ${processUid()}, or keep the database elsewhere`;
  }
  if (statOrUndefined(directory)?.isDirectory() !== true) return `there is no directory "${directory}"`;
  if (statOrUndefined(path)?.isDirectory() === true) return 'it is a directory';
  // SQLite writes into these files, and makes and removes all but the first in that directory.
  const needed = [path, `${path}-wal`, `${path}-shm`, `${path}-journal`, directory];
  for (const name of needed) {
    const owner = statOrUndefined(name)?.uid;
    const rejection = owner === undefined ? null : accessErrorCode(name, constants.W_OK);
    if (owner !== undefined && rejection !== null) return describeOwner(name, owner, rejection);
  }
  return 'SQLite can not open it, though this process may write it';
}

function describeOwner(what: string, owner: number, rejection: string): string {
  if (rejection === 'EROFS') return `"${what}" is on a file system that is mounted read-only`;
  const own = processUid();
  return own === owner
    ? `this process may not write "${what}"; check its permissions`
    : `"${what}" belongs to user ${owner}, and this process runs as user ${own}; run "chown -R ${own} DIR", DIR being what the host has there, or start as user ${owner}`;
}

/** The uppermost directory on the way to `path`, and with it, that this process may not look into. */
function findUnsearchableDirectory(path: string): string | null {
  const above = dirname(path);
  const closedAbove = above === path ? null : findUnsearchableDirectory(above);
  if (closedAbove !== null) return closedAbove;
  const isClosed =
    statOrUndefined(path)?.isDirectory() === true && accessErrorCode(path, constants.X_OK) !== null;
  return isClosed ? path : null;
}

/** Not by name: the uid that a container was given need not have one. */
function processUid(): number | undefined {
  return statOrUndefined('/proc/self')?.uid;
}

/** The code of the error that this process would get; null for none. */
function accessErrorCode(path: string, mode: number): string | null {
  try {
    accessSync(path, mode);
    return null;
  } catch (error) {
    return errorCode(error);
  }
}

/** Undefined where it is not there, and where this process may not look. */
function statOrUndefined(path: string): Stats | undefined {
  try {
    return statSync(path, { throwIfNoEntry: false });
  } catch {
    return undefined;
  }
}

/** SQLite's codes for a lock that it did not get. Some of them come from another program's lock, too. */
const LOCK_CODES = /^SQLITE_(?:BUSY|PERM|IOERR_(?:LOCK|RDLOCK|UNLOCK|CHECKRESERVEDLOCK))/u;

/** The code of a lock that another program has. File systems without locks have it too. */
const BUSY_CODE = /^SQLITE_BUSY/u;

const LOCKS_UNSUPPORTED =
  'the file system does not support file locks: mount it with locks (CIFS: nobrl, NFS: local_lock=all), or keep the database on a local disk';

const LOCKED_BY_OTHER = 'another program keeps the database locked';

/**
 * Why SQLite did not get a lock, in a sentence for the operator; null for an error of another kind. To find out, it locks a file of
 * its own in the same directory, which nothing else can have locked.
 *
 * @param path of the database
 * @param code SQLite's
 */
export function diagnoseLockFailure(path: string, code: string): string | null {
  if (!LOCK_CODES.test(code)) return null;
  const works = supportsLocks(`${path}.lock-test-${randomUUID()}`);
  if (works === false) return LOCKS_UNSUPPORTED;
  return works === true && BUSY_CODE.test(code) ? LOCKED_BY_OTHER : null;
}

/** Null where there can be no file to try it with. */
function supportsLocks(path: string): boolean | null {
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
