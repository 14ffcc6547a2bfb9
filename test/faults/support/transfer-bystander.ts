import { randomBytes } from 'node:crypto';
import type { TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import type { Vitals } from '../../support/vitals.ts';

/** Time for a pair to start, and for bytes in flight to arrive, in milliseconds. */
const ANSWER_TIMEOUT_MS = 30_000;

/** Commands for a thread of the bystander. */
export interface WorkerData {
  readonly role: 'bulk' | 'ping-pong';
  readonly port: number;
  readonly token: string;
}

export type Order = 'begin' | 'end' | 'finish';

/** Measurements of a thread from `begin` to `end`. */
export interface Window {
  readonly seconds: number;
  readonly bytes: number;
  readonly latenciesMs: readonly number[];
}

export type Answer =
  | { readonly kind: 'begun' }
  | { readonly kind: 'measured'; readonly window: Window }
  | { readonly kind: 'finished'; readonly bytes: number };

/** Measurements of the bystander over a period. */
export interface Measured {
  readonly mebibytesPerSecond: number;
  /** From a ping to its echo by the other side: four times through the kernel and twice through the relay. */
  readonly p50Ms: number;
  readonly p99Ms: number;
}

/**
 * A thread with its own pair, as seen from this thread. After its first error, every request rejects with
 * that error.
 */
class PairThread {
  readonly #worker: Worker;
  #error: Error | null = null;
  #open: PromiseWithResolvers<Answer> | null = null;

  constructor(data: WorkerData) {
    this.#worker = new Worker(new URL('transfer-bystander-worker.ts', import.meta.url), { workerData: data });
    this.#worker.on('message', (answer: Answer) => this.#open?.resolve(answer));
    this.#worker.on('error', (error) =>
      this.#fail(error instanceof Error ? error : new Error('unknown error')),
    );
    this.#worker.on('exit', () => this.#fail(new Error('the thread of the bystander has ended')));
  }

  async ask(order: Order | null): Promise<Answer> {
    if (this.#error !== null) throw this.#error;
    this.#open = Promise.withResolvers<Answer>();
    if (order !== null) this.#worker.postMessage(order);
    const timer = setTimeout(
      () => this.#fail(new Error('a pair of the bystander has stalled')),
      ANSWER_TIMEOUT_MS,
    );
    try {
      return await this.#open.promise;
    } finally {
      clearTimeout(timer);
    }
  }

  async end(): Promise<void> {
    await this.#worker.terminate();
  }

  #fail(error: Error): void {
    this.#error ??= error;
    this.#open?.reject(this.#error);
  }
}

/**
 * Transfers that are unrelated to what happens to the relay: one pair sends bytes in one direction as fast as
 * possible, and one measures the round trip of a small message. Every byte is compared. Both run in their own
 * threads, so that the test does not slow them down.
 *
 * `measure` and `finish` reject if a byte is wrong, missing or surplus, or if a pair ends.
 */
export class TransferBystander implements AsyncDisposable {
  readonly #threads: readonly PairThread[];

  private constructor(threads: readonly PairThread[]) {
    this.#threads = threads;
  }

  /** Resolves when both pairs relay bytes. @param port TCP port of a relay on 127.0.0.1 */
  static async start(port: number): Promise<TransferBystander> {
    const roles = ['bulk', 'ping-pong'] as const;
    const bystander = new TransferBystander(
      roles.map((role) => new PairThread({ role, port, token: randomBytes(32).toString('hex') })),
    );
    await bystander.#ask(null);
    return bystander;
  }

  /** Measures for that many milliseconds. */
  measure(ms: number): Promise<Measured> {
    return this.measureWhile(() => sleep(ms));
  }

  /** Measures until `action` has finished. */
  async measureWhile(action: () => Promise<unknown>): Promise<Measured> {
    await this.#ask('begin');
    await action();
    const windows = (await this.#ask('end')).map((answer) => {
      if (answer.kind !== 'measured') throw new Error(`unexpected reply of the bystander: ${answer.kind}`);
      return answer.window;
    });
    const latenciesMs = windows.flatMap((window) => window.latenciesMs).toSorted((one, other) => one - other);
    const at = (share: number): number => latenciesMs[Math.floor((latenciesMs.length - 1) * share)] ?? NaN;
    const rates = windows.map(({ bytes, seconds }) => bytes / seconds / 2 ** 20);
    return { mebibytesPerSecond: Math.max(...rates), p50Ms: at(0.5), p99Ms: at(0.99) };
  }

  /**
   * Ends both pairs as clients do. Resolves with the bytes that each of them relayed, both directions
   * together, once all have arrived and were correct. Their two records must have these numbers.
   */
  async finish(): Promise<readonly number[]> {
    const answers = await this.#ask('finish');
    return answers.map((answer) => {
      if (answer.kind !== 'finished') throw new Error(`unexpected reply of the bystander: ${answer.kind}`);
      return answer.bytes;
    });
  }

  /** Aborts what has not finished. */
  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#threads.map((thread) => thread.end()));
  }

  #ask(order: Order | null): Promise<Answer[]> {
    return Promise.all(this.#threads.map((thread) => thread.ask(order)));
  }
}

/** Measurements before and during a fault, of a bystander and of the relay. */
export interface FaultFigures {
  readonly before: Measured;
  readonly during: Measured;
  readonly vitalsBefore: Vitals;
  readonly vitalsAfter: Vitals;
}

/** Prints the measurements of a fault as one row of the table of faults; `grep 'FAULT |'` finds all rows. */
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
    `fds ${vitalsBefore.fdCount} / ${vitalsAfter.fdCount}`,
  ];
  context.diagnostic(cells.join(' | '));
}
