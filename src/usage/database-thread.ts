import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import type { CurrentUsage, UsageRecord } from './record.ts';
import type { Deletion } from './retention.ts';

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
 */
export type DatabaseNotice =
  | { readonly kind: 'rollback journal' }
  | { readonly kind: 'wal blocked'; readonly seconds: number; readonly bytes: number }
  | { readonly kind: 'wal truncated' };

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

const THREAD_EXITED: DatabaseResponse = { kind: 'failed', code: 'THREAD_ENDED' };

/** How long `close` waits for the thread to exit, in milliseconds: a multiple of SQLite's lock timeout. */
const CLOSE_TIMEOUT_MS = 3000;

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

  constructor(path: string) {
    this.#path = path;
  }

  /** Running threads of this process. An exit would terminate them, or wait forever for a stuck one. */
  static get runningCount(): number {
    return DatabaseThread.#runningCount;
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
    await Promise.race([this.#exited, sleep(CLOSE_TIMEOUT_MS, undefined, { ref: false })]);
    this.#settleRequest(THREAD_EXITED);
  }

  #spawn(): Worker {
    const worker = new Worker(new URL('usage-database.ts', import.meta.url), { workerData: this.#path });
    this.#worker = worker;
    DatabaseThread.#runningCount += 1;
    worker.on('message', (response: DatabaseResponse) => this.#settleRequest(response));
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
