import { StartupError } from '../process/startup-error.ts';
import { DatabaseThread } from './database-thread.ts';
import type { CurrentUsage, UsageRecord } from './record.ts';
import type { DatabaseResponse, DatabaseNotice } from './database-thread.ts';

/** Why the usage database can't be used, in a sentence for the operator. */
export class UsageDatabaseError extends StartupError {}

/** Records that may wait for a disk that can't be written; about 100 bytes each. */
export const MAX_QUEUED_RECORDS = 100_000;

/** Records written in one transaction at most. */
const MAX_BATCH_RECORDS = 5000;

/** How often the queue is looked at, in milliseconds. What comes between two looks shares a transaction. */
const FLUSH_INTERVAL_MS = 100;

/** `current` is written this often when it has changed, in milliseconds. */
const CURRENT_CHANGED_INTERVAL_MS = 1000;

/** `current` is written this often in any case, in milliseconds. */
const CURRENT_MAX_INTERVAL_MS = 30_000;

/** Waits after the first, second, … failure in a row, in milliseconds. The last one repeats. */
const RETRY_DELAYS_MS = [100, 500, 1000, 2000, 5000] as const;

/** What is not on disk this long after `close` is given up, in milliseconds. */
const CLOSE_TIMEOUT_MS = 5000;

/** Lost records are told of so often at most, in milliseconds: with a full queue each that comes is one. */
const DROP_NOTIFY_INTERVAL_MS = 10_000;

export interface WriteFailure {
  /** SQLite's, or the sentence of a file that can't be a usage database. */
  readonly code: string;
  /** A sentence for the operator, where more is known. */
  readonly reason?: string;
  readonly failuresInARow: number;
  readonly queued: number;
}

export interface SqliteSinkEvents {
  /** A write failed and will be tried again. Nothing is lost yet. */
  readonly onFailed: (failure: WriteFailure) => void;
  /** Writing works again. */
  readonly onRecovered: (failuresInARow: number) => void;
  /** So many more records are lost: the queue is full, or the time to write them is over. */
  readonly onDropped: (count: number) => void;
  /** Writing works, and the operator should know this of it. */
  readonly onNotice: (notice: DatabaseNotice) => void;
  /** So many records were older than the retention and are deleted. */
  readonly onDeleted: (count: number) => void;
}

/** Which records are deleted, and when. */
export interface RetentionOptions {
  /** Records that began longer ago are deleted, in milliseconds. */
  readonly maxAgeMs: number;
  /** From the start to the first deletion, in milliseconds. A host may start with a wrong clock. */
  readonly initialDelayMs?: number;
  /** From one deletion to the next, in milliseconds. */
  readonly intervalMs?: number;
}

const DEFAULT_INITIAL_DELAY_MS = 60_000;
const DEFAULT_DELETION_INTERVAL_MS = 3_600_000;

/** What the `current` row says, but for the time it is written. */
export type CurrentState = Omit<CurrentUsage, 'updated'>;

