import { accessSync, constants, statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import Database from 'better-sqlite3';
import { SchemaError, hasSchema, refuseVirtualTables } from '../usage/schema.ts';
import { CopyError, SourceChangedError, dropCopies, findCopy, makeCopy } from './usage-source-copy.ts';
import { lookAt, readHeader } from './usage-source-files.ts';
import type { SourceFiles } from './usage-source-files.ts';

/** Where the relay's database is. */
export interface UsageSource {
  readonly databasePath: string;
  /** A directory for a private copy, which is needed while the relay is stopped. It is made when needed. */
  readonly scratchDirectory: string;
}

/** The relay's database, open for reading. */
export interface OpenUsage {
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
const ATTEMPTS = 10;

/** A pause between two such looks, in milliseconds: as long as a relay takes to open or to close its database. */
const PAUSE_MS = 20;

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
export function openUsage(source: UsageSource): OpenUsage {
  const path = resolve(source.databasePath);
  for (let attempt = 1; ; attempt += 1) {
    try {
      return open(path, resolve(source.scratchDirectory));
    } catch (error) {
      if (attempt === ATTEMPTS || !mayPass(error)) throw toUsageSourceError(path, error);
      pause(PAUSE_MS);
    }
  }
}

/** What an error that came while the database at `path` was read means to the operator. */
export function toUsageSourceError(path: string, error: unknown): UsageSourceError {
  if (error instanceof UsageSourceError) return error;
  if (error instanceof CopyError) return new UsageSourceError('unreadable', error.message);
  if (error instanceof SourceChangedError)
    return unreadable(path, 'it changes all the time; another try may do');
  if (error instanceof SchemaError) {
    return unreadable(path, `${error.message}; SIDECAR_USAGE_DB has to name the relay's RELAY_USAGE_DB`);
  }
  if (error instanceof Database.SqliteError) {
    const why = WHY.get(error.code) ?? WHY.get(error.code.split('_').slice(0, 2).join('_'));
    if (why !== undefined) return unreadable(path, why);
    if (!error.code.startsWith('SQLITE_CANTOPEN')) return unreadable(path, `SQLite says ${error.code}`);
  }
  return whyNotOpened(path, error);
}

const NO_DATABASE = 'it is not an SQLite database';

/** SQLite's codes that say all, and what they mean to an operator. */
const WHY: ReadonlyMap<string, string> = new Map([
  ['SQLITE_BUSY', 'another program has locked it; another try may do'],
  ['SQLITE_NOTADB', NO_DATABASE],
  ['SQLITE_CORRUPT', 'the file is corrupt; a snapshot of it may replace it'],
  ['SQLITE_IOERR', 'its disk gives errors; look at the disk and its mount'],
]);

/** SQLite's codes for a database whose files came or went while it was opened. */
const PASSING = /^SQLITE_(?:CANTOPEN|READONLY|PROTOCOL|SCHEMA)/u;

function pause(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT)), 0, 0, ms);
}

function mayPass(error: unknown): boolean {
  return (
    error instanceof SourceChangedError || (error instanceof Database.SqliteError && PASSING.test(error.code))
  );
}

function open(path: string, scratch: string): OpenUsage {
  const files = lookAt(path);
  if (files.main === null) throw nothingThere(path);
  if (!files.main.isFile)
    throw new UsageSourceError('unreadable', `the usage database "${path}" is not a file`);
  if (files.main.size === 0n) throw nothingInIt(path);
  // A log with its shared memory: the relay runs, or was killed. Both are for SQLite to sort out.
  if (files.wal !== null && files.shm !== null) {
    dropCopies(scratch, null);
    return openFile(path, path, false);
  }
  const copy = findCopy(scratch, files);
  if (copy !== null) return openFile(copy, path, false);
  accessSync(path, constants.R_OK);
  switch (readHeader(path)) {
    case 'write-ahead log':
      return openCopy(path, files, scratch);
    case 'rollback journal':
      return openWithJournal(path, files, scratch);
    case 'no database':
      throw unreadable(path, NO_DATABASE);
  }
}

function openWithJournal(path: string, files: SourceFiles, scratch: string): OpenUsage {
  try {
    const opened = openFile(path, path, true);
    dropCopies(scratch, null);
    return opened;
  } catch (error) {
    // The writer was killed in the middle of a transaction, which only a writer can take back.
    const isHalfWritten = error instanceof Database.SqliteError && files.journal !== null;
    if (isHalfWritten && error.code !== 'SQLITE_BUSY') return openCopy(path, files, scratch);
    throw error;
  }
}

function openCopy(path: string, files: SourceFiles, scratch: string): OpenUsage {
  return openFile(makeCopy(path, files, scratch), path, false);
}

/** @param path the original's, for the operator */
function openFile(file: string, path: string, blocksWriter: boolean): OpenUsage {
  const database = new Database(file, { readonly: true, fileMustExist: true, timeout: BUSY_TIMEOUT_MS });
  try {
    // A page that contradicts itself is an error when it is read, and not what happens to lie behind it.
    database.pragma('cell_size_check = ON');
    if (!hasSchema(database)) throw nothingInIt(path);
    refuseVirtualTables(database);
  } catch (error) {
    database.close();
    throw error;
  }
  return { database, blocksWriter, close: () => database.close() };
}

function nothingThere(path: string): UsageSourceError {
  return new UsageSourceError(
    'missing',
    `there is no usage database "${path}" yet: start the relay, or set SIDECAR_USAGE_DB to its RELAY_USAGE_DB`,
  );
}

function nothingInIt(path: string): UsageSourceError {
  return new UsageSourceError(
    'missing',
    `the usage database "${path}" has no usage tables: the relay has not written to it yet`,
  );
}

function unreadable(path: string, why: string): UsageSourceError {
  return new UsageSourceError('unreadable', `can't read the usage database "${path}": ${why}`);
}

function whyNotOpened(path: string, error: unknown): UsageSourceError {
  for (const needed of [dirname(path), path]) {
    try {
      accessSync(needed, needed === path ? constants.R_OK : constants.X_OK);
    } catch (reason) {
      if (!(reason instanceof Error) || !('code' in reason)) throw reason;
      if (reason.code === 'ENOENT' || reason.code === 'ENOTDIR') return nothingThere(path);
      const owner = needed === path ? `, who is user ${statSync(path).uid}` : '';
      return unreadable(path, `"${needed}" is not open to this user; run the sidecar as its owner${owner}`);
    }
  }
  return unreadable(path, error instanceof Error ? error.message : 'for no known reason');
}
