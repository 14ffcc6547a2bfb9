import { DatabaseThread } from './database-thread.ts';
import type { CurrentUsage, UsageRecord } from './record.ts';
import type { Answer, Notice } from './sqlite-messages.ts';

/** Why the usage database can't be used, in a sentence for the operator. */
export class UsageDatabaseError extends Error {}

/** Records that may wait for a disk that can't be written; about 100 bytes each. */
export const MAX_QUEUED_RECORDS = 100_000;

/** Records written in one transaction at most. */
const MAX_BATCH = 5000;

/** How often the queue is looked at, in milliseconds. What comes between two looks shares a transaction. */
const TICK_MS = 100;

/** `current` is written this often when it has changed, in milliseconds. */
const CURRENT_CHANGED_MS = 1000;

/** `current` is written this often in any case, in milliseconds. */
const CURRENT_ALWAYS_MS = 30_000;

/** Waits after the first, second, … failure in a row, in milliseconds. The last one repeats. */
const RETRY_MS = [100, 500, 1000, 2000, 5000] as const;

/** What is not on disk this long after `close` is given up, in milliseconds. */
const CLOSE_MS = 5000;

/** Lost records are told of so often at most, in milliseconds: with a full queue each that comes is one. */
const TELL_LOST_MS = 10_000;

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
  readonly failed: (failure: WriteFailure) => void;
  /** Writing works again. */
  readonly recovered: (failuresInARow: number) => void;
  /** So many more records are lost: the queue is full, or the time to write them is over. */
  readonly dropped: (count: number) => void;
  /** Writing works, and the operator should know this of it. */
  readonly noticed: (notice: Notice) => void;
  /** So many records were older than the retention and are deleted. */
  readonly deleted: (count: number) => void;
}

/** Which records are deleted, and when. */
export interface Retention {
  /** Records that began longer ago are deleted, in milliseconds. */
  readonly keepMs: number;
  /** From the start to the first deletion, in milliseconds. A host may start with a wrong clock. */
  readonly firstAfterMs?: number;
  /** From one deletion to the next, in milliseconds. */
  readonly everyMs?: number;
}

const FIRST_DELETION_MS = 60_000;
const DELETION_EVERY_MS = 3_600_000;

/** What the `current` row says, but for the time it is written. */
export type CurrentState = Omit<CurrentUsage, 'updated'>;

/** Writes records and the `current` row into SQLite, by a thread of its own: nobody here waits for a disk. */
export class SqliteSink {
  readonly #thread: DatabaseThread;
  readonly #current: () => CurrentState;
  readonly #events: SqliteSinkEvents;
  readonly #queue: UsageRecord[] = [];
  #ticker: NodeJS.Timeout | null = null;
  #writing: Promise<unknown> | null = null;
  #closing: Promise<void> | null = null;
  #writtenCount = 0;
  #failures = 0;
  #retryAt = 0;
  #lostCount = 0;
  /** Of these, the ones that were told of. */
  #toldCount = 0;
  #tellLostAt = 0;
  readonly #retention: Retention | null;
  #deleteAt = Number.POSITIVE_INFINITY;
  #deletedCount = 0;
  #hasJustDeleted = false;
  #written: { readonly state: CurrentState; readonly at: number } | null = null;

  private constructor(
    thread: DatabaseThread,
    current: () => CurrentState,
    events: SqliteSinkEvents,
    retention: Retention | null,
  ) {
    this.#retention = retention;
    if (retention !== null)
      this.#deleteAt = performance.now() + (retention.firstAfterMs ?? FIRST_DELETION_MS);
    this.#thread = thread;
    this.#current = current;
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
    retention: Retention | null = null,
  ): Promise<SqliteSink> {
    const thread = new DatabaseThread(path);
    const answer = await thread.ask({ kind: 'open' });
    if (answer.kind === 'unfit') {
      await thread.close();
      throw new UsageDatabaseError(`can't use "${path}" as the usage database: ${answer.reason}`);
    }
    const sink = new SqliteSink(thread, current, events, retention);
    if (answer.kind === 'failed') sink.#noteFailure(answer);
    else sink.#noteNotices(answer);
    sink.#ticker = setInterval(() => sink.#tick(), TICK_MS);
    return sink;
  }

