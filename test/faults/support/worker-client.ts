import { Worker } from 'node:worker_threads';

/**
 * A worker thread that sends one message when it has started, and one as the reply to each request. After its
 * first error, every request rejects with that error.
 */
export class WorkerClient<Request, Reply> {
  readonly #worker: Worker;
  readonly #name: string;
  readonly #timeoutMs: number;
  #error: Error | null = null;
  #pending: PromiseWithResolvers<Reply> | null = null;

  /**
   * @param name of the thread, for errors
   * @param timeoutMs for a reply
   */
  constructor(program: URL, workerData: object, { name, timeoutMs }: { name: string; timeoutMs: number }) {
    this.#name = name;
    this.#timeoutMs = timeoutMs;
    this.#worker = new Worker(program, { workerData });
    this.#worker.on('message', (reply: Reply) => this.#pending?.resolve(reply));
    this.#worker.on('error', (error) =>
      this.#fail(error instanceof Error ? error : new Error('unknown error')),
    );
    this.#worker.on('exit', () => this.#fail(new Error(`${name} has ended`)));
  }

  /** Resolves when the thread has started. */
  started(): Promise<Reply> {
    return this.#receive();
  }

  request(message: Request): Promise<Reply> {
    const reply = this.#receive();
    this.#worker.postMessage(message);
    return reply;
  }

  async terminate(): Promise<void> {
    await this.#worker.terminate();
  }

  async #receive(): Promise<Reply> {
    if (this.#error !== null) throw this.#error;
    this.#pending = Promise.withResolvers<Reply>();
    const timeout = setTimeout(() => this.#fail(new Error(`${this.#name} does not reply`)), this.#timeoutMs);
    try {
      return await this.#pending.promise;
    } finally {
      clearTimeout(timeout);
    }
  }

  #fail(error: Error): void {
    this.#error ??= error;
    this.#pending?.reject(this.#error);
  }
}
