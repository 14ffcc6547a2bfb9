/** How often a pair is looked at while it may be idle, as a part of the timeout: it is found that much too late. */
const CHECKS_PER_TIMEOUT = 20;

/** Looks are no further apart than this, in milliseconds, and no closer together than the other. */
const MAX_CHECK_INTERVAL_MS = 60_000;
const MIN_CHECK_INTERVAL_MS = 50;

interface Progress {
  readonly bytes: number;
  /** When it was seen to move, or first seen. */
  readonly lastProgressAt: number;
}

/** Finds what has moved nothing for too long, by counts that others keep: moving bytes costs nothing more for it. */
export class IdleTimeouts<Thing> {
  readonly #timeoutMs: number;
  readonly #clock: () => number;
  #progress = new Map<Thing, Progress>();

  /** @param clock milliseconds of a clock that never jumps */
  constructor(timeoutMs: number, clock: () => number) {
    this.#timeoutMs = timeoutMs;
    this.#clock = clock;
  }

  /** Time between two looks, in milliseconds. */
  get checkIntervalMs(): number {
    return Math.min(
      Math.max(this.#timeoutMs / CHECKS_PER_TIMEOUT, MIN_CHECK_INTERVAL_MS),
      MAX_CHECK_INTERVAL_MS,
    );
  }

  /**
   * Looks at all there are. What is missing is forgotten.
   *
   * @param things each with the bytes it has moved so far
   * @returns those that have moved nothing for the timeout
   */
  check(things: Iterable<readonly [Thing, number]>): Thing[] {
    const now = this.#clock();
    const looks = new Map<Thing, Progress>();
    const idle: Thing[] = [];
    for (const [thing, bytes] of things) {
      const last = this.#progress.get(thing);
      const movedAt = last === undefined || last.bytes !== bytes ? now : last.lastProgressAt;
      looks.set(thing, { bytes, lastProgressAt: movedAt });
      if (now - movedAt >= this.#timeoutMs) idle.push(thing);
    }
    this.#progress = looks;
    return idle;
  }
}
