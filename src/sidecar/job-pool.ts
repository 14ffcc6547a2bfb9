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

/** JavaScript heap of a job process, in MiB: several times the need of the largest report. */
const HEAP_MIB = 128;

/** An idle process is stopped after this time, in milliseconds; it uses about 35 MB. */
const IDLE_TIMEOUT_MS = 30_000;

/** How long `close` waits for an idle process to exit by itself, in milliseconds. */
const EXIT_TIMEOUT_MS = 1000;

/** How long `close` waits for killed processes, in milliseconds: the kernel may be waiting for a disk. */
const KILL_TIMEOUT_MS = 2000;

export interface JobPoolOptions {
  readonly maxProcesses: number;
  /**
   * A job that runs longer is killed with its process, in milliseconds. A damaged or malicious database can
   * keep SQLite busy forever.
   */
  readonly jobTimeoutMs?: number;
  readonly heapMiB?: number;
}

export interface JobOptions {
  /** Aborts the job; `run` rejects with an AbortError. A queued job is dropped. */
  readonly signal?: AbortSignal;
  /**
   * What happens to a running job: it finishes and its outcome is ignored, or it is killed with its process.
   */
  readonly onAbort?: 'finish' | 'kill';
}

/** The jobs of a job process, by name. */
export interface Jobs {
  readonly aggregate: { readonly task: AggregateTask; readonly outcome: AggregateOutcome };
  readonly csvPage: { readonly task: CsvTask; readonly outcome: CsvOutcome };
  readonly totals: { readonly task: TotalsTask; readonly outcome: TotalsOutcome };
  readonly checkSnapshot: { readonly task: SnapshotCheckTask; readonly outcome: string | null };
  readonly readAssets: { readonly task: null; readonly outcome: ReadonlyMap<string, string> };
  readonly takeSnapshot: { readonly task: SnapshotTask; readonly outcome: SnapshotOutcome };
}

type TaskOf<Name extends keyof Jobs> = Jobs[Name]['task'];
type OutcomeOf<Name extends keyof Jobs> = Jobs[Name]['outcome'];

/** From the pool to a process: one job. The next one follows after the response. */
export interface JobRequest {
  readonly name: keyof Jobs;
  readonly task: unknown;
}

/** From a process to the pool. Errors are sent as text, because they lose their class between processes. */
export type JobResponse<Outcome> =
  | { readonly kind: 'done'; readonly outcome: Outcome }
  | { readonly kind: 'failed'; readonly message: string; readonly stack: string };

/** Runs jobs of one name; tests have their own implementation. */
export interface JobRunner<Name extends keyof Jobs> {
  run(name: Name, task: TaskOf<Name>, options?: JobOptions): Promise<OutcomeOf<Name>>;
}

/** A job or its process failed. Later jobs are not affected. */
export class JobError extends Error {
  /** @param stack the stack in the job process, if the error occurred there */
  constructor(message: string, stack?: string) {
    super(message);
    if (stack !== undefined) this.stack = stack;
  }
}

/** A queued or running job. */
interface QueuedJob {
  readonly request: JobRequest;
  readonly resolve: (outcome: never) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Runs jobs that open databases or take much memory in separate processes, one job at a time in each.
 *
 * They are processes rather than threads, because a thread inside SQLite can't be stopped: one endless query
 * would keep the sidecar from stopping. Also, ending a thread that is loading a native module aborts the
 * whole program. A process can be killed at any time, and the kernel releases its locks and memory.
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
   * Runs a job as soon as a process is free. Rejects with a JobError if the job fails, and with an AbortError
   * if it is aborted or the pool is closed.
   */
  run<Name extends keyof Jobs>(
    name: Name,
    task: TaskOf<Name>,
    { signal, onAbort = 'finish' }: JobOptions = {},
  ): Promise<OutcomeOf<Name>> {
    if (signal?.aborted === true) return Promise.reject(abortError());
    const { promise, resolve, reject } = Promise.withResolvers<OutcomeOf<Name>>();
    const job: QueuedJob = { request: { name, task }, resolve, reject };
    const abort = (): void => this.#abort(job, onAbort);
    signal?.addEventListener('abort', abort, { once: true });
    this.#queue.push(job);
    this.#startNext();
    return promise.finally(() => signal?.removeEventListener('abort', abort));
  }