  /** Records that are on disk, and those that never will be, since the start. */
  get totals(): { readonly written: number; readonly dropped: number } {
    return { written: this.#writtenCount, dropped: this.#lostCount };
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
    this.#lostCount += 1;
    this.#tellLost();
  }

  /** Writes everything that waits and a last `current` row, then lets go of the file. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    if (this.#ticker !== null) clearInterval(this.#ticker);
    await Promise.race([this.#flush(), sleep(CLOSE_MS)]);
    this.#lostCount += this.#queue.length;
    this.#tellLostAt = 0;
    this.#tellLost();
    await this.#thread.close();
  }

  async #flush(): Promise<void> {
    await this.#writing;
    const giveUpAt = performance.now() + CLOSE_MS;
    this.#written = null;
    while ((this.#written === null || this.#queue.length > 0) && performance.now() < giveUpAt) {
      if (!(await this.#write())) await sleep(RETRY_MS[0]);
    }
    await this.#thread.ask({ kind: 'close' });
  }

  #tick(): void {
    this.#tellLost();
    if (this.#writing !== null || performance.now() < this.#retryAt) return;
    const mustWrite = this.#queue.length > 0 || this.#currentIsDue();
    const mayDelete = performance.now() >= this.#deleteAt && !(mustWrite && this.#hasJustDeleted);
    if (!mustWrite && !mayDelete) return;
    this.#hasJustDeleted = mayDelete;
    this.#writing = (mayDelete ? this.#delete() : this.#write()).then(() => {
      this.#writing = null;
    });
  }

  /** Deletes one batch of old records. The next one comes with the next tick that has nothing to write. */
  async #delete(): Promise<void> {
    if (this.#retention === null) return;
    const { keepMs, everyMs = DELETION_EVERY_MS } = this.#retention;
    const answer: Answer = await this.#thread.ask({ kind: 'delete', before: (Date.now() - keepMs) / 1000 });
    if (answer.kind !== 'done') {
      this.#deleteAt = performance.now() + everyMs;
      this.#noteFailure(answer.kind === 'failed' ? answer : { code: answer.reason });
      return;
    }
    this.#noteNotices(answer);
    this.#deletedCount += answer.deletion?.records ?? 0;
    if (answer.deletion?.isComplete === false) return;
    this.#deleteAt = performance.now() + everyMs;
    if (this.#deletedCount > 0) this.#events.deleted(this.#deletedCount);
    this.#deletedCount = 0;
  }

  /** Writes one batch. The records stay in the queue until they are on disk. */
  async #write(): Promise<boolean> {
    const records = this.#queue.slice(0, MAX_BATCH);
    // Together with records: the bytes of a pair are in its record or among the incomplete ones, and never in both.
    const state = records.length > 0 || this.#currentIsDue() ? this.#current() : null;
    const current = state === null ? null : { ...state, updated: Date.now() / 1000 };
    const answer: Answer = await this.#thread.ask({ kind: 'write', records, current });
    if (answer.kind !== 'done') {
      this.#noteFailure(answer.kind === 'failed' ? answer : { code: answer.reason });
      return false;
    }
    this.#queue.splice(0, records.length);
    this.#writtenCount += records.length;
    if (state !== null) this.#written = { state, at: performance.now() };
    if (this.#failures > 0) this.#events.recovered(this.#failures);
    this.#failures = 0;
    this.#noteNotices(answer);
    return true;
  }

  #noteNotices({ notices = [] }: Extract<Answer, { kind: 'done' }>): void {
    for (const notice of notices) this.#events.noticed(notice);
  }

  #noteFailure({ code, reason }: Pick<WriteFailure, 'code' | 'reason'>): void {
    this.#failures += 1;
    const waitMs = RETRY_MS[Math.min(this.#failures, RETRY_MS.length) - 1] ?? RETRY_MS[0];
    this.#retryAt = performance.now() + waitMs;
    this.#events.failed({
      code,
      ...(reason === undefined ? {} : { reason }),
      failuresInARow: this.#failures,
      queued: this.#queue.length,
    });
  }

  #tellLost(): void {
    const now = performance.now();
    const count = this.#lostCount - this.#toldCount;
    if (count === 0 || now < this.#tellLostAt) return;
    this.#tellLostAt = now + TELL_LOST_MS;
    this.#toldCount = this.#lostCount;
    this.#events.dropped(count);
  }

  #currentIsDue(): boolean {
    if (this.#written === null) return true;
    const age = performance.now() - this.#written.at;
    if (age >= CURRENT_ALWAYS_MS) return true;
    const before = this.#written.state;
    const now = this.#current();
    return (
      age >= CURRENT_CHANGED_MS &&
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
