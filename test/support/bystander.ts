import { randomBytes } from 'node:crypto';
import type { TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import type { Vitals } from './vitals.ts';

/** A pair begins, and what is on its way through a pair comes out, within this time, in milliseconds. */
const ANSWER_TIMEOUT_MS = 30_000;

/** What one of the bystander's threads is told to do. */
export interface WorkerData {
  readonly role: 'bulk' | 'ping-pong';
  readonly port: number;
  readonly token: string;
}

export type Order = 'begin' | 'end' | 'finish';

/** What a thread saw from `begin` to `end`. */
export interface Window {
  readonly seconds: number;
  readonly bytes: number;
  readonly latenciesMs: readonly number[];
}

export type Answer =
  | { readonly kind: 'begun' }
  | { readonly kind: 'measured'; readonly window: Window }
  | { readonly kind: 'finished'; readonly bytes: number };

/** How the bystander fared for a time. */
export interface Measured {
  readonly mebibytesPerSecond: number;
  /** From a question to its answer by the other side: four times through the kernel and twice through the relay. */
  readonly p50Ms: number;
  readonly p99Ms: number;
}

/** A thread with a pair of its own, seen from here. Its first fault is the answer to everything that is asked afterwards. */
class PairThread {
  readonly #worker: Worker;
  #fault: Error | null = null;
  #open: PromiseWithResolvers<Answer> | null = null;

  constructor(data: WorkerData) {
    this.#worker = new Worker(new URL('bystander-worker.ts', import.meta.url), { workerData: data });
    this.#worker.on('message', (answer: Answer) => this.#open?.resolve(answer));
    this.#worker.on('error', (error) => this.#fail(error instanceof Error ? error : new Error('a fault')));
    this.#worker.on('exit', () => this.#fail(new Error('the bystander has ended')));
  }

  async ask(order: Order | null): Promise<Answer> {
    if (this.#fault !== null) throw this.#fault;
    this.#open = Promise.withResolvers<Answer>();
    if (order !== null) this.#worker.postMessage(order);
    const tooLate = setTimeout(
      () => this.#fail(new Error('a pair of the bystander stands still')),
      ANSWER_TIMEOUT_MS,
    );
    try {
      return await this.#open.promise;
    } finally {
      clearTimeout(tooLate);
    }
  }

  async end(): Promise<void> {
    await this.#worker.terminate();
  }

  #fail(fault: Error): void {
    this.#fault ??= fault;
    this.#open?.reject(this.#fault);
  }
}

/**
 * Somebody whose transfers have nothing to do with what happens to the relay: a pair that moves bytes one way as fast as it
 * can, and one that measures how long a small message takes. Every byte is compared. Both have threads of their own, so
 * that what a test does slows neither down.
 *
 * A byte that is wrong, missing or too many, and a pair that ends, is what `measure` and `finish` reject with.
 */
export class Bystander implements AsyncDisposable {
  readonly #threads: readonly PairThread[];

  private constructor(threads: readonly PairThread[]) {
    this.#threads = threads;
  }

  /** Resolves when both pairs move bytes. @param port where a relay takes TCP, on 127.0.0.1 */
  static async start(port: number): Promise<Bystander> {
    const roles = ['bulk', 'ping-pong'] as const;
    const bystander = new Bystander(
      roles.map((role) => new PairThread({ role, port, token: randomBytes(32).toString('hex') })),
    );
    await bystander.#ask(null);
    return bystander;
  }

  /** Measures for so long, in milliseconds. */
  measure(ms: number): Promise<Measured> {
    return this.measureWhile(() => sleep(ms));
  }

  /** Measures until `action` is over. */
  async measureWhile(action: () => Promise<unknown>): Promise<Measured> {
    await this.#ask('begin');
    await action();
    const windows = (await this.#ask('end')).map((answer) => {
      if (answer.kind !== 'measured') throw new Error(`the bystander said ${answer.kind}`);
      return answer.window;
    });
    const latenciesMs = windows.flatMap((window) => window.latenciesMs).toSorted((one, other) => one - other);
    const at = (share: number): number => latenciesMs[Math.floor((latenciesMs.length - 1) * share)] ?? NaN;
    const rates = windows.map(({ bytes, seconds }) => bytes / seconds / 2 ** 20);
    return { mebibytesPerSecond: Math.max(...rates), p50Ms: at(0.5), p99Ms: at(0.99) };
  }

  /**
   * Ends both pairs as clients do. Resolves with the bytes that each of them moved, both directions together, when all of
   * them have come and were right: what their two records have to say.
   */
  async finish(): Promise<readonly number[]> {
    const answers = await this.#ask('finish');
    return answers.map((answer) => {
      if (answer.kind !== 'finished') throw new Error(`the bystander said ${answer.kind}`);
      return answer.bytes;
    });
  }

  /** Breaks off what has not finished. */
  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#threads.map((thread) => thread.end()));
  }

  #ask(order: Order | null): Promise<Answer[]> {
    return Promise.all(this.#threads.map((thread) => thread.ask(order)));
  }
}

/** What a fault did to a bystander, and what it left of the relay. */
export interface FaultFigures {
  readonly before: Measured;
  readonly during: Measured;
  readonly vitalsBefore: Vitals;
  readonly vitalsAfter: Vitals;
}

/** Prints the figures of a fault as one row of the table of faults; `grep 'FAULT |'` finds them all. */
export function reportFault(
  context: TestContext,
  fault: string,
  { before, during, vitalsBefore, vitalsAfter }: FaultFigures,
): void {
  const cells = [
    'FAULT',
    fault,
    `MiB/s ${before.mebibytesPerSecond.toFixed(0)} / ${during.mebibytesPerSecond.toFixed(0)}`,
    `p99 ms ${before.p99Ms.toFixed(1)} / ${during.p99Ms.toFixed(1)}`,
    `RSS MiB ${vitalsBefore.residentMiB.toFixed(0)} / ${vitalsAfter.residentMiB.toFixed(0)}`,
    `fds ${vitalsBefore.openFiles} / ${vitalsAfter.openFiles}`,
  ];
  context.diagnostic(cells.join(' | '));
}
