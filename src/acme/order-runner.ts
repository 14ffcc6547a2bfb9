import { fork } from 'node:child_process';
import { join } from 'node:path';
import type { Challenge, IssuedCertificate, OrderFailure, OrderReport, OrderTask } from './order-messages.ts';

const ORDER_PROCESS_PATH = join(import.meta.dirname, 'order-process.ts');

/** The heap of the process: its modules need 25 MiB. */
const HEAP_MIB = 64;

/** Time for one order, in milliseconds. Up to 100 domains are checked one after the other. */
const ORDER_TIMEOUT_MS = 600_000;

/** An order failed. */
export class OrderError extends Error {
  readonly failure: OrderFailure;

  constructor(failure: OrderFailure) {
    super(failure.detail);
    this.failure = failure;
  }
}

/**
 * Orders a certificate in a process of its own.
 *
 * @param present called before the CA checks this
 * @throws OrderError
 */
export async function runOrder(
  task: OrderTask,
  present: (challenge: Challenge) => void,
  signal: AbortSignal,
): Promise<IssuedCertificate> {
  const { promise, resolve, reject } = Promise.withResolvers<IssuedCertificate>();
  const fail = (detail: string): void => reject(new OrderError({ problem: null, detail, retryAtMs: null }));
  const child = fork(ORDER_PROCESS_PATH, {
    execArgv: [`--max-old-space-size=${HEAP_MIB}`, '--no-warnings'],
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  });
  const kill = (): void => void child.kill('SIGKILL');
  const timer = setTimeout(kill, ORDER_TIMEOUT_MS);
  signal.addEventListener('abort', kill, { once: true });
  child.on('error', (error) => fail(error.message));
  child.once('exit', (code, by) => fail(`the process of the order ended with ${by ?? `exit code ${code}`}`));
  child.on('message', (report: OrderReport) => {
    switch (report.kind) {
      case 'challenge':
        present(report.challenge);
        child.send('presented', () => undefined);
        break;
      case 'issued':
        resolve(report.issued);
        break;
      case 'failed':
        reject(new OrderError(report.failure));
        break;
    }
  });
  child.send(task, () => undefined);
  if (signal.aborted) kill();
  try {
    return await promise;
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', kill);
  }
}
