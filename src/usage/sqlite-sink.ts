import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { StartupError } from '../process/errors.ts';
import type { DiskUse } from './disk-use.ts';
import type { CurrentUsage, UsageRecord } from './record.ts';
import type { DatabaseMessage, DatabaseNotice, DatabaseRequest, DatabaseResponse } from './usage-database.ts';

/** The usage database can't be used. The message is a sentence for the operator. */
export class UsageDatabaseError extends StartupError {}

/** Maximum number of records that wait for an unwritable disk; about 100 bytes each. */
const MAX_QUEUED_RECORDS = 100_000;

/** Maximum number of records per transaction. */
const MAX_BATCH_RECORDS = 5000;

/** The queue is flushed this often, in milliseconds. Records of one interval share a transaction. */
const FLUSH_INTERVAL_MS = 100;

/** Shortest time between two writes of a changed `current` row, in milliseconds. */
const CURRENT_CHANGED_INTERVAL_MS = 1000;

/** Longest time between two writes of the `current` row, in milliseconds. */
const CURRENT_MAX_INTERVAL_MS = 30_000;

/** Delay after the first, second, … failure in a row, and after all further ones, in milliseconds. */
const RETRY_DELAYS_MS = [100, 500, 1000, 2000] as const;
const MAX_RETRY_DELAY_MS = 5000;

/** Records that are not on disk this long after `close` are dropped, in milliseconds. */
const CLOSE_TIMEOUT_MS = 5000;

/** How long `close` then waits for the thread to exit, in milliseconds: a multiple of SQLite's lock timeout. */
const THREAD_CLOSE_TIMEOUT_MS = 3000;

/**
 * Shortest time between two reports of dropped records, in milliseconds: with a full queue every new record
 * is dropped.
 */
const DROP_NOTIFY_INTERVAL_MS = 10_000;

export interface WriteFailure {
  /** SQLite's code, or a sentence if the file is not a usage database. */
  readonly code: string;
  /** A sentence for the operator, if the cause is known. */
  readonly reason: string | undefined;
  readonly failuresInARow: number;
  readonly queued: number;
}

export interface SqliteSinkEvents {
  /** A write failed and will be retried. No record is lost yet. */
  readonly onFailed: (failure: WriteFailure) => void;
  /** Writes succeed again. */
  readonly onRecovered: (failuresInARow: number) => void;
  /** This many more records are lost: the queue is full, or the sink was closed before they were written. */
  readonly onDropped: (count: number) => void;
  /** Writes succeed, with a notice for the operator. */
  readonly onNotice: (notice: DatabaseNotice) => void;
  /** This many records were older than the retention time and were deleted. */
  readonly onDeleted: (count: number) => void;
}

export interface RetentionOptions {
  /** Older records are deleted, in milliseconds since their start. */
  readonly maxAgeMs: number;
  /** Delay before the first deletion, in milliseconds. The clock of a host may be wrong right after boot. */
  readonly initialDelayMs?: number;
}

const DEFAULT_INITIAL_DELAY_MS = 60_000;

/** Time between two deletions, in milliseconds. */
const DELETION_INTERVAL_MS = 3_600_000;

/** The `current` row without the time of the write. */
export type CurrentState = Omit<CurrentUsage, 'updated'>;

/**
 * Writes records and the `current` row into SQLite through the database thread: the event loop never waits
 * for a disk.
 */
export class SqliteSink {
  readonly #thread: DatabaseThread;
  readonly #readCurrent: () => CurrentState;
  readonly #events: SqliteSinkEvents;
  readonly #queue: UsageRecord[] = [];
  #flushTimer: NodeJS.Timeout | null = null;
  #writing: Promise<unknown> | null = null;
  #closing: Promise<void> | null = null;
  #writtenCount = 0;
  #failures = 0;
  #retryAt = 0;
  #droppedCount = 0;
  /** The part of `#droppedCount` that was reported. */
  #notifiedDropCount = 0;
  #nextDropNotifyAt = 0;
  readonly #retention: RetentionOptions | null;
  #nextDeletionAt = Number.POSITIVE_INFINITY;
  #deletedCount = 0;
  #lastWasDeletion = false;
  #lastCurrent: { readonly state: CurrentState; readonly at: number } | null = null;

  private constructor(
    thread: DatabaseThread,
    current: () => CurrentState,
    events: SqliteSinkEvents,
    retention: RetentionOptions | null,
  ) {
    this.#retention = retention;
    if (retention !== null)
      this.#nextDeletionAt = performance.now() + (retention.initialDelayMs ?? DEFAULT_INITIAL_DELAY_MS);
    this.#thread = thread;
    this.#readCurrent = current;
    this.#events = events;
  }

