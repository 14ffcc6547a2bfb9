import { randomUUID } from 'node:crypto';
import { closeSync, fsyncSync, linkSync, lstatSync, openSync, readSync, rmSync, statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import Database from 'better-sqlite3';
import type { Statement } from 'better-sqlite3';
import { errorCode } from '../process/error-code.ts';
import { MOODS } from '../protocol/messages.ts';
import { diagnoseWriteFailure } from './access-diagnosis.ts';
import { SchemaError, ensureSchema, hasSchema } from './schema.ts';

/** Why nothing is imported, in a sentence for the operator. */
export class ImportError extends Error {}

/** How long SQLite waits for a server that is writing, in milliseconds. */
const BUSY_TIMEOUT_MS = 5000;

/** How every SQLite file begins. */
const MAGIC = 'SQLite format 3\0';

/** Bytes 18 and 19 of the header are the versions that writers and readers need; 2 means a write-ahead log. */
const HEADER_BYTES = 20;
const VERSIONS_OFFSET = 18;
const WAL_VERSION = 2;

/** Of the table `transit_usage`, in the order in which the table `usage` has them. */
const COLUMNS = ['started', 'total_time', 'waiting_time', 'total_bytes', 'result'];

const NOTHING_TO_IMPORT = 'point RELAY_USAGE_DB at it, there is nothing to import';

/** Of an ordinary table alone: a view may compute for ever, and neither that nor what has no rowids was made by a server. */
const SELECT_COLUMN_NAMES = `
  SELECT found.name FROM pragma_table_list('transit_usage') AS old, pragma_table_info(old.name) AS found
  WHERE old.schema = 'main' AND old.type = 'table' AND NOT old.wr`;

const SELECT_RECORDS = `SELECT ${COLUMNS.join(', ')} FROM transit_usage ORDER BY rowid`;

/** One record of the old table: its values in the order of the new one's columns. Integers are BigInts, so that none is rounded. */
export type CombinedRecord = readonly unknown[];

/**
 * The database of a combined server, as magic-wormhole had one before 0.11 and its schema versions 2 to 4 say
 * (`relay.sqlite`, for the mailbox and the transit relay together). It is only read.
 */
export class ImportSource {
  readonly #path: string;
  readonly #database: Database.Database;

  /** @throws ImportError when there is nothing to import in this file, or it can't be read */
  constructor(path: string) {
    this.#path = resolve(path);
    checkHeader(this.#path);
    this.#database = new Database(this.#path, {
      readonly: true,
      fileMustExist: true,
      timeout: BUSY_TIMEOUT_MS,
    });
    try {
      this.#wrapErrors(() => checkTables(this.#path, this.#database));
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /**
   * Hands over all records of one moment, in the order in which they were written. What `take` throws ends it.
   *
   * @throws ImportError when they can't be read to their end
   */
  forEach(take: (record: CombinedRecord) => void): void {
    this.#wrapErrors(() => {
      const statement = this.#database.prepare<[], CombinedRecord>(SELECT_RECORDS).raw().safeIntegers();
      for (const record of statement.iterate()) take(record);
    });
  }

  close(): void {
    this.#database.close();
  }

  /** Runs what reads, and says in words what was wrong. */
  #wrapErrors<T>(read: () => T): T {
    try {
      return read();
    } catch (error) {
      throw toReadError(this.#path, error);
    }
  }
}

/** What can be said of a file before SQLite opens it, which with a write-ahead log would write beside it. */
function checkHeader(path: string): void {
  const header = readHeader(path);
  if (header.toString('latin1', 0, MAGIC.length) !== MAGIC)
    throw unusableSource(path, 'it is not an SQLite database');
  if (header.subarray(VERSIONS_OFFSET).includes(WAL_VERSION)) {
    const why = 'it has a write-ahead log, which no combined server made, but this relay does';
    throw unusableSource(path, `${why}; ${NOTHING_TO_IMPORT}`);
  }
}

