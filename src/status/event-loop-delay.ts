/** Time between two looks, in milliseconds. */
const SAMPLE_INTERVAL_MS = 100;

/** A delay counts for no more looks than this: a process that was suspended for a day is not late a million times. */
const MAX_MISSED_SAMPLES = 100;

/**
 * How much later than asked the event loop comes to a timer, ten times a second: the time that a byte may have to wait for the relay.
 *
 * Looks that a long delay has swallowed are made up for, each with what it would have found, or the worst would be the rarest.
 */
export class EventLoopDelay {
  readonly #clock: () => number;
  readonly #observe: (seconds: number) => void;
  readonly #timer: NodeJS.Timeout;
  #expectedAt: number;

  /**
   * @param clock milliseconds of a clock that never jumps
   * @param observe told of each delay
   */
  constructor(clock: () => number, observe: (seconds: number) => void) {
    this.#clock = clock;
    this.#observe = observe;
    this.#expectedAt = clock() + SAMPLE_INTERVAL_MS;
    this.#timer = setInterval(() => this.sample(), SAMPLE_INTERVAL_MS).unref();
  }

  /** Called by a timer. */
  sample(): void {
    const now = this.#clock();
    const delayMs = Math.max(0, now - this.#expectedAt);
    const missed = Math.min(Math.floor(delayMs / SAMPLE_INTERVAL_MS), MAX_MISSED_SAMPLES);
    for (let look = 0; look <= missed; look += 1) this.#observe((delayMs - look * SAMPLE_INTERVAL_MS) / 1000);
    this.#expectedAt = now + SAMPLE_INTERVAL_MS;
  }

  close(): void {
    clearInterval(this.#timer);
  }
}
