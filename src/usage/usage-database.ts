import { isMainThread, parentPort, workerData } from 'node:worker_threads';
import Database from 'better-sqlite3';
import type { Statement } from 'better-sqlite3';
import { errorCode } from '../process/errors.ts';
import { diagnoseLockFailure, diagnoseWriteFailure } from './access-diagnosis.ts';
import { readDiskUse } from './disk-use.ts';
import type { DiskUse } from './disk-use.ts';
import type { CurrentUsage, UsageRecord } from './record.ts';
import { deleteRecords } from './retention.ts';
import type { Deletion } from './retention.ts';
import { SchemaError, ensureSchema } from './schema.ts';
import { readFileIdentity, reasonForCode, walBytes } from './sqlite-file.ts';

/** From the event loop to the database thread: one request at a time, each in one transaction. */
export type DatabaseRequest =
  | { readonly kind: 'open' }
  | { readonly kind: 'write'; readonly records: readonly UsageRecord[]; readonly current: CurrentUsage }
  /** Deletes a batch of records that began before this time, in seconds since the epoch. */
  | { readonly kind: 'delete'; readonly before: number }
  | { readonly kind: 'close' };

/**
 * Information for the operator about a database that works.
 *
 * - `rollback journal`: there is no write-ahead log, because the file system does not support shared memory
 * - `wal blocked`: readers have blocked the truncation of the write-ahead log for this time; it has this size
 * - `wal truncated`: after `wal blocked`, the log is small again
 * - `shared`: another relay has written its row `current` since the last write
 */
export type DatabaseNotice =
  | { readonly kind: 'rollback journal' }
  | { readonly kind: 'wal blocked'; readonly seconds: number; readonly bytes: number }
  | { readonly kind: 'wal truncated' }
  | { readonly kind: 'shared' };

/**
 * - `done`: the request is on disk
 * - `unusable`: the file is not a usage database; a retry will not help
 * - `failed`: the request failed and wrote nothing; a retry may help. The reason is a sentence for the
 *   operator
 */
export type DatabaseResponse =
  | { readonly kind: 'done'; readonly notices?: readonly DatabaseNotice[]; readonly deletion?: Deletion }
  | { readonly kind: 'unusable'; readonly reason: string }
  | { readonly kind: 'failed'; readonly code: string; readonly reason?: string };

