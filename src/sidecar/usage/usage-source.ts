import { accessSync, constants, statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import Database from 'better-sqlite3';
import { SchemaError, hasSchema, rejectVirtualTables } from '../../usage/schema.ts';
import { reasonForCode } from '../../usage/sqlite-file.ts';
import {
  CopyError,
  SourceChangedError,
  createCopy,
  findCopy,
  readJournalKind,
  removeCopies,
  statDatabaseFiles,
} from './usage-source-copy.ts';
import type { DatabaseFiles } from './usage-source-copy.ts';

/** Location of the relay's database. */
export interface UsageSource {
  readonly databasePath: string;
  /** Directory for a private copy, which some stopped databases need. It is created when needed. */
  readonly scratchDirectory: string;
}

/** The relay's database, open for reading. */
export interface OpenUsageDatabase {
  readonly database: Database.Database;
  /**
   * True if readers block the writer: the relay can't use a write-ahead log, or the database is the
   * reference's.
   */
  readonly blocksWriter: boolean;
}

/** The database can't be read. The message is a sentence for the operator. */
export class UsageSourceError extends Error {
  /**
   * `missing`: the relay has not written anything yet; `unreadable`: the file can't be read, at least not
   * now.
   */
  readonly kind: 'missing' | 'unreadable';

  constructor(kind: 'missing' | 'unreadable', message: string) {
    super(message);
    this.kind = kind;
  }
}

/** How long SQLite itself waits for a lock, in milliseconds. */
const BUSY_TIMEOUT_MS = 1000;

/** Attempts to open a database while a relay opens or closes it. */
const MAX_ATTEMPTS = 10;

/** Pause between two attempts, in milliseconds: as long as a relay takes to open or close its database. */
const RETRY_DELAY_MS = 20;

/**
 * Opens the relay's database for reading. It never writes to it or beside it. Close it soon: during a read
 * the relay can't restart its write-ahead log, which grows.
 *
 * Most databases are read in place: of a running relay, of a killed one with both its log files, and of a
 * relay that stopped cleanly, which leaves a single file with a rollback journal. Two kinds are read from a
 * private copy:
 *
 * - a write-ahead log without its shared memory. SQLite can't open it in a read-only directory; in a
 *   writable one it would create files whose owner may not be the relay's user. A clean stop leaves this if
 *   the database was being read.
 * - a hot rollback journal of a killed writer, which only a writer can roll back.
 *
 * If a relay stops exactly while the database is opened, SQLite may still write beside it. Therefore the
 * sidecar should have read-only access to the directory.
 *
 * It blocks on disks and locks, so call it only in processes that may block.
 *
 * @throws UsageSourceError
 */
export function openUsageDatabase(source: UsageSource): OpenUsageDatabase {
  const path = resolve(source.databasePath);
  for (let attempt = 1; ; attempt += 1) {
    try {
      return openOnce(path, resolve(source.scratchDirectory));
    } catch (error) {
      if (attempt === MAX_ATTEMPTS || !isTransient(error)) throw toUsageSourceError(path, error);
      sleepSync(RETRY_DELAY_MS);
    }
  }
}

/** Converts an error from reading the database at `path` to a sentence for the operator. */
export function toUsageSourceError(path: string, error: unknown): UsageSourceError {
  if (error instanceof UsageSourceError) return error;
  if (error instanceof CopyError) return new UsageSourceError('unreadable', error.message);
  if (error instanceof SourceChangedError) return unreadableError(path, 'it keeps changing; try again');
  if (error instanceof SchemaError) {
    return unreadableError(path, `${error.message}; set SIDECAR_USAGE_DB to the relay's RELAY_USAGE_DB`);
  }
  if (error instanceof Database.SqliteError) {
    const why = reasonForCode(SQLITE_REASONS, error.code);
    if (why !== undefined) return unreadableError(path, why);
    if (!error.code.startsWith('SQLITE_CANTOPEN')) return unreadableError(path, `SQLite says ${error.code}`);
  }
  return diagnoseOpenFailure(path, error);
}

const NOT_A_DATABASE = 'it is not an SQLite database';

/** SQLite's codes with a clear meaning, with a description for the operator. */
const SQLITE_REASONS: Readonly<Record<string, string>> = {
  SQLITE_BUSY: 'another program has locked it; try again',
  SQLITE_NOTADB: NOT_A_DATABASE,
  SQLITE_CORRUPT: 'the file is corrupt; consider replacing it with a snapshot',
  SQLITE_IOERR: 'disk error; check the disk and its mount',
};

/** SQLite's codes for a database whose files were created or removed while it was opened. */
const TRANSIENT_ERROR = /^SQLITE_(?:CANTOPEN|READONLY|PROTOCOL|SCHEMA)/u;

function sleepSync(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT)), 0, 0, ms);
}

