import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import type { Answer, Request } from './sqlite-messages.ts';

const THREAD_ENDED: Answer = { kind: 'failed', code: 'THREAD_ENDED' };

/** How long `close` waits for the end of the thread, in milliseconds: some times as long as SQLite waits for a lock. */
const CLOSE_MS = 3000;

/**
 * The database thread, seen from the event loop. A thread that dies is replaced with the next request.
 *
 * It is never terminated. In a thread that is being terminated every call of Node-API fails, and better-sqlite3 aborts the
 * process when that happens while it is loaded or makes an error. The thread ends by itself when it is asked to.
 */
export class DatabaseThread {
  static #running = 0;
  readonly #path: string;
  #worker: Worker | null = null;
  #settle: ((answer: Answer) => void) | null = null;
  #exited: Promise<void> = Promise.resolve();
  #closed = false;

  constructor(path: string) {
    this.#path = path;
  }

  /** Threads of this process. Exiting would terminate them, or wait forever for one that is stuck. */
  static get running(): number {
    return DatabaseThread.#running;
  }

  /** Sends one request. The caller waits for the answer before it sends another. */
  ask(request: Request): Promise<Answer> {
    if (this.#closed) return Promise.resolve(THREAD_ENDED);
    const worker = this.#worker ?? this.#spawn();
    return new Promise((resolve) => {
      this.#settle = resolve;
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
    worker.postMessage({ kind: 'close' } satisfies Request);
    await Promise.race([this.#exited, sleep(CLOSE_MS, undefined, { ref: false })]);
    this.#answer(THREAD_ENDED);
  }

  #spawn(): Worker {
    const worker = new Worker(new URL('sqlite-worker.ts', import.meta.url), { workerData: this.#path });
    this.#worker = worker;
    DatabaseThread.#running += 1;
    worker.on('message', (answer: Answer) => this.#answer(answer));
    // 'exit' follows and settles what is open.
    worker.on('error', () => undefined);
    this.#exited = new Promise((resolve) => {
      worker.once('exit', () => {
        DatabaseThread.#running -= 1;
        resolve();
        if (this.#worker !== worker) return;
        this.#worker = null;
        this.#answer(THREAD_ENDED);
      });
    });
    return worker;
  }

  #answer(answer: Answer): void {
    const settle = this.#settle;
    this.#settle = null;
    settle?.(answer);
  }
}