  /**
   * Opens or creates the database. A database that is temporarily unavailable, for example locked, counts as
   * opened: records wait for it.
   *
   * @param current reads the state for the `current` row
   * @throws UsageDatabaseError if the file is not a usage database; the file is not changed
   */
  static async open(
    path: string,
    current: () => CurrentState,
    events: SqliteSinkEvents,
    retention: RetentionOptions | null = null,
  ): Promise<SqliteSink> {
    const thread = new DatabaseThread(path);
    const response = await thread.request({ kind: 'open' });
    if (response.kind === 'unusable') {
      await thread.close();
      throw new UsageDatabaseError(`can't use "${path}" as the usage database: ${response.reason}`);
    }
    const sink = new SqliteSink(thread, current, events, retention);
    if (response.kind === 'failed') sink.#handleFailure(response);
    else sink.#emitNotices(response);
    sink.#flushTimer = setInterval(() => sink.#tick(), FLUSH_INTERVAL_MS);
    return sink;
  }

  /** Records written to disk, and records lost, since the start. */
  get totals(): { readonly written: number; readonly dropped: number } {
    return { written: this.#writtenCount, dropped: this.#droppedCount };
  }

  /** Records that are not on disk yet. */
  get queued(): number {
    return this.#queue.length;
  }

  /** As of the last request to the database thread, at most half a minute ago; null if unknown. */
  get disk(): DiskUse | null {
    return this.#thread.disk;
  }

  record(record: UsageRecord): void {
    if (this.#queue.length < MAX_QUEUED_RECORDS) {
      this.#queue.push(record);
      return;
    }
    this.#droppedCount += 1;
    this.#notifyDropped();
  }

  /** Writes all queued records and a last `current` row, then closes the file. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    if (this.#flushTimer !== null) clearInterval(this.#flushTimer);
    await Promise.race([this.#flush(), pause(CLOSE_TIMEOUT_MS)]);
    this.#droppedCount += this.#queue.length;
    this.#nextDropNotifyAt = 0;
    this.#notifyDropped();
    await this.#thread.close();
  }

  async #flush(): Promise<void> {
    await this.#writing;
    const giveUpAt = performance.now() + CLOSE_TIMEOUT_MS;
    this.#lastCurrent = null;
    while ((this.#lastCurrent === null || this.#queue.length > 0) && performance.now() < giveUpAt) {
      if (!(await this.#write())) await pause(RETRY_DELAYS_MS[0]);
    }
    await this.#thread.request({ kind: 'close' });
  }

  #tick(): void {
    this.#notifyDropped();
    if (this.#writing !== null || performance.now() < this.#retryAt) return;
    const mustWrite = this.#queue.length > 0 || this.#isCurrentDue();
    const mayDelete = performance.now() >= this.#nextDeletionAt && !(mustWrite && this.#lastWasDeletion);
    if (!mustWrite && !mayDelete) return;
    this.#lastWasDeletion = mayDelete;
    this.#writing = (mayDelete ? this.#delete() : this.#write()).then(() => {
      this.#writing = null;
    });
  }

  /** Deletes one batch of old records. The next batch follows on a later tick, alternating with writes. */
  async #delete(): Promise<void> {
    if (this.#retention === null) return;
    const before = (Date.now() - this.#retention.maxAgeMs) / 1000;
    const response = await this.#thread.request({ kind: 'delete', before });
    if (response.kind !== 'done') {
      this.#nextDeletionAt = performance.now() + DELETION_INTERVAL_MS;
      this.#handleFailure(response);
      return;
    }
    this.#emitNotices(response);
    this.#deletedCount += response.deletion?.records ?? 0;
    if (response.deletion?.isComplete === false) return;
    this.#nextDeletionAt = performance.now() + DELETION_INTERVAL_MS;
    if (this.#deletedCount > 0) this.#events.onDeleted(this.#deletedCount);
    this.#deletedCount = 0;
  }

  /** Writes one batch and the `current` row. The records stay in the queue until they are on disk. */
  async #write(): Promise<boolean> {
    const records = this.#queue.slice(0, MAX_BATCH_RECORDS);
    // In the same transaction as records: the bytes of a pair are either in its record or in
    // `incomplete_bytes`.
    const state = this.#readCurrent();
    const current = { ...state, updated: Date.now() / 1000 };
    const response = await this.#thread.request({ kind: 'write', records, current });
    if (response.kind !== 'done') {
      this.#handleFailure(response);
      return false;
    }
    this.#queue.splice(0, records.length);
    this.#writtenCount += records.length;
    this.#lastCurrent = { state, at: performance.now() };
    if (this.#failures > 0) this.#events.onRecovered(this.#failures);
    this.#failures = 0;
    this.#emitNotices(response);
    return true;
  }

  #emitNotices({ notices = [] }: Extract<DatabaseResponse, { kind: 'done' }>): void {
    for (const notice of notices) this.#events.onNotice(notice);
  }

  #handleFailure(response: Exclude<DatabaseResponse, { kind: 'done' }>): void {
    this.#retryAt = performance.now() + (RETRY_DELAYS_MS[this.#failures] ?? MAX_RETRY_DELAY_MS);
    this.#failures += 1;
    this.#events.onFailed({
      code: response.kind === 'failed' ? response.code : response.reason,
      reason: response.kind === 'failed' ? response.reason : undefined,
      failuresInARow: this.#failures,
      queued: this.#queue.length,
    });
  }

  #notifyDropped(): void {
    const now = performance.now();
    const count = this.#droppedCount - this.#notifiedDropCount;
    if (count === 0 || now < this.#nextDropNotifyAt) return;
    this.#nextDropNotifyAt = now + DROP_NOTIFY_INTERVAL_MS;
    this.#notifiedDropCount = this.#droppedCount;
    this.#events.onDropped(count);
  }

  #isCurrentDue(): boolean {
    if (this.#lastCurrent === null) return true;
    const { state: before, at } = this.#lastCurrent;
    const age = performance.now() - at;
    // Checked first, because reading the state adds up the bytes of all pairs.
    if (age < CURRENT_CHANGED_INTERVAL_MS) return false;
    if (age >= CURRENT_MAX_INTERVAL_MS) return true;
    const now = this.#readCurrent();
    return (
      now.connected !== before.connected ||
      now.waiting !== before.waiting ||
      now.incomplete_bytes !== before.incomplete_bytes
    );
  }
}

