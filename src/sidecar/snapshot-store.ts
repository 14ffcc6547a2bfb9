import { accessSync, constants } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Piscina } from 'piscina';
import type { Snapshot } from './api.ts';
import { readSnapshots, removeRemains } from './snapshot-files.ts';
import type { SnapshotOutcome, SnapshotTask } from './snapshot-job.ts';
import { cancel, createCancelFlag } from './snapshot-pace.ts';
import type { UsageSource } from './usage-source.ts';

/** Why there is no snapshot, in a sentence for the operator. */
export class SnapshotError extends Error {}

/** How long a snapshot that was told to end may take to do so before its thread is ended, in milliseconds. */
const CLOSE_MS = 2000;

const JOB = { filename: new URL('snapshot-job.ts', import.meta.url).href, name: 'takeSnapshot' };

export interface SnapshotStoreOptions {
  /** Made when it is missing. It belongs to one store alone. */
  readonly directory: string;
  /** Snapshots that are kept, 1 at least. */
  readonly keep: number;
  readonly source: UsageSource;
  readonly pool: Pick<Piscina, 'run'>;
}

/** A directory of snapshots. */
export class SnapshotStore {
  readonly #directory: string;
  readonly #keep: number;
  readonly #source: UsageSource;
  readonly #pool: Pick<Piscina, 'run'>;
  readonly #cancel = createCancelFlag();
  readonly #abort = new AbortController();
  #snapshots: readonly Snapshot[] = [];
  #taking: Promise<Snapshot> | null = null;

  private constructor({ directory, keep, source, pool }: SnapshotStoreOptions) {
    this.#directory = resolve(directory);
    this.#keep = keep;
    this.#source = source;
    this.#pool = pool;
  }

  /**
   * Makes the directory, and removes what a process that was killed has left there.
   *
   * @throws SnapshotError when it can't be used
   */
  static async open(options: SnapshotStoreOptions): Promise<SnapshotStore> {
    const store = new SnapshotStore(options);
    try {
      await mkdir(store.#directory, { recursive: true });
      accessSync(store.#directory, constants.R_OK | constants.W_OK | constants.X_OK);
      await removeRemains(store.#directory);
      await store.refresh();
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      throw new SnapshotError(
        `can't keep snapshots in "${store.#directory}": ${reason}; make it this user's, or set SIDECAR_SNAPSHOT_DIR`,
        { cause: error },
      );
    }
    return store;
  }

  /** Newest first, as of the last snapshot or `refresh`. */
  list(): readonly Snapshot[] {
    return this.#snapshots;
  }

  /** The file of a snapshot in the list, or null: nothing else has a path here. */
  pathOf(name: string): string | null {
    const isListed = this.#snapshots.some((snapshot) => snapshot.name === name);
    return isListed ? join(this.#directory, name) : null;
  }

  /** Looks at the directory again, where an operator may have removed something. */
  async refresh(): Promise<void> {
    this.#snapshots = await readSnapshots(this.#directory);
  }

  /**
   * Takes a snapshot in a thread of the pool. Whoever asks while one is being taken gets that one.
   *
   * @throws SnapshotError, and all earlier snapshots are still there
   */
  take(): Promise<Snapshot> {
    this.#taking ??= this.#take().finally(() => {
      this.#taking = null;
    });
    return this.#taking;
  }

  /** Breaks off what is being taken. Its unfinished file goes now or, should that take long, with the next `open`. */
  async close(): Promise<void> {
    cancel(this.#cancel);
    const taking = this.#taking?.catch(() => undefined);
    await Promise.race([taking, sleep(CLOSE_MS, undefined, { ref: false })]);
    this.#abort.abort();
    await taking;
  }

  async #take(): Promise<Snapshot> {
    const outcome = await this.#run();
    if (outcome.kind === 'cancelled')
      throw new SnapshotError('the snapshot was broken off: the sidecar is ending');
    if (outcome.kind === 'failed') throw new SnapshotError(outcome.problem);
    await this.refresh();
    return outcome.snapshot;
  }

  async #run(): Promise<SnapshotOutcome> {
    const task: SnapshotTask = {
      source: this.#source,
      directory: this.#directory,
      keep: this.#keep,
      cancel: this.#cancel,
    };
    try {
      const outcome: SnapshotOutcome = await this.#pool.run(task, { ...JOB, signal: this.#abort.signal });
      return outcome;
    } catch (error) {
      if (this.#abort.signal.aborted) return { kind: 'cancelled' };
      const reason = error instanceof Error ? error.message : String(error);
      return { kind: 'failed', problem: `the thread that took the snapshot failed: ${reason}` };
    }
  }
}