/** From the database thread to the event loop. */
export interface DatabaseMessage {
  readonly response: DatabaseResponse;
  /** Null if it is not known. */
  readonly disk: DiskUse | null;
}

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
  /** Start times of the relays whose rows are there. */
  readonly selectRebooted: Statement<[], { readonly rebooted: number }>;
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
  readonly #truncation: WalTruncationOptions;
  #opened: OpenDatabase | null = null;
  #notices: DatabaseNotice[] = [];
  /** The row `current` that was written last. */
  #current: { readonly database: Database.Database; readonly rebooted: number } | null = null;
  /** Cached, so that repeated failures with the same code are diagnosed once. */
  #lockDiagnosis: { readonly code: string; readonly reason: string | null } | null = null;

  constructor(path: string, truncation: WalTruncationOptions = { retryMs: 5000, reportAfterMs: 120_000 }) {
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
    const opened = this.#open();
    const { handle, insertUsage, selectRebooted, clearCurrent, insertCurrent } = opened;
    let isShared = false;
    const writeAll = handle.transaction(() => {
      for (const record of records) insertUsage.run(record);
      // A file that was just opened may have the row of an earlier relay.
      isShared =
        this.#current?.database === handle &&
        selectRebooted.all().some(({ rebooted }) => rebooted !== this.#current?.rebooted);
      clearCurrent.run();
      insertCurrent.run(current);
    });
    writeAll.immediate();
    this.#current = { database: handle, rebooted: current.rebooted };
    if (isShared) this.#notices.push({ kind: 'shared' });
    this.#truncateWal(opened);
  }

  #delete(before: number): Deletion {
    const opened = this.#open();
    const deletion = deleteRecords(opened.handle, before);
    this.#truncateWal(opened);
    return deletion;
  }

  #truncateWal({ handle, truncation }: OpenDatabase): void {
    try {
      const notice = truncation.afterWrite(handle);
      if (notice !== null) this.#notices.push(notice);
    } catch {
      // The request is on disk. If a checkpoint fails, a later request fails too and reports it.
    }
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
        selectRebooted: handle.prepare('SELECT rebooted FROM current'),
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
    let handle;
    try {
      handle = connect(this.#path, enableWal);
    } catch (error) {
      if (!(error instanceof Database.SqliteError && SHARED_MEMORY_ERROR.test(error.code))) throw error;
      handle = connect(this.#path, enableRollbackJournal);
    }
    if (handle.pragma('journal_mode', { simple: true }) !== 'wal')
      this.#notices.push({ kind: 'rollback journal' });
    return handle;
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

/**
 * SQLite truncates the write-ahead log to this size when it restarts the log, in bytes. It is the size at
 * which SQLite checkpoints automatically: 1000 pages.
 */
const WAL_LIMIT_BYTES = 4 * 2 ** 20;

/** A larger log is truncated by a checkpoint, in bytes: the limit plus a large batch. */
const TRUNCATE_ABOVE_BYTES = WAL_LIMIT_BYTES + 2 ** 20;

/** A checkpoint waits this long for readers, in milliseconds. */
const READER_TIMEOUT_MS = 100;

export interface WalTruncationOptions {
  /** Time between two checkpoints while readers block the truncation, in milliseconds. */
  readonly retryMs: number;
  /** Readers that block the truncation for longer are reported, in milliseconds. */
  readonly reportAfterMs: number;
}

/**
 * Keeps the write-ahead log of one database small. SQLite checkpoints automatically but never shortens the
 * file, and it can't restart the log during a reader's transaction.
 */
class WalTruncation {
  readonly #options: WalTruncationOptions;
  #nextAttemptAt = 0;
  #blockedSince: number | null = null;
  #isReported = false;

  constructor(options: WalTruncationOptions) {
    this.#options = options;
  }

  /**
   * Truncates a large log, unless readers need it. Call it after a write, outside a transaction.
   *
   * @returns a notice for the operator; null if nothing has changed
   * @throws SqliteError
   */
  afterWrite(database: Database.Database): DatabaseNotice | null {
    const bytes = walBytes(database);
    const now = performance.now();
    if (bytes <= TRUNCATE_ABOVE_BYTES) return this.#reset();
    if (now < this.#nextAttemptAt) return null;
    if (truncate(database)) return this.#reset();
    this.#blockedSince ??= now;
    this.#nextAttemptAt = now + this.#options.retryMs;
    const blockedMs = now - this.#blockedSince;
    if (this.#isReported || blockedMs < this.#options.reportAfterMs) return null;
    this.#isReported = true;
    return { kind: 'wal blocked', seconds: Math.round(blockedMs / 1000), bytes };
  }

  #reset(): DatabaseNotice | null {
    const wasReported = this.#isReported;
    this.#nextAttemptAt = 0;
    this.#blockedSince = null;
    this.#isReported = false;
    return wasReported ? { kind: 'wal truncated' } : null;
  }
}

/** False if readers still need the log. Everything else in it has been written to the database. */
function truncate(database: Database.Database): boolean {
  database.pragma(`busy_timeout = ${READER_TIMEOUT_MS}`);
  try {
    return database.pragma('wal_checkpoint(TRUNCATE)', { simple: true }) === 0;
  } finally {
    database.pragma(`busy_timeout = ${BUSY_TIMEOUT_MS}`);
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
  const reason =
    error instanceof SchemaError
      ? error.message
      : (diagnoseWriteFailure(path, error) ?? reasonForCode(UNUSABLE_REASONS, errorCode(error)));
  if (reason !== undefined) return { kind: 'unusable', reason };
  if (error instanceof Database.SqliteError) return { kind: 'failed', code: error.code };
  return { kind: 'failed', code: error instanceof Error ? error.name : 'unknown' };
}

/** Entry of the database thread: a slow or locked disk blocks this thread and not the event loop. */
function serve(path: string): void {
  const port = parentPort;
  if (port === null) throw new Error('the database thread has no parent');
  const database = new UsageDatabase(path);
  port.on('message', (request: DatabaseRequest) => {
    const response = database.handle(request);
    port.postMessage({ response, disk: readDiskUse(path) } satisfies DatabaseMessage);
    if (request.kind === 'close') port.close();
  });
}

if (!isMainThread && typeof workerData === 'string') serve(workerData);
