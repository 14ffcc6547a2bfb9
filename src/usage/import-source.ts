import { closeSync, openSync, readSync, statSync } from 'node:fs';
import { resolve } from 'node:path';
import Database from 'better-sqlite3';
import { errorCode } from '../error-code.ts';
import { ImportError } from './import-error.ts';
import { SchemaError, hasSchema } from './schema.ts';

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

const NOT_NEEDED = 'point RELAY_USAGE_DB at it, there is nothing to import';

/** Of an ordinary table alone: a view may compute for ever, and neither that nor what has no rowids was made by a server. */
const FIND_COLUMNS = `
  SELECT found.name FROM pragma_table_list('transit_usage') AS old, pragma_table_info(old.name) AS found
  WHERE old.schema = 'main' AND old.type = 'table' AND NOT old.wr`;

const SELECT = `SELECT ${COLUMNS.join(', ')} FROM transit_usage ORDER BY rowid`;

/** One record of the old table: its values in the order of the new one's columns. Integers are BigInts, so that none is rounded. */
export type OldRecord = readonly unknown[];

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
    checkFile(this.#path);
    this.#database = new Database(this.#path, {
      readonly: true,
      fileMustExist: true,
      timeout: BUSY_TIMEOUT_MS,
    });
    try {
      this.#say(() => checkTables(this.#path, this.#database));
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
  forEach(take: (record: OldRecord) => void): void {
    this.#say(() => {
      const statement = this.#database.prepare<[], OldRecord>(SELECT).raw().safeIntegers();
      for (const record of statement.iterate()) take(record);
    });
  }

  close(): void {
    this.#database.close();
  }

  /** Runs what reads, and says in words what was wrong. */
  #say<T>(read: () => T): T {
    try {
      return read();
    } catch (error) {
      throw toImportError(this.#path, error);
    }
  }
}

/** What can be said of a file before SQLite opens it, which with a write-ahead log would write beside it. */
function checkFile(path: string): void {
  const header = readHeader(path);
  if (header.toString('latin1', 0, MAGIC.length) !== MAGIC) throw unfit(path, 'it is not an SQLite database');
  if (header.subarray(VERSIONS_OFFSET).includes(WAL_VERSION)) {
    const why = 'it has a write-ahead log, which no combined server made, but this relay does';
    throw unfit(path, `${why}; ${NOT_NEEDED}`);
  }
}

function readHeader(path: string): Buffer {
  try {
    if (!statSync(path).isFile()) throw unfit(path, 'it is not a file');
    const descriptor = openSync(path, 'r');
    try {
      const header = Buffer.alloc(HEADER_BYTES);
      return header.subarray(0, readSync(descriptor, header));
    } finally {
      closeSync(descriptor);
    }
  } catch (error) {
    throw error instanceof ImportError ? error : unfit(path, `it can't be read (${errorCode(error)})`);
  }
}

function checkTables(path: string, database: Database.Database): void {
  const found = new Set(database.prepare(FIND_COLUMNS).pluck().all());
  const missing = COLUMNS.filter((column) => !found.has(column));
  if (missing.length === 0) return;
  if (found.size > 0) throw unfit(path, `its table "transit_usage" lacks ${missing.join(', ')}`);
  throw unfit(
    path,
    isUsageDatabase(database) ? `it is a usage database; ${NOT_NEEDED}` : 'it has no table "transit_usage"',
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
const WHY: readonly (readonly [code: string, why: string])[] = [
  ['SQLITE_BUSY', 'another program is writing to it; stop that, or try again'],
  ['SQLITE_CORRUPT', 'the file is corrupt; "sqlite3 FILE .recover" may save what is in it'],
  ['SQLITE_NOTADB', 'it is not an SQLite database'],
  // A journal that nobody holds: only a writer could take back what is in it.
  [
    'SQLITE_READONLY',
    'its server was broken off while it wrote; "sqlite3 FILE .tables" puts that in order, as the owner of the file',
  ],
];

function toImportError(path: string, error: unknown): unknown {
  if (!(error instanceof Database.SqliteError)) return error;
  const [, why = `SQLite says ${error.code}`] = WHY.find(([code]) => error.code.startsWith(code)) ?? [];
  return unfit(path, why);
}

function unfit(path: string, why: string): ImportError {
  return new ImportError(`can't import "${path}": ${why}`);
}
