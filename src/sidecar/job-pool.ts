import { fork } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { SnapshotCheckTask } from './snapshots/snapshot-check.ts';
import type { SnapshotOutcome, SnapshotTask } from './snapshots/snapshot-job.ts';
import type {
  AggregateOutcome,
  AggregateTask,
  CsvOutcome,
  CsvTask,
  TotalsOutcome,
  TotalsTask,
} from './usage/usage-job.ts';

const JOB_PROCESS_PATH = fileURLToPath(new URL('job-process.ts', import.meta.url));

/** Memory for the objects of one job, in MiB: several times what the largest report needs. */
const HEAP_MIB = 128;

/** A process without work is ended after this, in milliseconds; it has some 35 MB of its own. */
const IDLE_TIMEOUT_MS = 30_000;

/** How long `close` waits for an idle process that ends by itself, in milliseconds. */
const EXIT_TIMEOUT_MS = 1000;

/** How long `close` waits for processes that it has killed, in milliseconds: the kernel may be waiting for a disk. */
const KILL_TIMEOUT_MS = 2000;

export interface JobPoolOptions {
  readonly maxProcesses: number;
  /**
   * A job that runs for longer is ended with its process, in milliseconds. A damaged or hostile database can keep
   * SQLite busy forever.
   */
  readonly jobTimeoutMs?: number;
  readonly heapMiB?: number;
}

export interface JobOptions {
  /** Ends the job; `run` rejects with the signal's reason. A job that has not begun is dropped. */
  readonly signal?: AbortSignal;
  /** How a job ends that has begun: by itself, without its outcome being used, or at once, with its process. */
  readonly onAbort?: 'finish' | 'kill';
}

/** What a job process can do, by name. */
export interface Jobs {
  readonly aggregate: { readonly task: AggregateTask; readonly outcome: AggregateOutcome };
  readonly csvPage: { readonly task: CsvTask; readonly outcome: CsvOutcome };
  readonly totals: { readonly task: TotalsTask; readonly outcome: TotalsOutcome };
  readonly checkSnapshot: { readonly task: SnapshotCheckTask; readonly outcome: string | null };
  readonly takeSnapshot: { readonly task: SnapshotTask; readonly outcome: SnapshotOutcome };
}

type TaskOf<Name extends keyof Jobs> = Jobs[Name]['task'];
type OutcomeOf<Name extends keyof Jobs> = Jobs[Name]['outcome'];

/** From the pool to a process: one job. The next one comes after its answer. */
export interface JobRequest {
  readonly name: keyof Jobs;
  readonly task: unknown;
}

/** The other way. Errors lose what they are on their way between processes. */
export type JobResponse<Outcome> =
  | { readonly kind: 'done'; readonly outcome: Outcome }
  | { readonly kind: 'failed'; readonly message: string; readonly stack: string };

/** What runs jobs of one name. */
export interface JobRunner<Name extends keyof Jobs> {
  run(name: Name, task: TaskOf<Name>, options?: JobOptions): Promise<OutcomeOf<Name>>;
}

/** A job failed, or the process that ran it did. The next job is not affected. */
export class JobError extends Error {
  /** @param stack where it failed, if that was in another process */
  constructor(message: string, stack?: string) {
    super(message);
    if (stack !== undefined) this.stack = stack;
  }
}

/** A job that was ordered and is not settled yet. */
interface QueuedJob {
  readonly request: JobRequest;
  readonly resolve: (outcome: never) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Runs jobs that open databases in processes of their own, one job at a time in each.
 *
 * These are processes and not threads, because a thread that is inside SQLite can't be ended: one query without an end
 * would keep the sidecar from stopping. Besides, ending a thread that is just loading a native module aborts the whole
 * program. A process can be killed at any moment, and its locks and its memory go with it.
 */
export class JobPool implements JobRunner<keyof Jobs> {
  readonly #options: Required<JobPoolOptions>;
  readonly #queue: QueuedJob[] = [];
  readonly #processes = new Set<JobProcess>();
  #closed = false;

  constructor(options: JobPoolOptions) {
    this.#options = { jobTimeoutMs: Number.POSITIVE_INFINITY, heapMiB: HEAP_MIB, ...options };
  }

  /**
   * Runs a job as soon as a process is free. Rejects with a JobError when it fails, and with an AbortError when it is
   * aborted or the pool is closed.
   */
  run<Name extends keyof Jobs>(
    name: Name,
    task: TaskOf<Name>,
    { signal, onAbort: whenAborted = 'finish' }: JobOptions = {},
  ): Promise<OutcomeOf<Name>> {
    if (signal?.aborted === true) return Promise.reject(abortError());
    const { promise, resolve, reject } = Promise.withResolvers<OutcomeOf<Name>>();
    const order: QueuedJob = { request: { name, task }, resolve, reject };
    const abort = (): void => this.#abort(order, whenAborted);
    signal?.addEventListener('abort', abort, { once: true });
    this.#queue.push(order);
    this.#startNext();
    return promise.finally(() => signal?.removeEventListener('abort', abort));
  }

