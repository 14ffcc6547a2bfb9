import type { Snapshot } from '../api.ts';

/** Takes the snapshots; tests have their own implementation. */
export interface SnapshotTaker {
  /** Newest first. */
  list(): readonly Snapshot[];
  /** Rejects with an error whose message is a sentence for the operator. */
  take(): Promise<Snapshot>;
}

export interface SnapshotEvents {
  readonly onTaken: (snapshot: Snapshot) => void;
  /** The schedule will retry. */
  readonly onFailed: (problem: string, failuresInARow: number) => void;
  /** A snapshot succeeded after this many failures. */
  readonly onRecovered: (failuresInARow: number) => void;
}

export interface SnapshotScheduleOptions {
  readonly taker: SnapshotTaker;
  /** Time between two snapshots, in milliseconds of the wall clock. */
  readonly intervalMs: number;
  readonly events: SnapshotEvents;
  /** Milliseconds since the epoch. */
  readonly wallClock?: () => number;
}

/**
 * Delay after the first, second, … failure in a row, and after all further ones, in milliseconds; at most the
 * interval.
 */
const RETRY_DELAYS_MS = [1000, 5000, 15_000] as const;
const MAX_RETRY_DELAY_MS = 60_000;

/** The clock is checked this often, in milliseconds: it may be set while a timer runs. */
const CLOCK_CHECK_INTERVAL_MS = 30_000;

/** Takes a snapshot whenever the newest one is older than the interval. */
export class SnapshotSchedule {
  readonly #taker: SnapshotTaker;
  readonly #intervalMs: number;
  readonly #events: SnapshotEvents;
  readonly #wallClock: () => number;
  #timer: NodeJS.Timeout | undefined;
  #started = false;
  #closed = false;
  #dueAt: number;
  #taking: Promise<Snapshot> | null = null;
  #failures = 0;
  #problem: string | null = null;
  readonly #counts = { taken: 0, failed: 0 };

  /** Takes no snapshot before `start` or `take`. */
  constructor({ taker, intervalMs, events, wallClock = Date.now }: SnapshotScheduleOptions) {
    this.#taker = taker;
    this.#intervalMs = intervalMs;
    this.#events = events;
    this.#wallClock = wallClock;
    const newest = taker.list()[0];
    this.#dueAt = newest === undefined ? wallClock() : Date.parse(newest.time) + intervalMs;
  }

  /** When the next snapshot is due. */
  get next(): Date {
    return new Date(this.#dueAt);
  }

  /** Why the last attempt failed, in a sentence; null if it succeeded. */
  get problem(): string | null {
    return this.#problem;
  }

  /** Snapshots taken and failed attempts since the start. */
  get counts(): { readonly taken: number; readonly failed: number } {
    return this.#counts;
  }

  /** Starts the schedule. Takes a snapshot at once if one is due. */
  start(): void {
    this.#started = true;
    this.#check();
  }

  /**
   * Takes a snapshot now; the next one follows after the interval. Concurrent callers share one snapshot.
   *
   * @throws the taker's error
   */
  take(): Promise<Snapshot> {
    this.#taking ??= this.#take().finally(() => {
      this.#taking = null;
      this.#scheduleCheck();
    });
    return this.#taking;
  }

  /** Stops the schedule. A running snapshot is left to the taker. */
  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
  }

  #check(): void {
    const now = this.#wallClock();
    // After the clock was set back, the next snapshot must still be at most one interval away.
    this.#dueAt = Math.min(this.#dueAt, now + this.#intervalMs);
    if (now < this.#dueAt) this.#scheduleCheck();
    // `#handleFailure` reports errors and schedules the next attempt.
    else this.take().catch(() => undefined);
  }

  #scheduleCheck(): void {
    if (this.#closed || !this.#started) return;
    const waitMs = Math.max(0, this.#dueAt - this.#wallClock());
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#check(), Math.min(waitMs, CLOCK_CHECK_INTERVAL_MS));
  }

  async #take(): Promise<Snapshot> {
    try {
      const snapshot = await this.#taker.take();
      this.#dueAt = Date.parse(snapshot.time) + this.#intervalMs;
      this.#problem = null;
      this.#counts.taken += 1;
      if (this.#failures > 0) this.#events.onRecovered(this.#failures);
      this.#failures = 0;
      this.#events.onTaken(snapshot);
      return snapshot;
    } catch (error) {
      if (!this.#closed) this.#handleFailure(error);
      throw error;
    }
  }

  #handleFailure(error: unknown): void {
    const waitMs = RETRY_DELAYS_MS[this.#failures] ?? MAX_RETRY_DELAY_MS;
    this.#failures += 1;
    this.#counts.failed += 1;
    this.#dueAt = this.#wallClock() + Math.min(waitMs, this.#intervalMs);
    this.#problem = error instanceof Error ? error.message : String(error);
    this.#events.onFailed(this.#problem, this.#failures);
  }
}
