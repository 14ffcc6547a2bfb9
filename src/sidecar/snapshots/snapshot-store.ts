import { accessSync, constants } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { StartupError } from '../../process/errors.ts';
import type { Snapshot } from '../api.ts';
import type { JobRunner } from '../job-pool.ts';
import type { UsageSource } from '../usage/usage-source.ts';
import { readSnapshots, removeLeftovers } from './snapshot-files.ts';
import type { SnapshotOutcome, SnapshotTask } from './snapshot-job.ts';

/** A snapshot failed. The message is a sentence for the operator. */
export class SnapshotError extends StartupError {}

export interface SnapshotStoreOptions {
  /** Created if missing. Only one store may use it. */
  readonly directory: string;
  /** Number of snapshots to keep, at least 1. */
  readonly keep: number;
  readonly source: UsageSource;
  readonly pool: JobRunner<'takeSnapshot'>;
}

/** A directory of snapshots. */
export class SnapshotStore {
  readonly #task: SnapshotTask;
  readonly #pool: JobRunner<'takeSnapshot'>;
  readonly #abort = new AbortController();
  #snapshots: readonly Snapshot[] = [];
  #taking: Promise<Snapshot> | null = null;

  private constructor({ directory, keep, source, pool }: SnapshotStoreOptions) {
    this.#task = { source, directory: resolve(directory), keep };
    this.#pool = pool;
  }

  /**
   * Creates the directory, and removes files that a killed process has left there.
   *
   * @throws SnapshotError if the directory can't be used
   */
  static async open(options: SnapshotStoreOptions): Promise<SnapshotStore> {
    const store = new SnapshotStore(options);
    const { directory } = store.#task;
    try {
      await mkdir(directory, { recursive: true });
      accessSync(directory, constants.R_OK | constants.W_OK | constants.X_OK);
      await removeLeftovers(directory);
      await store.refresh();
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      throw new SnapshotError(
        `can't keep snapshots in "${directory}": ${reason}; change its owner to this user, or set SIDECAR_SNAPSHOT_DIR`,
        { cause: error },
      );
    }
    return store;
  }

  /** Newest first, as of the last snapshot or `refresh`. */
  list(): readonly Snapshot[] {
    return this.#snapshots;
  }

  /** The path of a snapshot in the list; null for all other names. */
  pathOf(name: string): string | null {
    const isListed = this.#snapshots.some((snapshot) => snapshot.name === name);
    return isListed ? join(this.#task.directory, name) : null;
  }

  /** Rereads the directory: an operator may have removed files. */
  async refresh(): Promise<void> {
    this.#snapshots = await readSnapshots(this.#task.directory);
  }

  /**
   * Takes a snapshot in a job process. Concurrent callers share one snapshot.
   *
   * @throws SnapshotError; earlier snapshots are not affected
   */
  take(): Promise<Snapshot> {
    this.#taking ??= this.#take().finally(() => {
      this.#taking = null;
    });
    return this.#taking;
  }

  /**
   * Aborts a running snapshot and removes its unfinished files. The next `open` removes those that are left.
   */
  async close(): Promise<void> {
    const taking = this.#taking?.catch(() => undefined);
    this.#abort.abort();
    if (taking === undefined) return;
    await taking;
    await removeLeftovers(this.#task.directory).catch(() => undefined);
  }

  async #take(): Promise<Snapshot> {
    const outcome = await this.#runJob();
    if (outcome.kind === 'failed') throw new SnapshotError(outcome.problem);
    await this.refresh();
    return outcome.snapshot;
  }

  async #runJob(): Promise<SnapshotOutcome> {
    const { signal } = this.#abort;
    try {
      return await this.#pool.run('takeSnapshot', this.#task, { signal, onAbort: 'kill' });
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      throw new SnapshotError(
        signal.aborted ? 'snapshot aborted: the sidecar is shutting down' : `the snapshot failed: ${reason}`,
        { cause: error },
      );
    }
  }
}
