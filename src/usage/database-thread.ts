import { Worker } from 'node:worker_threads';
import type { Answer, Request } from './sqlite-messages.ts';

const THREAD_ENDED: Answer = { kind: 'failed', code: 'THREAD_ENDED' };

/** The database thread, seen from the event loop. A thread that dies is replaced with the next request. */
export class DatabaseThread {
  readonly #path: string;
  #worker: Worker | null = null;
  #settle: ((answer: Answer) => void) | null = null;

  constructor(path: string) {
    this.#path = path;
  }

  /** Sends one request. The caller waits for the answer before it sends another. */
  ask(request: Request): Promise<Answer> {
    const worker = this.#worker ?? this.#spawn();
    return new Promise((resolve) => {
      this.#settle = resolve;
      worker.postMessage(request);
    });
  }

  /** Ends the thread; a request under way is answered as failed. */
  async close(): Promise<void> {
    await this.#worker?.terminate();
  }

  #spawn(): Worker {
    const worker = new Worker(new URL('sqlite-worker.ts', import.meta.url), { workerData: this.#path });
    this.#worker = worker;
    worker.on('message', (answer: Answer) => this.#answer(answer));
    // 'exit' follows and settles what is open.
    worker.on('error', () => undefined);
    worker.on('exit', () => {
      if (this.#worker !== worker) return;
      this.#worker = null;
      this.#answer(THREAD_ENDED);
    });
    return worker;
  }

  #answer(answer: Answer): void {
    const settle = this.#settle;
    this.#settle = null;
    settle?.(answer);
  }
}
