import { accessSync, constants, statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import Database from 'better-sqlite3';
import { SchemaError, hasSchema, rejectVirtualTables } from '../../usage/schema.ts';
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

/** Where the relay's database is. */
export interface UsageSource {
  readonly databasePath: string;
  /** A directory for a private copy, which is needed while the relay is stopped. It is made when needed. */
  readonly scratchDirectory: string;
}

/** The relay's database, open for reading. */
export interface OpenUsageDatabase {
  readonly database: Database.Database;
  /** A reader keeps this writer waiting: the relay could not use a write-ahead log, or it is the reference's. */
  readonly blocksWriter: boolean;
  close(): void;
}

/** Why there is nothing to read, in a sentence for the operator. */
export class UsageSourceError extends Error {
  /** `missing`: the relay has not written anything yet; `unreadable`: what is there can't be read, at least not now. */
  readonly kind: 'missing' | 'unreadable';

  constructor(kind: 'missing' | 'unreadable', message: string) {
    super(message);
    this.kind = kind;
  }
}

/** How long SQLite itself waits for a lock, in milliseconds. */
const BUSY_TIMEOUT_MS = 1000;

/** How often a database that changes hands just while it is opened is looked at again. */
const MAX_ATTEMPTS = 10;

/** A pause between two such looks, in milliseconds: as long as a relay takes to open or to close its database. */
const RETRY_DELAY_MS = 20;

/**
 * Opens the relay's database as it is at this moment, and never writes to it or beside it. Close it soon: as long as
 * something is read, the relay's log can't begin anew and grows.
 *
 * A database that the relay has open is read in place. One with a write-ahead log that nobody has open is read from
 * a private copy: SQLite can't open it in a directory that it can't write to, and in another one it would make
 * files with an owner who may not be the relay's. A relay that stops in the very moment of the opening leaves that one
 * chance open, which is why the sidecar is to have the directory read-only.
 *
 * It waits for disks and locks, so it is for processes that may wait.
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

/** What an error that came while the database at `path` was read means to the operator. */
export function toUsageSourceError(path: string, error: unknown): UsageSourceError {
  if (error instanceof UsageSourceError) return error;
  if (error instanceof CopyError) return new UsageSourceError('unreadable', error.message);
  if (error instanceof SourceChangedError)
    return unreadableError(path, 'it changes all the time; another try may do');
  if (error instanceof SchemaError) {
    return unreadableError(path, `${error.message}; SIDECAR_USAGE_DB has to name the relay's RELAY_USAGE_DB`);
  }
  if (error instanceof Database.SqliteError) {
    const why =
      SQLITE_REASONS.get(error.code) ?? SQLITE_REASONS.get(error.code.split('_').slice(0, 2).join('_'));
    if (why !== undefined) return unreadableError(path, why);
    if (!error.code.startsWith('SQLITE_CANTOPEN')) return unreadableError(path, `SQLite says ${error.code}`);
  }
  return diagnoseOpenFailure(path, error);
}

const NOT_A_DATABASE = 'it is not an SQLite database';

/** SQLite's codes that say all, and what they mean to an operator. */
const SQLITE_REASONS: ReadonlyMap<string, string> = new Map([
  ['SQLITE_BUSY', 'another program has locked it; another try may do'],
  ['SQLITE_NOTADB', NOT_A_DATABASE],
  ['SQLITE_CORRUPT', 'the file is corrupt; a snapshot of it may replace it'],
  ['SQLITE_IOERR', 'its disk gives errors; look at the disk and its mount'],
]);

/** SQLite's codes for a database whose files came or went while it was opened. */
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
  if (!files.main.isFile)
    throw new UsageSourceError('unreadable', `the usage database "${path}" is not a file`);
  if (files.main.size === 0n) throw emptyDatabaseError(path);
  // A log with its shared memory: the relay runs, or was killed. Both are for SQLite to sort out.
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
    // The writer was killed in the middle of a transaction, which only a writer can take back.
    const isHalfWritten = error instanceof Database.SqliteError && files.journal !== null;
    if (isHalfWritten && error.code !== 'SQLITE_BUSY') return openCopy(path, files, scratch);
    throw error;
  }
}

function openCopy(path: string, files: DatabaseFiles, scratch: string): OpenUsageDatabase {
  return openFile(createCopy(path, files, scratch), path, false);
}

/** @param path the original's, for the operator */
function openFile(file: string, path: string, blocksWriter: boolean): OpenUsageDatabase {
  const database = new Database(file, { readonly: true, fileMustExist: true, timeout: BUSY_TIMEOUT_MS });
  try {
    // A page that contradicts itself is an error when it is read, and not what happens to lie behind it.
    database.pragma('cell_size_check = ON');
    if (!hasSchema(database)) throw emptyDatabaseError(path);
    rejectVirtualTables(database);
  } catch (error) {
    database.close();
    throw error;
  }
  return { database, blocksWriter, close: () => database.close() };
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
      const owner = needed === path ? `, who is user ${statSync(path).uid}` : '';
      return unreadableError(
        path,
        `"${needed}" is not open to this user; run the sidecar as its owner${owner}`,
      );
    }
  }
  return unreadableError(path, error instanceof Error ? error.message : 'for no known reason');
}
