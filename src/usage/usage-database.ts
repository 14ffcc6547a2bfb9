import Database from 'better-sqlite3';
import type { Statement } from 'better-sqlite3';
import { diagnoseLockFailure, diagnoseWriteFailure } from './access-diagnosis.ts';
import type { DatabaseNotice, DatabaseRequest, DatabaseResponse } from './database-thread.ts';
import type { CurrentUsage, UsageRecord } from './record.ts';
import { deleteRecords } from './retention.ts';
import type { Deletion } from './retention.ts';
import { SchemaError, ensureSchema } from './schema.ts';
import { readFileIdentity } from './sqlite-file.ts';
import { WAL_LIMIT_BYTES, WalTruncation } from './wal-truncation.ts';
import type { WalTruncationOptions } from './wal-truncation.ts';

/** How long SQLite itself waits for a lock before a request fails and is tried again, in milliseconds. */
const BUSY_TIMEOUT_MS = 1000;

/**
 * How long the last request waits for readers, in milliseconds, and how often it looks. SQLite itself does not wait here. Reports and
 * Munin read for some milliseconds; what reads longer keeps the write-ahead log.
 */
const CLOSE_TIMEOUT_MS = 300;
const CLOSE_RETRY_MS = 10;

/**
 * SQLite's codes where the shared memory of a write-ahead log does not work. CIFS, 9p and some FUSE file systems can't map
 * a shared file.
 */
const SHARED_MEMORY_ERROR = /^SQLITE_IOERR_SHM/u;

const INSERT_USAGE = `INSERT INTO usage (started, total_time, waiting_time, total_bytes, result)
  VALUES (@started, @total_time, @waiting_time, @total_bytes, @mood)`;

const INSERT_CURRENT = `INSERT INTO current (rebooted, updated, connected, waiting, incomplete_bytes)
  VALUES (@rebooted, @updated, @connected, @waiting, @incomplete_bytes)`;

interface OpenDatabase {
  readonly handle: Database.Database;
  /** Identities of the database and of its log. */
  readonly fileIdentity: string;
  readonly walIdentity: string;
  readonly truncation: WalTruncation;
  readonly insertUsage: Statement<[UsageRecord]>;
  readonly clearCurrent: Statement<[]>;
  readonly insertCurrent: Statement<[CurrentUsage]>;
}

/** Errors that pass while a file stays as it is; after any other it is opened anew, since somebody may put it in order. */
const TRANSIENT_ERROR = /^SQLITE_(?:BUSY|LOCKED|FULL)/u;

/**
 * The usage database as the database thread has it. Opened on demand, so that a request also reopens it: a file that was
 * deleted, moved or replaced is let go of, and what has the name then is used, or made.
 */
export class UsageDatabase {
  readonly #path: string;
  readonly #truncation: Partial<WalTruncationOptions>;
  #opened: OpenDatabase | null = null;
  #notices: DatabaseNotice[] = [];
  /** The reason for the failures so far, for which finding out once is enough. */
  #lockDiagnosis: { readonly code: string; readonly reason: string | null } | null = null;

  constructor(path: string, truncation: Partial<WalTruncationOptions> = {}) {
    this.#path = path;
    this.#truncation = truncation;
  }

