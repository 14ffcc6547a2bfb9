/** Maximum of setTimeout, in milliseconds. */
const MAX_TIMER_MS = 2 ** 31 - 1;

/** Time for things that are due at the same moment, in milliseconds. The others follow in the next slice. */
const SLICE_MS = 4;

/** Time between two slices, in milliseconds. */
const SLICE_PAUSE_MS = 1;

/**
 * Reports things that have taken too long. All of them have the same timeout, so the first to start is the
 * first to be due. One timer for the oldest is enough, however many there are; each costs one map entry.
 */
export class TimeoutQueue<Thing> {
  readonly #timeoutMs: number | null;
  readonly #clock: () => number;
  readonly #onTimeout: (thing: Thing) => void;
  /** Due time of each thing, the oldest first. */
  readonly #dueTimes = new Map<Thing, number>();
  #timer: NodeJS.Timeout | null = null;

  /**
   * @param timeoutMs null: no timeout
   * @param clock milliseconds of a monotonic clock
   * @param onTimeout called once for each thing that is due, after it has been removed
   */
  constructor(timeoutMs: number | null, clock: () => number, onTimeout: (thing: Thing) => void) {
    this.#timeoutMs = timeoutMs;
    this.#clock = clock;
    this.#onTimeout = onTimeout;
  }

  /** Things that are not due yet. */
  get size(): number {
    return this.#dueTimes.size;
  }

  /** Starts the timeout of `thing`, or restarts it. */
  start(thing: Thing): void {
    if (this.#timeoutMs === null) return;
    this.#dueTimes.delete(thing);
    this.#dueTimes.set(thing, this.#clock() + this.#timeoutMs);
    if (this.#timer === null) this.#schedule(this.#timeoutMs);
  }

  /** Stops the timeout of `thing`. */
  stop(thing: Thing): void {
    this.#dueTimes.delete(thing);
  }

  /** Stops all timeouts. */
  close(): void {
    this.#dueTimes.clear();
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
  }

  #schedule(ms: number): void {
    this.#timer = setTimeout(() => this.#expireDue(), Math.min(Math.max(ms, 0), MAX_TIMER_MS));
  }

  #expireDue(): void {
    this.#timer = null;
    const now = this.#clock();
    for (const [thing, dueAt] of this.#dueTimes) {
      if (dueAt > now) {
        // Most are stopped long before they are due. A timer that fires too early is set again for the next
        // one.
        if (this.#timer === null) this.#schedule(dueAt - now);
        return;
      }
      if (this.#clock() - now >= SLICE_MS) {
        this.#timer ??= setTimeout(() => this.#expireDue(), SLICE_PAUSE_MS);
        return;
      }
      this.#dueTimes.delete(thing);
      this.#onTimeout(thing);
    }
  }
}

/** Checks per timeout. An idle pair is found late by up to one check interval. */
const CHECKS_PER_TIMEOUT = 20;

/** Bounds of the check interval, in milliseconds. */
const MAX_CHECK_INTERVAL_MS = 60_000;
const MIN_CHECK_INTERVAL_MS = 50;

interface Progress {
  readonly bytes: number;
  /** When a check last saw it progress, or saw it first. */
  readonly lastProgressAt: number;
}

/** Finds idle pairs by comparing byte counts that exist anyway. It costs nothing per byte. */
export class IdleTimeouts<Thing> {
  readonly #timeoutMs: number;
  readonly #clock: () => number;
  #progress = new Map<Thing, Progress>();

  /** @param clock milliseconds of a monotonic clock */
  constructor(timeoutMs: number, clock: () => number) {
    this.#timeoutMs = timeoutMs;
    this.#clock = clock;
  }

  /** Time between two checks, in milliseconds. */
  get checkIntervalMs(): number {
    return Math.min(
      Math.max(this.#timeoutMs / CHECKS_PER_TIMEOUT, MIN_CHECK_INTERVAL_MS),
      MAX_CHECK_INTERVAL_MS,
    );
  }

  /**
   * Checks all things. Missing ones are forgotten.
   *
   * @param things each with the bytes it has transferred so far
   * @returns those that have transferred nothing for the timeout
   */
  check(things: Iterable<readonly [Thing, number]>): Thing[] {
    const now = this.#clock();
    const progress = new Map<Thing, Progress>();
    const idle: Thing[] = [];
    for (const [thing, bytes] of things) {
      const last = this.#progress.get(thing);
      const lastProgressAt = last === undefined || last.bytes !== bytes ? now : last.lastProgressAt;
      progress.set(thing, { bytes, lastProgressAt });
      if (now - lastProgressAt >= this.#timeoutMs) idle.push(thing);
    }
    this.#progress = progress;
    return idle;
  }
}