const THREAD_EXITED: DatabaseResponse = { kind: 'failed', code: 'THREAD_ENDED' };

/**
 * The event loop's side of the database thread. The next request after a crash of the thread starts a new
 * one.
 *
 * The thread is never terminated. In a thread that is being terminated, every Node-API call fails, and
 * better-sqlite3 aborts the process if that happens while it is loaded or creates an error. Instead, the
 * thread exits on request.
 */
export class DatabaseThread {
  static #runningCount = 0;
  readonly #path: string;
  #worker: Worker | null = null;
  #resolveRequest: ((response: DatabaseResponse) => void) | null = null;
  #exited: Promise<void> = Promise.resolve();
  #closed = false;
  #disk: DiskUse | null = null;

  constructor(path: string) {
    this.#path = path;
  }

  /** Running threads of this process. An exit would terminate them, or wait forever for a stuck one. */
  static get runningCount(): number {
    return DatabaseThread.#runningCount;
  }

  /** As of the last response; null if unknown. */
  get disk(): DiskUse | null {
    return this.#disk;
  }

  /** Sends one request. The caller awaits the response before it sends another. */
  request(request: DatabaseRequest): Promise<DatabaseResponse> {
    if (this.#closed) return Promise.resolve(THREAD_EXITED);
    const worker = this.#worker ?? this.#spawn();
    return new Promise((resolve) => {
      this.#resolveRequest = resolve;
      worker.postMessage(request);
    });
  }

  /**
   * Closes the file and ends the thread after the current request. A thread that is stuck in a request is
   * abandoned.
   */
  async close(): Promise<void> {
    this.#closed = true;
    const worker = this.#worker;
    if (worker === null) return;
    worker.postMessage({ kind: 'close' } satisfies DatabaseRequest);
    await Promise.race([this.#exited, pause(THREAD_CLOSE_TIMEOUT_MS)]);
    this.#settleRequest(THREAD_EXITED);
  }

  #spawn(): Worker {
    const worker = new Worker(new URL('usage-database.ts', import.meta.url), { workerData: this.#path });
    this.#worker = worker;
    DatabaseThread.#runningCount += 1;
    worker.on('message', ({ response, disk }: DatabaseMessage) => {
      this.#disk = disk;
      this.#settleRequest(response);
    });
    // 'exit' follows and settles the current request.
    worker.on('error', () => undefined);
    this.#exited = new Promise((resolve) => {
      worker.once('exit', () => {
        DatabaseThread.#runningCount -= 1;
        resolve();
        if (this.#worker !== worker) return;
        this.#worker = null;
        this.#settleRequest(THREAD_EXITED);
      });
    });
    return worker;
  }

  #settleRequest(response: DatabaseResponse): void {
    const resolve = this.#resolveRequest;
    this.#resolveRequest = null;
    resolve?.(response);
  }
}

/** Resolves after `ms`. It does not keep the process alive. */
function pause(ms: number): Promise<void> {
  return sleep(ms, undefined, { ref: false });
}
