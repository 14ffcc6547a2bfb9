import type { Snapshot } from '../api.ts';

/** What takes the snapshots. */
export interface SnapshotTaker {
  /** Newest first. */
  list(): readonly Snapshot[];
  /** Rejects with an error whose message is a sentence for the operator. */
  take(): Promise<Snapshot>;
}

export interface SnapshotEvents {
  readonly onTaken: (snapshot: Snapshot) => void;
  /** There will be another attempt. */
  readonly onFailed: (problem: string, failuresInARow: number) => void;
  /** A snapshot was taken after so many failures. */
  readonly onRecovered: (failuresInARow: number) => void;
}

export interface SnapshotScheduleOptions {
  readonly taker: SnapshotTaker;
  /** From one snapshot to the next, in milliseconds of the wall clock. */
  readonly intervalMs: number;
  readonly events: SnapshotEvents;
  /** Milliseconds since the epoch. */
  readonly wallClock?: () => number;
}

/** Waits after the first, second, … failure in a row, in milliseconds, but for no longer than the interval. The last one repeats. */
const RETRY_DELAYS_MS = [1000, 5000, 15_000, 60_000] as const;

/** The clock is looked at this often, in milliseconds: it may be set while a timer runs. */
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

  /** It does nothing before `start`. */
  constructor({ taker, intervalMs: everyMs, events, wallClock = Date.now }: SnapshotScheduleOptions) {
    this.#taker = taker;
    this.#intervalMs = everyMs;
    this.#events = events;
    this.#wallClock = wallClock;
    const newest = taker.list()[0];
    this.#dueAt = newest === undefined ? wallClock() : Date.parse(newest.time) + everyMs;
  }

  /** When the next snapshot is due. */
  get next(): Date {
    return new Date(this.#dueAt);
  }

  /** Why the last attempt failed, in a sentence; null when it did not. */
  get problem(): string | null {
    return this.#problem;
  }

  /** Snapshots that were taken, and attempts that failed, since this was made. */
  get counts(): { readonly taken: number; readonly failed: number } {
    return this.#counts;
  }

  /** Takes a snapshot at once where one is due. */
  start(): void {
    this.#started = true;
    this.#check();
  }

  /**
   * Takes a snapshot now, and the next one an interval after it. Whoever asks while one is being taken gets that one.
   *
   * @throws what the taker throws
   */
  take(): Promise<Snapshot> {
    this.#taking ??= this.#take().finally(() => {
      this.#taking = null;
      this.#scheduleCheck();
    });
    return this.#taking;
  }

  /** No snapshot begins any more. One that is being taken is for the taker to end. */
  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
  }

  #check(): void {
    const now = this.#wallClock();
    // A clock that was put back must not leave us waiting for longer than an interval.
    this.#dueAt = Math.min(this.#dueAt, now + this.#intervalMs);
    if (now < this.#dueAt) this.#scheduleCheck();
    // What goes wrong is told by an event, and the next attempt is set then.
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
    this.#failures += 1;
    this.#counts.failed += 1;
    const waitMs =
      RETRY_DELAYS_MS[Math.min(this.#failures, RETRY_DELAYS_MS.length) - 1] ?? RETRY_DELAYS_MS[0];
    this.#dueAt = this.#wallClock() + Math.min(waitMs, this.#intervalMs);
    this.#problem = error instanceof Error ? error.message : String(error);
    this.#events.onFailed(this.#problem, this.#failures);
  }
}
