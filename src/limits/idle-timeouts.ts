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