function readHeader(path: string): Buffer {
  try {
    if (!statSync(path).isFile()) throw unusableSource(path, 'it is not a file');
    const descriptor = openSync(path, 'r');
    try {
      const header = Buffer.alloc(HEADER_BYTES);
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

/** SQLite's codes, by how they begin, and what they mean to an operator. */
const SQLITE_REASONS: readonly (readonly [code: string, why: string])[] = [
  ['SQLITE_BUSY', 'another program is writing to it; stop that, or try again'],
  ['SQLITE_CORRUPT', 'the file is corrupt; "sqlite3 FILE .recover" may save what is in it'],
  ['SQLITE_NOTADB', 'it is not an SQLite database'],
  // A journal that nobody holds: only a writer could take back what is in it.
  [
    'SQLITE_READONLY',
    'its server was broken off while it wrote; "sqlite3 FILE .tables" puts that in order, as the owner of the file',
  ],
];

function toReadError(path: string, error: unknown): unknown {
  if (!(error instanceof Database.SqliteError)) return error;
  const [, why = `SQLite says ${error.code}`] =
    SQLITE_REASONS.find(([code]) => error.code.startsWith(code)) ?? [];
  return unusableSource(path, why);
}

function unusableSource(path: string, why: string): ImportError {
  return new ImportError(`can't import "${path}": ${why}`);
}

/** What SQLite may have put beside a database that is gone, and would take for a part of the new one. */
const SIDE_FILE_SUFFIXES = ['-wal', '-shm', '-journal'] as const;

const INSERT_RECORD = `INSERT INTO usage (started, total_time, waiting_time, total_bytes, result) VALUES (?, ?, ?, ?, ?)`;

/** No relay has run on it yet. The reference's own import writes the same. */
const INSERT_CURRENT = `INSERT INTO current (rebooted, updated, connected, waiting, incomplete_bytes) VALUES (0, 0, 0, 0, 0)`;

/**
 * A usage database in the making. It is written under a name of its own, and gets the one it is meant for when all of it is
 * on disk; until then there is nothing by that name.
 */
export class ImportTarget {
  readonly #path: string;
  readonly #temporaryPath: string;
  readonly #database: Database.Database;
  readonly #insert: Statement;

  /** @throws ImportError when there is something by that name already, or nothing can be made there */
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

  /** @throws ImportError when there is no more room */
  add(record: CombinedRecord): void {
    this.#wrapErrors(() => this.#insert.run(...record));
  }

  /** Puts it in its place, for good. @throws ImportError when that is taken meanwhile, or it can't be written */
  publish(): void {
    this.#wrapErrors(() => {
      this.#database.exec('COMMIT');
      this.#database.close();
      fsyncPath(this.#temporaryPath);
      // Unlike a rename, a link never replaces what has that name.
      linkSync(this.#temporaryPath, this.#path);
      fsyncPath(dirname(this.#path));
    });
  }

  /** Leaves nothing but what is finished. */
  close(): void {
    this.#database.close();
    rmSync(this.#temporaryPath, { force: true });
  }

  /** Runs what writes, and says in words what was wrong. */
  #wrapErrors<T>(write: () => T): T {
    try {
      return write();
    } catch (error) {
      throw toWriteError(this.#path, error);
    }
  }
}

function createSchema(database: Database.Database): Statement {
  // One file at any time: what is left of it when this process is killed is never read.
  database.pragma('journal_mode = MEMORY');
  ensureSchema(database);
  database.exec(`BEGIN; ${INSERT_CURRENT}`);
  return database.prepare(INSERT_RECORD);
}

function toWriteError(path: string, error: unknown): unknown {
  if (error instanceof ImportError) return error;
  const code = errorCode(error);
  if (code === 'EEXIST') return alreadyExists(path);
  const why = describeWriteFailure(path, code, error);
  return why === null ? error : new ImportError(`can't make "${path}": ${why}`);
}

function describeWriteFailure(path: string, code: string, error: unknown): string | null {
  // better-sqlite3 looks for the directory itself and throws a TypeError.
  if (/^(?:SQLITE_(?:CANTOPEN|READONLY|PERM)|EACCES|EROFS)/u.test(code) || error instanceof TypeError)
    return diagnoseWriteFailure(path);
  if (/^(?:SQLITE_FULL|ENOSPC|EDQUOT)/u.test(code)) return 'there is no more room';
  if (/^(?:EPERM|ENOSYS|ENOTSUP|EOPNOTSUPP)$/u.test(code))
    return 'its file system knows no hard links; import into a directory on another one, and copy the file';
  return code === 'unknown' ? null : code;
}

function rejectExisting(path: string): void {
  if (exists(path)) throw alreadyExists(path);
  for (const suffix of SIDE_FILE_SUFFIXES) {
    const left = `${path}${suffix}`;
    if (exists(left))
      throw new ImportError(
        `"${left}" is what another database of that name has left, and would damage this one: move it away`,
      );
  }
}

function alreadyExists(path: string): ImportError {
  return new ImportError(
    `"${path}" is there already, and stays as it is: name another file, or move it away`,
  );
}

/** A link that leads nowhere is there too. */
function exists(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false }) !== undefined;
}

/** After a power cut a name must not stand for less than the whole. */
function fsyncPath(path: string): void {
  const descriptor = openSync(path, 'r');
  try {
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

/** What records are counted as whose mood is none of ours. */
const OTHER_MOOD = 'other';

/**
 * Copies the transit relay's records out of the database of a combined server into a new usage database: all of them, or there
 * is no new database. Values are what they were, strange ones too: who reads a usage database has to expect them of
 * the reference anyway, and a record that is left out would be missed in the sums.
 *
 * @returns how many records there are of each mood, the most first
 * @throws ImportError
 */
export function importRecords(oldPath: string, newPath: string): ReadonlyMap<string, number> {
  const counts = new Map<string, number>();
  const source = new ImportSource(oldPath);
  try {
    const target = new ImportTarget(newPath);
    try {
      source.forEach((record) => {
        target.add(record);
        const mood = MOODS.find((known) => known === record.at(-1)) ?? OTHER_MOOD;
        counts.set(mood, (counts.get(mood) ?? 0) + 1);
      });
      target.publish();
    } finally {
      target.close();
    }
  } finally {
    source.close();
  }
  return new Map([...counts].toSorted(([, one], [, other]) => other - one));
}
