import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import type { CurrentUsage, UsageRecord } from './record.ts';
import type { Deletion } from './retention.ts';

/** What the event loop asks of the database thread: one request at a time, each one transaction. */
export type DatabaseRequest =
  | { readonly kind: 'open' }
  | {
      readonly kind: 'write';
      readonly records: readonly UsageRecord[];
      readonly current: CurrentUsage | null;
    }
  /** Deletes a batch of records that began before this time, in seconds since the epoch. */
  | { readonly kind: 'delete'; readonly before: number }
  | { readonly kind: 'close' };

/**
 * What an operator should know of a database that works.
 *
 * - `rollback journal`: the file system can't share memory between processes, so there is no write-ahead log
 * - `wal blocked`: readers have kept the write-ahead log from being truncated for so long, and it has this size
 * - `wal truncated`: after `wal blocked`, the log is small again
 */
export type DatabaseNotice =
  | { readonly kind: 'rollback journal' }
  | { readonly kind: 'wal blocked'; readonly seconds: number; readonly bytes: number }
  | { readonly kind: 'wal truncated' };

/**
 * - `done`: the request is on disk
 * - `unusable`: the file is not a usage database; trying again is of no use
 * - `failed`: it did not work this time, and nothing of the request was written; a reason is a sentence for the operator
 */
export type DatabaseResponse =
  | { readonly kind: 'done'; readonly notices?: readonly DatabaseNotice[]; readonly deletion?: Deletion }
  | { readonly kind: 'unusable'; readonly reason: string }
  | { readonly kind: 'failed'; readonly code: string; readonly reason?: string };

const THREAD_EXITED: DatabaseResponse = { kind: 'failed', code: 'THREAD_ENDED' };

/** How long `close` waits for the end of the thread, in milliseconds: some times as long as SQLite waits for a lock. */
const CLOSE_TIMEOUT_MS = 3000;

/**
 * The database thread, seen from the event loop. A thread that dies is replaced with the next request.
 *
 * It is never terminated. In a thread that is being terminated every call of Node-API fails, and better-sqlite3 aborts the
 * process when that happens while it is loaded or makes an error. The thread ends by itself when it is asked to.
 */
export class DatabaseThread {
  static #runningCount = 0;
  readonly #path: string;
  #worker: Worker | null = null;
  #resolveRequest: ((answer: DatabaseResponse) => void) | null = null;
  #exited: Promise<void> = Promise.resolve();
  #closed = false;

  constructor(path: string) {
    this.#path = path;
  }

  /** Threads of this process. Exiting would terminate them, or wait forever for one that is stuck. */
  static get runningCount(): number {
    return DatabaseThread.#runningCount;
  }

  /** Sends one request. The caller waits for the answer before it sends another. */
  request(request: DatabaseRequest): Promise<DatabaseResponse> {
    if (this.#closed) return Promise.resolve(THREAD_EXITED);
    const worker = this.#worker ?? this.#spawn();
    return new Promise((resolve) => {
      this.#resolveRequest = resolve;
      worker.postMessage(request);
    });
  }

  /**
   * Lets go of the file and ends the thread, after the request under way. A thread that is stuck in that one is left behind.
   */
  async close(): Promise<void> {
    this.#closed = true;
    const worker = this.#worker;
    if (worker === null) return;
    worker.postMessage({ kind: 'close' } satisfies DatabaseRequest);
    await Promise.race([this.#exited, sleep(CLOSE_TIMEOUT_MS, undefined, { ref: false })]);
    this.#settleRequest(THREAD_EXITED);
  }

  #spawn(): Worker {
    const worker = new Worker(new URL('sqlite-worker.ts', import.meta.url), { workerData: this.#path });
    this.#worker = worker;
    DatabaseThread.#runningCount += 1;
    worker.on('message', (answer: DatabaseResponse) => this.#settleRequest(answer));
    // 'exit' follows and settles what is open.
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

  #settleRequest(answer: DatabaseResponse): void {
    const settle = this.#resolveRequest;
    this.#resolveRequest = null;
    settle?.(answer);
  }
}