/** Writes records and the `current` row into SQLite, by a thread of its own: nobody here waits for a disk. */
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
  /** Of these, the ones that were told of. */
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
   * Opens the database, or creates it. One that can't be opened just now (it is locked) counts as opened:
   * records wait for it.
   *
   * @param current asked whenever it is time to look at the `current` row
   * @throws UsageDatabaseError when the file can't be a usage database; the file stays as it was
   */
  static async open(
    path: string,
    current: () => CurrentState,
    events: SqliteSinkEvents,
    retention: RetentionOptions | null = null,
  ): Promise<SqliteSink> {
    const thread = new DatabaseThread(path);
    const answer = await thread.request({ kind: 'open' });
    if (answer.kind === 'unusable') {
      await thread.close();
      throw new UsageDatabaseError(`can't use "${path}" as the usage database: ${answer.reason}`);
    }
    const sink = new SqliteSink(thread, current, events, retention);
    if (answer.kind === 'failed') sink.#handleFailure(answer);
    else sink.#emitNotices(answer);
    sink.#flushTimer = setInterval(() => sink.#tick(), FLUSH_INTERVAL_MS);
    return sink;
  }

  /** Records that are on disk, and those that never will be, since the start. */
  get totals(): { readonly written: number; readonly dropped: number } {
    return { written: this.#writtenCount, dropped: this.#droppedCount };
  }

  /** Records that are not on disk yet. */
  get queued(): number {
    return this.#queue.length;
  }

  record(record: UsageRecord): void {
    if (this.#queue.length < MAX_QUEUED_RECORDS) {
      this.#queue.push(record);
      return;
    }
    this.#droppedCount += 1;
    this.#notifyDropped();
  }

  /** Writes everything that waits and a last `current` row, then lets go of the file. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    if (this.#flushTimer !== null) clearInterval(this.#flushTimer);
    await Promise.race([this.#flush(), sleep(CLOSE_TIMEOUT_MS)]);
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
      if (!(await this.#write())) await sleep(RETRY_DELAYS_MS[0]);
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

  /** Deletes one batch of old records. The next one comes with the next tick that has nothing to write. */
  async #delete(): Promise<void> {
    if (this.#retention === null) return;
    const { maxAgeMs: keepMs, intervalMs: everyMs = DEFAULT_DELETION_INTERVAL_MS } = this.#retention;
    const answer: DatabaseResponse = await this.#thread.request({
      kind: 'delete',
      before: (Date.now() - keepMs) / 1000,
    });
    if (answer.kind !== 'done') {
      this.#nextDeletionAt = performance.now() + everyMs;
      this.#handleFailure(answer.kind === 'failed' ? answer : { code: answer.reason });
      return;
    }
    this.#emitNotices(answer);
    this.#deletedCount += answer.deletion?.records ?? 0;
    if (answer.deletion?.isComplete === false) return;
    this.#nextDeletionAt = performance.now() + everyMs;
    if (this.#deletedCount > 0) this.#events.onDeleted(this.#deletedCount);
    this.#deletedCount = 0;
  }

  /** Writes one batch. The records stay in the queue until they are on disk. */
  async #write(): Promise<boolean> {
    const records = this.#queue.slice(0, MAX_BATCH_RECORDS);
    // Together with records: the bytes of a pair are in its record or among the incomplete ones, and never in both.
    const state = records.length > 0 || this.#isCurrentDue() ? this.#readCurrent() : null;
    const current = state === null ? null : { ...state, updated: Date.now() / 1000 };
    const answer: DatabaseResponse = await this.#thread.request({ kind: 'write', records, current });
    if (answer.kind !== 'done') {
      this.#handleFailure(answer.kind === 'failed' ? answer : { code: answer.reason });
      return false;
    }
    this.#queue.splice(0, records.length);
    this.#writtenCount += records.length;
    if (state !== null) this.#lastCurrent = { state, at: performance.now() };
    if (this.#failures > 0) this.#events.onRecovered(this.#failures);
    this.#failures = 0;
    this.#emitNotices(answer);
    return true;
  }

  #emitNotices({ notices = [] }: Extract<DatabaseResponse, { kind: 'done' }>): void {
    for (const notice of notices) this.#events.onNotice(notice);
  }

  #handleFailure({ code, reason }: Pick<WriteFailure, 'code' | 'reason'>): void {
    this.#failures += 1;
    const waitMs =
      RETRY_DELAYS_MS[Math.min(this.#failures, RETRY_DELAYS_MS.length) - 1] ?? RETRY_DELAYS_MS[0];
    this.#retryAt = performance.now() + waitMs;
    this.#events.onFailed({
      code,
      ...(reason === undefined ? {} : { reason }),
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
    const age = performance.now() - this.#lastCurrent.at;
    if (age >= CURRENT_MAX_INTERVAL_MS) return true;
    const before = this.#lastCurrent.state;
    const now = this.#readCurrent();
    return (
      age >= CURRENT_CHANGED_INTERVAL_MS &&
      (now.connected !== before.connected ||
        now.waiting !== before.waiting ||
        now.incomplete_bytes !== before.incomplete_bytes)
    );
  }
}

/** Resolves after `ms`, unless nothing else keeps the process. */
function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms).unref());
}
