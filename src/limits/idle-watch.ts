/** How often a pair is looked at while it may be idle, as a part of the timeout: it is found that much too late. */
const LOOKS_PER_TIMEOUT = 20;

/** Looks are no further apart than this, in milliseconds, and no closer together than the other. */
const MAX_LOOK_MS = 60_000;
const MIN_LOOK_MS = 50;

interface Look {
  readonly bytes: number;
  /** When it was seen to move, or first seen. */
  readonly movedAt: number;
}

/** Finds what has moved nothing for too long, by counts that others keep: moving bytes costs nothing more for it. */
export class IdleWatch<Thing> {
  readonly #timeoutMs: number;
  readonly #clock: () => number;
  #looks = new Map<Thing, Look>();

  /** @param clock milliseconds of a clock that never jumps */
  constructor(timeoutMs: number, clock: () => number) {
    this.#timeoutMs = timeoutMs;
    this.#clock = clock;
  }

  /** Time between two looks, in milliseconds. */
  get lookEveryMs(): number {
    return Math.min(Math.max(this.#timeoutMs / LOOKS_PER_TIMEOUT, MIN_LOOK_MS), MAX_LOOK_MS);
  }

  /**
   * Looks at all there are. What is missing is forgotten.
   *
   * @param things each with the bytes it has moved so far
   * @returns those that have moved nothing for the timeout
   */
  look(things: Iterable<readonly [Thing, number]>): Thing[] {
    const now = this.#clock();
    const looks = new Map<Thing, Look>();
    const idle: Thing[] = [];
    for (const [thing, bytes] of things) {
      const last = this.#looks.get(thing);
      const movedAt = last === undefined || last.bytes !== bytes ? now : last.movedAt;
      looks.set(thing, { bytes, movedAt });
      if (now - movedAt >= this.#timeoutMs) idle.push(thing);
    }
    this.#looks = looks;
    return idle;
  }
}
