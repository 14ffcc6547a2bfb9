import { randomUUID } from 'node:crypto';
import { closeSync, linkSync, lstatSync, openSync, readSync, rmSync, statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import Database from 'better-sqlite3';
import type { Statement } from 'better-sqlite3';
import { fsyncPathSync } from '../process/durable-file.ts';
import { errorCode } from '../process/errors.ts';
import { MOODS } from '../protocol/messages.ts';
import { diagnoseWriteFailure } from './access-diagnosis.ts';
import { SchemaError, ensureSchema, hasSchema } from './schema.ts';
import { FILE_SUFFIXES, SQLITE_HEADER_BYTES, journalKindOf, reasonForCode } from './sqlite-file.ts';

/** Nothing was imported. The message is a sentence for the operator. */
export class ImportError extends Error {}

/** How long SQLite waits for a server that is writing, in milliseconds. */
const BUSY_TIMEOUT_MS = 5000;

/** Columns of the table `transit_usage`, in the order of the table `usage`. */
const COLUMNS = ['started', 'total_time', 'waiting_time', 'total_bytes', 'result'];

const NOTHING_TO_IMPORT = 'there is nothing to import, use it as RELAY_USAGE_DB';

/**
 * Accepts only an ordinary table: a view may compute forever, and servers never created views or tables
 * without rowids.
 */
const SELECT_COLUMN_NAMES = `
  SELECT found.name FROM pragma_table_list('transit_usage') AS old, pragma_table_info(old.name) AS found
  WHERE old.schema = 'main' AND old.type = 'table' AND NOT old.wr`;

const SELECT_RECORDS = `SELECT ${COLUMNS.join(', ')} FROM transit_usage ORDER BY rowid`;

/**
 * Opens the database of a combined server: `relay.sqlite` of magic-wormhole before 0.11, for the mailbox and
 * the transit relay, schema versions 2 to 4. It is only read.
 *
 * @throws ImportError if the file can't be read or has nothing to import
 * @throws SqliteError if SQLite can't read it
 */
function openSource(path: string): Database.Database {
  checkHeader(path);
  const database = new Database(path, { readonly: true, fileMustExist: true, timeout: BUSY_TIMEOUT_MS });
  try {
    checkTables(path, database);
    return database;
  } catch (error) {
    database.close();
    throw error;
  }
}

/**
 * Checks the file before SQLite opens it: SQLite would create files beside a database with a write-ahead log.
 */
function checkHeader(path: string): void {
  const kind = journalKindOf(readHeader(path));
  if (kind === 'no database') throw unusableSource(path, 'it is not an SQLite database');
  if (kind === 'write-ahead log') {
    const why = 'it has a write-ahead log, so it is from this relay and not from a combined server';
    throw unusableSource(path, `${why}; ${NOTHING_TO_IMPORT}`);
  }
}

function readHeader(path: string): Buffer {
  try {
    if (!statSync(path).isFile()) throw unusableSource(path, 'it is not a file');
    const descriptor = openSync(path, 'r');
    try {
      const header = Buffer.alloc(SQLITE_HEADER_BYTES);
      return header.subarray(0, readSync(descriptor, header));
    } finally {
      closeSync(descriptor);
    }
  } catch (error) {
    throw error instanceof ImportError
      ? error
      : unusableSource(path, `it can't be read (${errorCode(error)})`);
  }
}

function checkTables(path: string, database: Database.Database): void {
  const found = new Set(database.prepare(SELECT_COLUMN_NAMES).pluck().all());
  const missing = COLUMNS.filter((column) => !found.has(column));
  if (missing.length === 0) return;
  if (found.size > 0) throw unusableSource(path, `its table "transit_usage" lacks ${missing.join(', ')}`);
  throw unusableSource(
    path,
    isUsageDatabase(database)
      ? `it is a usage database; ${NOTHING_TO_IMPORT}`
      : 'it has no table "transit_usage"',
  );
}

function isUsageDatabase(database: Database.Database): boolean {
  try {
    return hasSchema(database);
  } catch (error) {
    if (error instanceof SchemaError) return false;
    throw error;
  }
}

/** SQLite's error codes, with a description for the operator. */
const SQLITE_REASONS: Readonly<Record<string, string>> = {
  SQLITE_BUSY: 'another program is writing to it; stop that program, or try again',
  SQLITE_CORRUPT: 'the file is corrupt; "sqlite3 FILE .recover" may rescue its content',
  SQLITE_NOTADB: 'it is not an SQLite database',
  // A hot journal, which only a writer can roll back.
  SQLITE_READONLY:
    'its server was killed during a write; run "sqlite3 FILE .tables" as the owner of the file to repair it',
};

function unusableSource(path: string, why: string): ImportError {
  return new ImportError(`can't import "${path}": ${why}`);
}

const INSERT_RECORD = `INSERT INTO usage (started, total_time, waiting_time, total_bytes, result) VALUES (?, ?, ?, ?, ?)`;

/** No relay has used the database yet. The reference's own import writes the same row. */
const INSERT_CURRENT = `INSERT INTO current (rebooted, updated, connected, waiting, incomplete_bytes) VALUES (0, 0, 0, 0, 0)`;

/**
 * A new usage database. It is written to a temporary path and gets its final path only when all of it is on
 * disk.
 */
export class ImportTarget {
  readonly #path: string;
  readonly #temporaryPath: string;
  readonly #database: Database.Database;
  readonly #insert: Statement;

  /** @throws ImportError if the path exists, or no file can be created there */
  constructor(path: string) {
    this.#path = resolve(path);
    this.#temporaryPath = `${this.#path}.unfinished-${randomUUID()}`;
    this.#database = this.#wrapErrors(() => {
      rejectExisting(this.#path);
      return new Database(this.#temporaryPath);
    });
    try {
      this.#insert = this.#wrapErrors(() => createSchema(this.#database));
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /**
   * @param record values in the order of the table's columns
   * @throws ImportError if the disk is full
   */
  add(record: readonly unknown[]): void {
    this.#wrapErrors(() => this.#insert.run(...record));
  }

  /**
   * Moves the database to its final path. @throws ImportError if the path exists by now, or can't be written
   */
  publish(): void {
    this.#wrapErrors(() => {
      this.#database.exec('COMMIT');
      this.#database.close();
      fsyncPathSync(this.#temporaryPath);
      // Unlike a rename, a link never replaces an existing file.
      linkSync(this.#temporaryPath, this.#path);
      fsyncPathSync(dirname(this.#path));
    });
  }

  /** Removes the temporary file. */
  close(): void {
    this.#database.close();
    rmSync(this.#temporaryPath, { force: true });
  }

  /** Converts errors of `write` to an ImportError with a description. */
  #wrapErrors<T>(write: () => T): T {
    try {
      return write();
    } catch (error) {
      if (error instanceof ImportError) throw error;
      throw toWriteError(this.#path, error);
    }
  }
}

function createSchema(database: Database.Database): Statement {
  // No journal file is needed: if this process is killed, the temporary file is never used.
  database.pragma('journal_mode = MEMORY');
  ensureSchema(database);
  database.exec(`BEGIN; ${INSERT_CURRENT}`);
  return database.prepare(INSERT_RECORD);
}

function toWriteError(path: string, error: unknown): unknown {
  const code = errorCode(error);
  if (code === 'EEXIST') return alreadyExists(path);
  const why = diagnoseWriteFailure(path, error) ?? describeWriteFailure(code);
  return why === null ? error : new ImportError(`can't create "${path}": ${why}`);
}

function describeWriteFailure(code: string): string | null {
  if (/^(?:SQLITE_FULL|ENOSPC|EDQUOT)/u.test(code)) return 'the disk is full';
  if (/^(?:EPERM|ENOSYS|ENOTSUP|EOPNOTSUPP)$/u.test(code))
    return 'its file system does not support hard links; import into a directory on another file system, then copy the file';
  return code === 'unknown' ? null : code;
}

function rejectExisting(path: string): void {
  if (exists(path)) throw alreadyExists(path);
  for (const suffix of FILE_SUFFIXES.slice(1)) {
    const leftover = `${path}${suffix}`;
    if (exists(leftover))
      throw new ImportError(
        `"${leftover}" is left over from another database and would damage the new one: move it away`,
      );
  }
}

function alreadyExists(path: string): ImportError {
  return new ImportError(`"${path}" exists already and was not changed: name another file, or move it away`);
}

/** A dangling symbolic link exists too. */
function exists(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false }) !== undefined;
}

/** Records with an unknown mood are counted under this name. */
const OTHER_MOOD = 'other';

/**
 * Copies the transit relay's records from the database of a combined server into a new usage database. If it
 * fails, there is no new database. All values are copied unchanged, including invalid ones: readers of usage
 * databases have to accept such values from the reference anyway, and without these records the sums would
 * differ.
 *
 * @returns the number of records by mood, largest first
 * @throws ImportError
 */
export function importRecords(oldPath: string, newPath: string): ReadonlyMap<string, number> {
  const path = resolve(oldPath);
  try {
    const source = openSource(path);
    try {
      return copyRecords(source, newPath);
    } finally {
      source.close();
    }
  } catch (error) {
    // The target has converted its own errors.
    if (!(error instanceof Database.SqliteError)) throw error;
    throw unusableSource(path, reasonForCode(SQLITE_REASONS, error.code) ?? `SQLite says ${error.code}`);
  }
}

function copyRecords(source: Database.Database, newPath: string): ReadonlyMap<string, number> {
  const counts = new Map<string, number>();
  const target = new ImportTarget(newPath);
  try {
    // Integers are read as BigInts, so that none is rounded.
    const records = source.prepare<[], readonly unknown[]>(SELECT_RECORDS).raw().safeIntegers();
    for (const record of records.iterate()) {
      target.add(record);
      const mood = MOODS.find((known) => known === record.at(-1)) ?? OTHER_MOOD;
      counts.set(mood, (counts.get(mood) ?? 0) + 1);
    }
    target.publish();
  } finally {
    target.close();
  }
  return new Map([...counts].toSorted(([, one], [, other]) => other - one));
}
