import { randomBytes } from 'node:crypto';
import type { TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Vitals } from '../../support/vitals.ts';
import { WorkerClient } from './worker-client.ts';

/** Time for a pair to start, and for bytes in flight to arrive, in milliseconds. */
const ANSWER_TIMEOUT_MS = 60_000;

/** The pair of a thread of the bystander. */
export interface WorkerData {
  readonly role: 'bulk' | 'ping-pong';
  readonly port: number;
  readonly token: string;
}

/** Requests to a thread. */
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
 * Transfers that are unrelated to what happens to the relay: one pair sends bytes in one direction as fast as
 * possible, and one measures the round trip of a small message. Every byte is compared. Both run in their own
 * threads, so that the test does not slow them down.
 *
 * `measure` and `finish` reject if a byte is wrong, missing or surplus, or if a pair ends.
 */
export class TransferBystander implements AsyncDisposable {
  readonly #threads: readonly WorkerClient<Order, Answer>[];

  private constructor(threads: readonly WorkerClient<Order, Answer>[]) {
    this.#threads = threads;
  }

  /** Resolves when both pairs relay bytes. @param port TCP port of a relay on 127.0.0.1 */
  static async start(port: number): Promise<TransferBystander> {
    const roles = ['bulk', 'ping-pong'] as const;
    const bystander = new TransferBystander(roles.map((role) => startPair(role, port)));
    await Promise.all(bystander.#threads.map((thread) => thread.started()));
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
    await Promise.all(this.#threads.map((thread) => thread.terminate()));
  }

  #ask(order: Order): Promise<Answer[]> {
    return Promise.all(this.#threads.map((thread) => thread.request(order)));
  }
}

/** Starts a thread with its own pair. */
function startPair(role: WorkerData['role'], port: number): WorkerClient<Order, Answer> {
  const data: WorkerData = { role, port, token: randomBytes(32).toString('hex') };
  return new WorkerClient(new URL('transfer-bystander-worker.ts', import.meta.url), data, {
    name: 'a thread of the bystander',
    timeoutMs: ANSWER_TIMEOUT_MS,
  });
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