  handle(request: DatabaseRequest): DatabaseResponse {
    try {
      if (request.kind === 'close') this.#closeCleanly();
      else if (request.kind === 'open') this.#open();
      else if (request.kind === 'write') this.#write(request.records, request.current);
      const answer = request.kind === 'delete' ? { deletion: this.#delete(request.before) } : {};
      this.#lockDiagnosis = null;
      return { ...this.#doneResponse(), ...answer };
    } catch (error) {
      if (!(error instanceof Database.SqliteError && TRANSIENT_ERROR.test(error.code))) this.#close();
      return this.#failureResponse(error);
    }
  }

  #doneResponse(): DatabaseResponse {
    const notices = this.#notices;
    this.#notices = [];
    return notices.length === 0 ? { kind: 'done' } : { kind: 'done', notices };
  }

  #failureResponse(error: unknown): DatabaseResponse {
    this.#notices = [];
    if (!(error instanceof Database.SqliteError)) return toErrorResponse(error, this.#path);
    const { code } = error;
    if (this.#lockDiagnosis?.code !== code)
      this.#lockDiagnosis = { code, reason: diagnoseLockFailure(this.#path, code) };
    const { reason } = this.#lockDiagnosis;
    return reason === null ? toErrorResponse(error, this.#path) : { kind: 'failed', code, reason };
  }

  #write(records: readonly UsageRecord[], current: CurrentUsage | null): void {
    const { handle, truncation, insertUsage, clearCurrent, insertCurrent } = this.#open();
    const writeAll = handle.transaction(() => {
      for (const record of records) insertUsage.run(record);
      if (current === null) return;
      clearCurrent.run();
      insertCurrent.run(current);
    });
    writeAll.immediate();
    // The request is on disk. A checkpoint that fails comes back as the failure of a later request.
    this.#addNotice(truncateWal(truncation, handle));
  }

  #delete(before: number): Deletion {
    const { handle, truncation } = this.#open();
    const deletion = deleteRecords(handle, before);
    this.#addNotice(truncateWal(truncation, handle));
    return deletion;
  }

  #addNotice(notice: DatabaseNotice | null): void {
    if (notice !== null) this.#notices.push(notice);
  }