  /**
   * Drops queued jobs and kills running ones. Resolves when the processes have exited, or after a timeout.
   */
  async close(): Promise<void> {
    this.#closed = true;
    this.#startNext();
    await Promise.all([...this.#processes].map((worker) => worker.stop(abortError())));
  }

  #startNext(): void {
    if (this.#closed) for (const job of this.#queue.splice(0)) job.reject(abortError());
    for (;;) {
      const job = this.#queue[0];
      const worker = job === undefined ? null : this.#acquireProcess();
      if (job === undefined || worker === null) return;
      this.#queue.shift();
      worker.start(job);
    }
  }

  /** Null if all processes are busy and the pool is at its limit. */
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

  #abort(job: QueuedJob, onAbort: 'finish' | 'kill'): void {
    const position = this.#queue.indexOf(job);
    if (position >= 0) this.#queue.splice(position, 1);
    const worker = [...this.#processes].find((candidate) => candidate.isRunning(job));
    // A killed job is rejected only when its process has exited.
    if (worker !== undefined && onAbort === 'kill') void worker.kill(abortError());
    else job.reject(abortError());
  }
}

interface JobProcessEvents {
  readonly onIdle: () => void;
  /** The process has exited, or could not be started. */
  readonly onExit: () => void;
}

class JobProcess {
  readonly #child: ChildProcess;
  readonly #jobTimeoutMs: number;
  readonly #events: JobProcessEvents;
  readonly #exited = Promise.withResolvers<void>();
  #job: QueuedJob | null = null;
  /** The job timeout or the idle timeout. */
  #timer: NodeJS.Timeout | undefined;
  #killReason: Error | null = null;
  #isStopping = false;

  constructor({ jobTimeoutMs, heapMiB }: Required<JobPoolOptions>, events: JobProcessEvents) {
    this.#jobTimeoutMs = jobTimeoutMs;
    this.#events = events;
    this.#child = fork(JOB_PROCESS_PATH, {
      execArgv: [`--max-old-space-size=${heapMiB}`, '--no-warnings'],
      // 64-bit integers are BigInts.
      serialization: 'advanced',
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    });
    this.#child.on('message', (response: JobResponse<never>) => this.#onResponse(response));
    this.#child.once('exit', (code, signal) =>
      this.#onExit(`it ended with ${signal ?? `exit code ${code}`}`),
    );
    // Without a pid, the process could not be started. Otherwise a message was not sent because the process
    // is exiting.
    this.#child.on('error', (error) => {
      if (this.#child.pid === undefined) this.#onExit(error.message);
    });
  }

  get isIdle(): boolean {
    return this.#job === null && !this.#isStopping;
  }

  isRunning(job: QueuedJob): boolean {
    return this.#job === job;
  }

  start(job: QueuedJob): void {
    clearTimeout(this.#timer);
    this.#job = job;
    if (Number.isFinite(this.#jobTimeoutMs)) {
      const error = new JobError(`job timed out after ${this.#jobTimeoutMs / 1000} s`);
      this.#timer = setTimeout(() => void this.kill(error), this.#jobTimeoutMs);
    }
    // If it fails, 'exit' or 'error' follows.
    this.#child.send(job.request, () => undefined);
  }

  /**
   * Kills the process and rejects its job with `error`. Resolves on exit; a process that waits for a disk is
   * abandoned.
   */
  async kill(error: Error): Promise<void> {
    this.#isStopping = true;
    this.#killReason ??= error;
    this.#child.kill('SIGKILL');
    const abandon = setTimeout(() => {
      this.#child.unref();
      this.#child.channel?.unref();
      this.#onExit("it can't be killed");
    }, KILL_TIMEOUT_MS);
    await this.#exited.promise;
    clearTimeout(abandon);
  }

  /** Lets an idle process exit by itself. Kills it if it has a job or does not exit in time. */
  async stop(error: Error): Promise<void> {
    if (this.#job !== null) return this.kill(error);
    clearTimeout(this.#timer);
    if (!this.#isStopping) this.#disconnect();
    const timeout = setTimeout(() => void this.kill(error), EXIT_TIMEOUT_MS);
    await this.#exited.promise;
    clearTimeout(timeout);
  }

  #onResponse(response: JobResponse<never>): void {
    const job = this.#job;
    if (job === null || this.#isStopping) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#disconnect(), IDLE_TIMEOUT_MS);
    this.#job = null;
    if (response.kind === 'done') job.resolve(response.outcome);
    else job.reject(new JobError(response.message, response.stack));
    this.#events.onIdle();
  }

  /** A disconnected process exits by itself and writes its compile cache for the next one. */
  #disconnect(): void {
    this.#isStopping = true;
    this.#child.disconnect();
  }

  #onExit(why: string): void {
    clearTimeout(this.#timer);
    this.#isStopping = true;
    this.#job?.reject(this.#killReason ?? new JobError(`job process failed: ${why}`));
    this.#job = null;
    this.#exited.resolve();
    this.#events.onExit();
  }
}

function abortError(): DOMException {
  return new DOMException('job aborted', 'AbortError');
}