  /** Drops what waits and kills what runs; idle processes end by themselves. Resolves when the processes are gone, or can't be waited for. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#startNext();
    await Promise.all([...this.#processes].map((worker) => worker.stop(abortError())));
  }

  #startNext(): void {
    if (this.#closed) for (const order of this.#queue.splice(0)) order.reject(abortError());
    for (;;) {
      const order = this.#queue[0];
      const worker = order === undefined ? null : this.#acquireProcess();
      if (order === undefined || worker === null) return;
      this.#queue.shift();
      worker.start(order);
    }
  }

  /** Null: all are busy, and there may be no more. */
  #acquireProcess(): JobProcess | null {
    for (const worker of this.#processes) if (worker.isIdle) return worker;
    if (this.#processes.size >= this.#options.maxProcesses) return null;
    const worker = new JobProcess(this.#options, {
      onIdle: () => this.#startNext(),
      onExit: () => {
        this.#processes.delete(worker);
        this.#startNext();
      },
    });
    this.#processes.add(worker);
    return worker;
  }

  #abort(order: QueuedJob, whenAborted: 'finish' | 'kill'): void {
    const position = this.#queue.indexOf(order);
    if (position >= 0) this.#queue.splice(position, 1);
    const worker = [...this.#processes].find((candidate) => candidate.isRunning(order));
    // Whoever has a job killed waits until nothing of it is left.
    if (worker !== undefined && whenAborted === 'kill') void worker.kill(abortError());
    else order.reject(abortError());
  }
}

interface JobProcessEvents {
  readonly onIdle: () => void;
  /** It has ended, or could not be started. */
  readonly onExit: () => void;
}

class JobProcess {
  readonly #child: ChildProcess;
  readonly #jobTimeoutMs: number;
  readonly #events: JobProcessEvents;
  readonly #exited = Promise.withResolvers<void>();
  #job: QueuedJob | null = null;
  /** Until the deadline of the job, or until it has been idle for long enough. */
  #timer: NodeJS.Timeout | undefined;
  /** Why it was killed. */
  #killReason: Error | null = null;
  #isStopping = false;

  constructor({ jobTimeoutMs: deadlineMs, heapMiB }: Required<JobPoolOptions>, events: JobProcessEvents) {
    this.#jobTimeoutMs = deadlineMs;
    this.#events = events;
    this.#child = fork(JOB_PROCESS_PATH, {
      execArgv: [`--max-old-space-size=${heapMiB}`, '--no-warnings'],
      // Numbers of 64 bits are BigInts.
      serialization: 'advanced',
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    });
    this.#child.on('message', (answer: JobResponse<never>) => this.#onResponse(answer));
    this.#child.once('exit', (code, signal) =>
      this.#onExit(`it ended with ${signal ?? `exit code ${code}`}`),
    );
    // It could not be started. A message that could not be sent is one to a process that is about to exit.
    this.#child.on('error', (error) => {
      if (this.#child.pid === undefined) this.#onExit(error.message);
    });
  }

  get isIdle(): boolean {
    return this.#job === null && !this.#isStopping;
  }

  isRunning(order: QueuedJob): boolean {
    return this.#job === order;
  }

  start(order: QueuedJob): void {
    clearTimeout(this.#timer);
    this.#job = order;
    if (Number.isFinite(this.#jobTimeoutMs)) {
      const late = new JobError(`a job was ended after ${this.#jobTimeoutMs / 1000} s`);
      this.#timer = setTimeout(() => void this.kill(late), this.#jobTimeoutMs);
    }
    // Should it fail, 'exit' or 'error' follows.
    this.#child.send(order.request, () => undefined);
  }

  /** Ends it, and its job with `error`. Resolves when it is gone; a process that waits for a disk is left behind. */
  async kill(error: Error): Promise<void> {
    this.#isStopping = true;
    this.#killReason ??= error;
    this.#child.kill('SIGKILL');
    const leave = setTimeout(() => {
      this.#child.unref();
      this.#child.channel?.unref();
      this.#onExit('it can not be killed');
    }, KILL_TIMEOUT_MS);
    await this.#exited.promise;
    clearTimeout(leave);
  }

  /** Ends it in peace where it has nothing to do, else like `kill`. */
  async stop(error: Error): Promise<void> {
    if (this.#job !== null) return this.kill(error);
    clearTimeout(this.#timer);
    if (!this.#isStopping) this.#disconnect();
    const late = setTimeout(() => void this.kill(error), EXIT_TIMEOUT_MS);
    await this.#exited.promise;
    clearTimeout(late);
  }

  #onResponse(answer: JobResponse<never>): void {
    const order = this.#job;
    if (order === null || this.#isStopping) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#disconnect(), IDLE_TIMEOUT_MS);
    this.#job = null;
    if (answer.kind === 'done') order.resolve(answer.outcome);
    else order.reject(new JobError(answer.message, answer.stack));
    this.#events.onIdle();
  }

  /** It ends by itself when it is disconnected, and keeps what it has compiled for the next one. */
  #disconnect(): void {
    this.#isStopping = true;
    this.#child.disconnect();
  }

  #onExit(why: string): void {
    clearTimeout(this.#timer);
    this.#isStopping = true;
    this.#job?.reject(this.#killReason ?? new JobError(`the process of a job failed: ${why}`));
    this.#job = null;
    this.#exited.resolve();
    this.#events.onExit();
  }
}

function abortError(): DOMException {
  return new DOMException('this job is not wanted any more', 'AbortError');
}