  #open(): OpenDatabase {
    if (this.#opened !== null && this.#hasSameFiles(this.#opened)) return this.#opened;
    if (this.#opened !== null) this.#closeReplaced(this.#opened);
    const handle = this.#connect();
    try {
      this.#opened = {
        handle,
        fileIdentity: readFileIdentity(this.#path),
        walIdentity: readFileIdentity(this.#walPath),
        truncation: new WalTruncation(this.#truncation),
        insertUsage: handle.prepare(INSERT_USAGE),
        clearCurrent: handle.prepare('DELETE FROM current'),
        insertCurrent: handle.prepare(INSERT_CURRENT),
      };
      return this.#opened;
    } catch (error) {
      handle.close();
      throw error;
    }
  }

  #connect(): Database.Database {
    try {
      const handle = connect(this.#path, enableWal);
      if (handle.pragma('journal_mode', { simple: true }) !== 'wal')
        this.#addNotice({ kind: 'rollback journal' });
      return handle;
    } catch (error) {
      if (!(error instanceof Database.SqliteError && SHARED_MEMORY_ERROR.test(error.code))) throw error;
      const handle = connect(this.#path, enableRollbackJournal);
      this.#addNotice({ kind: 'rollback journal' });
      return handle;
    }
  }

  get #walPath(): string {
    return `${this.#path}-wal`;
  }

  #hasSameFiles({ fileIdentity: file, walIdentity: log }: OpenDatabase): boolean {
    return readFileIdentity(this.#path) === file && readFileIdentity(this.#walPath) === log;
  }

  /**
   * Lets go of a file that has lost its name, or whose log has. What is still in the log is written to the file first:
   * SQLite would leave a log that has kept its name, and take it for that of the next file, which that one does not survive.
   */
  #closeReplaced({ handle, walIdentity: log }: OpenDatabase): void {
    try {
      const left = handle.pragma('wal_checkpoint(TRUNCATE)', { simple: true });
      if (left === 1) throw new Database.SqliteError('somebody reads the log', 'SQLITE_BUSY');
    } catch (error) {
      // A file that can't be written any more is given up where its log can do no harm.
      if (readFileIdentity(this.#walPath) === log) throw error;
    }
    this.#close();
  }

  /**
   * Leaves one file that needs no others, so that it can be read without writing beside it: by another user, or from a read-only
   * mount. While another program has it open, it keeps its write-ahead log.
   */
  #closeCleanly(): void {
    if (this.#opened === null) return;
    if (!this.#hasSameFiles(this.#opened)) {
      this.#closeReplaced(this.#opened);
      return;
    }
    leaveWalMode(this.#opened.handle);
    this.#close();
  }

  #close(): void {
    this.#opened?.handle.close();
    this.#opened = null;
  }
}

/** @param prepare makes sure of the schema and chooses the journal */
function connect(path: string, prepare: (handle: Database.Database) => void): Database.Database {
  const handle = new Database(path, { timeout: BUSY_TIMEOUT_MS });
  try {
    prepare(handle);
    // A file that can't be written is to be found now, and not with the first record. SQLite begins to use shared memory here, too.
    handle.transaction(() => handle.prepare('DELETE FROM current WHERE 0').run()).immediate();
    return handle;
  } catch (error) {
    handle.close();
    throw error;
  }
}

/** Readers never wait for the writer then, nor the writer for them. */
function enableWal(handle: Database.Database): void {
  ensureSchema(handle);
  handle.pragma('journal_mode = WAL');
  handle.pragma(`journal_size_limit = ${WAL_LIMIT_BYTES}`);
  handle.pragma('synchronous = NORMAL');
}

/**
 * As safe, but readers and the writer wait for each other. A database may have a log already, from an attempt to use one or from
 * another machine: in exclusive mode SQLite reads that without shared memory.
 */
function enableRollbackJournal(handle: Database.Database): void {
  handle.pragma('locking_mode = EXCLUSIVE');
  ensureSchema(handle);
  handle.pragma('journal_mode = DELETE');
  handle.pragma('synchronous = FULL');
  // The lock itself ends with the next transaction.
  handle.pragma('locking_mode = NORMAL');
}

function truncateWal(truncation: WalTruncation, handle: Database.Database): DatabaseNotice | null {
  try {
    return truncation.afterWrite(handle, BUSY_TIMEOUT_MS);
  } catch {
    return null;
  }
}

function leaveWalMode(handle: Database.Database): void {
  const giveUpAt = performance.now() + CLOSE_TIMEOUT_MS;
  while (!tryLeaveWalMode(handle) && performance.now() < giveUpAt) sleepSync(CLOSE_RETRY_MS);
}

/** False where it has to stay: something reads the database, or the disk has no room or is broken. */
function tryLeaveWalMode(handle: Database.Database): boolean {
  try {
    return handle.pragma('journal_mode = DELETE', { simple: true }) === 'delete';
  } catch {
    return false;
  }
}

function sleepSync(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT)), 0, 0, ms);
}

/** SQLite's codes for files that will not get better by waiting, and what they mean to an operator. */
const UNUSABLE_REASONS: Readonly<Record<string, string>> = {
  SQLITE_NOTADB: 'it is not an SQLite database',
  SQLITE_CORRUPT: 'the file is corrupt',
};

function toErrorResponse(error: unknown, path: string): DatabaseResponse {
  if (error instanceof SchemaError) return { kind: 'unusable', reason: error.message };
  if (error instanceof Database.SqliteError) {
    if (/^SQLITE_(?:CANTOPEN|READONLY|PERM)/u.test(error.code))
      return { kind: 'unusable', reason: diagnoseWriteFailure(path) };
    const reason =
      UNUSABLE_REASONS[error.code] ?? UNUSABLE_REASONS[error.code.split('_').slice(0, 2).join('_')];
    return reason === undefined ? { kind: 'failed', code: error.code } : { kind: 'unusable', reason };
  }
  // better-sqlite3 looks for the directory itself and throws a TypeError.
  if (error instanceof TypeError) return { kind: 'unusable', reason: diagnoseWriteFailure(path) };
  return { kind: 'failed', code: error instanceof Error ? error.name : 'unknown' };
}