function isTransient(error: unknown): boolean {
  return (
    error instanceof SourceChangedError ||
    (error instanceof Database.SqliteError && TRANSIENT_ERROR.test(error.code))
  );
}

function openOnce(path: string, scratch: string): OpenUsageDatabase {
  const files = statDatabaseFiles(path);
  if (files.main === null) throw missingDatabaseError(path);
  if (!files.main.isFile())
    throw new UsageSourceError('unreadable', `the usage database "${path}" is not a file`);
  if (files.main.size === 0n) throw emptyDatabaseError(path);
  // A write-ahead log with its shared memory: the relay runs or was killed. SQLite handles both.
  if (files.wal !== null && files.shm !== null) {
    removeCopies(scratch, null);
    return openFile(path, path, false);
  }
  const copy = findCopy(scratch, files);
  if (copy !== null) return openFile(copy, path, false);
  accessSync(path, constants.R_OK);
  switch (readJournalKind(path)) {
    case 'write-ahead log':
      return openCopy(path, files, scratch);
    case 'rollback journal':
      return openWithJournal(path, files, scratch);
    case 'no database':
      throw unreadableError(path, NOT_A_DATABASE);
  }
}

function openWithJournal(path: string, files: DatabaseFiles, scratch: string): OpenUsageDatabase {
  try {
    const opened = openFile(path, path, true);
    removeCopies(scratch, null);
    return opened;
  } catch (error) {
    // The writer was killed during a transaction, which only a writer can roll back.
    const isHotJournal = error instanceof Database.SqliteError && files.journal !== null;
    if (isHotJournal && error.code !== 'SQLITE_BUSY') return openCopy(path, files, scratch);
    throw error;
  }
}

function openCopy(path: string, files: DatabaseFiles, scratch: string): OpenUsageDatabase {
  return openFile(createCopy(path, files, scratch), path, false);
}

/** @param path of the original, for error messages */
function openFile(file: string, path: string, blocksWriter: boolean): OpenUsageDatabase {
  const database = new Database(file, { readonly: true, fileMustExist: true, timeout: BUSY_TIMEOUT_MS });
  try {
    // An inconsistent page causes an error instead of returning arbitrary data.
    database.pragma('cell_size_check = ON');
    if (!hasSchema(database)) throw emptyDatabaseError(path);
    rejectVirtualTables(database);
  } catch (error) {
    database.close();
    throw error;
  }
  return { database, blocksWriter };
}

function missingDatabaseError(path: string): UsageSourceError {
  return new UsageSourceError(
    'missing',
    `there is no usage database "${path}" yet: start the relay, or set SIDECAR_USAGE_DB to its RELAY_USAGE_DB`,
  );
}

function emptyDatabaseError(path: string): UsageSourceError {
  return new UsageSourceError(
    'missing',
    `the usage database "${path}" has no usage tables: the relay has not written to it yet`,
  );
}

function unreadableError(path: string, why: string): UsageSourceError {
  return new UsageSourceError('unreadable', `can't read the usage database "${path}": ${why}`);
}

function diagnoseOpenFailure(path: string, error: unknown): UsageSourceError {
  for (const needed of [dirname(path), path]) {
    try {
      accessSync(needed, needed === path ? constants.R_OK : constants.X_OK);
    } catch (reason) {
      if (!(reason instanceof Error) || !('code' in reason)) throw reason;
      if (reason.code === 'ENOENT' || reason.code === 'ENOTDIR') return missingDatabaseError(path);
      const owner = needed === path ? `, user ${statSync(path).uid}` : '';
      return unreadableError(
        path,
        `this user has no access to "${needed}"; run the sidecar as its owner${owner}`,
      );
    }
  }
  return unreadableError(path, error instanceof Error ? error.message : 'unknown error');
}
