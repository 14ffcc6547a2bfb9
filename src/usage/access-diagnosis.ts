import { randomUUID } from 'node:crypto';
import { accessSync, constants, rmSync, statSync } from 'node:fs';
import type { Stats } from 'node:fs';
import { dirname } from 'node:path';
import Database from 'better-sqlite3';
import { errorCode } from '../process/errors.ts';

/** Codes of SQLite and of the file system for a database that can't be written. */
const ACCESS_CODES = /^(?:SQLITE_(?:CANTOPEN|READONLY|PERM)|EACCES|EROFS)/u;

/**
 * Finds out why this process can't write the database at `path`, and what the operator can do, in one
 * sentence; null for other errors.
 */
export function diagnoseWriteFailure(path: string, error: unknown): string | null {
  // better-sqlite3 checks the directory itself and throws a TypeError.
  return ACCESS_CODES.test(errorCode(error)) || error instanceof TypeError ? diagnoseAccess(path) : null;
}

function diagnoseAccess(path: string): string {
  const directory = dirname(path);
  const unsearchable = findUnsearchableDirectory(directory);
  const directoryOwner = statOrUndefined(directory)?.uid;
  if (unsearchable === directory && directoryOwner !== undefined)
    return describeOwner(directory, directoryOwner, 'EACCES');
  if (unsearchable !== null) {
    return `this process may not access "${unsearchable}"; give user ${processUid()} access to that directory, or use another directory`;
  }
  if (statOrUndefined(directory)?.isDirectory() !== true) return `there is no directory "${directory}"`;
  if (statOrUndefined(path)?.isDirectory() === true) return 'it is a directory';
  // SQLite writes these files, and creates and removes all but the first in that directory.
  const needed = [path, `${path}-wal`, `${path}-shm`, `${path}-journal`, directory];
  for (const name of needed) {
    const owner = statOrUndefined(name)?.uid;
    const code = owner === undefined ? null : accessErrorCode(name, constants.W_OK);
    if (owner !== undefined && code !== null) return describeOwner(name, owner, code);
  }
  return "SQLite can't open it, although this process may write it";
}

function describeOwner(what: string, owner: number, code: string): string {
  if (code === 'EROFS') return `"${what}" is on a file system that is mounted read-only`;
  const own = processUid();
  return own === owner
    ? `this process may not write "${what}"; check its permissions`
    : `"${what}" belongs to user ${owner}, but this process runs as user ${own}; run "chown -R ${own} DIR" with the directory on the host, or start as user ${owner}`;
}

/** The uppermost directory of `path`, itself included, that this process has no search permission for. */
function findUnsearchableDirectory(path: string): string | null {
  const parent = dirname(path);
  const above = parent === path ? null : findUnsearchableDirectory(parent);
  if (above !== null) return above;
  const isUnsearchable =
    statOrUndefined(path)?.isDirectory() === true && accessErrorCode(path, constants.X_OK) !== null;
  return isUnsearchable ? path : null;
}

/** A number, because the uid of a container may have no name. */
function processUid(): number | undefined {
  return statOrUndefined('/proc/self')?.uid;
}

/** The error code of an access check; null if access is allowed. */
function accessErrorCode(path: string, mode: number): string | null {
  try {
    accessSync(path, mode);
    return null;
  } catch (error) {
    return errorCode(error);
  }
}

/** Undefined if the path does not exist or is not accessible. */
function statOrUndefined(path: string): Stats | undefined {
  try {
    return statSync(path, { throwIfNoEntry: false });
  } catch {
    return undefined;
  }
}

/** SQLite's codes for a failed lock. Some of them are also caused by another program's lock. */
const LOCK_CODES = /^SQLITE_(?:BUSY|PERM|IOERR_(?:LOCK|RDLOCK|UNLOCK|CHECKRESERVEDLOCK))/u;

/** The code for another program's lock. File systems without locks cause it too. */
const BUSY_CODE = /^SQLITE_BUSY/u;

const LOCKS_UNSUPPORTED =
  'the file system does not support file locks: mount it with locks (CIFS: nobrl, NFS: local_lock=all), or keep the database on a local disk';

const LOCKED_BY_OTHER = 'another program keeps the database locked';

/**
 * Finds out why SQLite could not lock the database, in a sentence for the operator; null for other errors. As
 * a test, it locks a temporary file in the same directory, which no other program can have locked.
 *
 * @param path of the database
 * @param code SQLite's error code
 */
export function diagnoseLockFailure(path: string, code: string): string | null {
  if (!LOCK_CODES.test(code)) return null;
  const isSupported = supportsLocks(`${path}.lock-test-${randomUUID()}`);
  if (isSupported === false) return LOCKS_UNSUPPORTED;
  return isSupported === true && BUSY_CODE.test(code) ? LOCKED_BY_OTHER : null;
}

/** Null if the test file can't be created. */
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
