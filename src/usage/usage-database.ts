import { isMainThread, parentPort, workerData } from 'node:worker_threads';
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

/** SQLite waits this long for a lock; then the request fails and is retried later. In milliseconds. */
const BUSY_TIMEOUT_MS = 1000;

/**
 * How long the `close` request waits for readers, and how often it retries, in milliseconds. SQLite itself
 * does not wait here. Reports and Munin read for a few milliseconds; after a longer read the write-ahead log
 * stays.
 */
const CLOSE_TIMEOUT_MS = 300;
const CLOSE_RETRY_MS = 10;

/**
 * SQLite's codes for a file system without the shared memory that a write-ahead log needs. CIFS, 9p and some
 * FUSE file systems can't map a shared file.
 */
const SHARED_MEMORY_ERROR = /^SQLITE_IOERR_SHM/u;

const INSERT_USAGE = `INSERT INTO usage (started, total_time, waiting_time, total_bytes, result)
  VALUES (@started, @total_time, @waiting_time, @total_bytes, @mood)`;

const INSERT_CURRENT = `INSERT INTO current (rebooted, updated, connected, waiting, incomplete_bytes)
  VALUES (@rebooted, @updated, @connected, @waiting, @incomplete_bytes)`;

interface OpenDatabase {
  readonly handle: Database.Database;
  /** Identities of the database file and its write-ahead log. */
  readonly fileIdentity: string;
  readonly walIdentity: string;
  readonly truncation: WalTruncation;
  readonly insertUsage: Statement<[UsageRecord]>;
  readonly clearCurrent: Statement<[]>;
  readonly insertCurrent: Statement<[CurrentUsage]>;
}

/**
 * Errors that go away by themselves. After any other error the file is reopened, because an operator may
 * repair it.
 */
const TRANSIENT_ERROR = /^SQLITE_(?:BUSY|LOCKED|FULL)/u;

/**
 * The usage database, used by the database thread. Each request opens or reopens it if needed: if the file
 * was deleted, moved or replaced, the old one is closed and the file at the path is opened or created.
 */
export class UsageDatabase {
  readonly #path: string;
  readonly #truncation: Partial<WalTruncationOptions>;
  #opened: OpenDatabase | null = null;
  #notices: DatabaseNotice[] = [];
  /** Cached, so that repeated failures with the same code are diagnosed once. */
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
      const result = request.kind === 'delete' ? { deletion: this.#delete(request.before) } : {};
      this.#lockDiagnosis = null;
      return { ...this.#doneResponse(), ...result };
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

  #write(records: readonly UsageRecord[], current: CurrentUsage): void {
    const { handle, truncation, insertUsage, clearCurrent, insertCurrent } = this.#open();
    const writeAll = handle.transaction(() => {
      for (const record of records) insertUsage.run(record);
      clearCurrent.run();
      insertCurrent.run(current);
    });
    writeAll.immediate();
    // The request is on disk. If a checkpoint fails, a later request fails too and reports it.
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

  #hasSameFiles({ fileIdentity, walIdentity }: OpenDatabase): boolean {
    return readFileIdentity(this.#path) === fileIdentity && readFileIdentity(this.#walPath) === walIdentity;
  }

  /**
   * Closes a file that was moved or deleted, or whose log was. The content of the log is written to the file
   * first. Otherwise SQLite would leave a log that is still in place and use it for the next file, which
   * would corrupt it.
   */
  #closeReplaced({ handle, walIdentity }: OpenDatabase): void {
    try {
      const isBusy = handle.pragma('wal_checkpoint(TRUNCATE)', { simple: true }) === 1;
      if (isBusy) throw new Database.SqliteError('a program reads the write-ahead log', 'SQLITE_BUSY');
    } catch (error) {
      // If the file can't be written, it is closed anyway unless its log would harm the next file.
      if (readFileIdentity(this.#walPath) === walIdentity) throw error;
    }
    this.#close();
  }

  /**
   * Leaves a single file, which can be read without creating files beside it: by another user, or from a
   * read-only mount. If another program has the database open, the write-ahead log stays.
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

/** @param prepare checks or creates the schema and sets the journal mode */
function connect(path: string, prepare: (handle: Database.Database) => void): Database.Database {
  const handle = new Database(path, { timeout: BUSY_TIMEOUT_MS });
  try {
    prepare(handle);
    // Detects an unwritable file now rather than at the first record. It is also the first use of shared
    // memory.
    handle.transaction(() => handle.prepare('DELETE FROM current WHERE 0').run()).immediate();
    return handle;
  } catch (error) {
    handle.close();
    throw error;
  }
}

/** With a write-ahead log, readers and the writer never wait for each other. */
function enableWal(handle: Database.Database): void {
  ensureSchema(handle);
  handle.pragma('journal_mode = WAL');
  handle.pragma(`journal_size_limit = ${WAL_LIMIT_BYTES}`);
  handle.pragma('synchronous = NORMAL');
}

/**
 * As safe, but readers and the writer wait for each other. The database may already have a write-ahead log,
 * from a failed attempt to use one or from another machine. In exclusive mode SQLite reads it without shared
 * memory.
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

/** False if the write-ahead log has to stay: the database is being read, or the disk is full or defective. */
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

/** SQLite's codes for unusable files, with a description for the operator. */
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
  // better-sqlite3 checks the directory itself and throws a TypeError.
  if (error instanceof TypeError) return { kind: 'unusable', reason: diagnoseWriteFailure(path) };
  return { kind: 'failed', code: error instanceof Error ? error.name : 'unknown' };
}

/** Entry of the database thread: a slow or locked disk blocks this thread and not the event loop. */
function serve(path: string): void {
  const port = parentPort;
  if (port === null) throw new Error('the database thread has no parent');
  const database = new UsageDatabase(path);
  port.on('message', (request: DatabaseRequest) => {
    port.postMessage(database.handle(request));
    if (request.kind === 'close') port.close();
  });
}

if (!isMainThread && typeof workerData === 'string') serve(workerData);
