/** Time between two samples, in milliseconds. */
const SAMPLE_INTERVAL_MS = 100;

/** Most missed samples that one delay adds: a process suspended for a day does not add a million. */
const MAX_MISSED_SAMPLES = 100;

/**
 * Samples the delay of the event loop ten times per second. A byte may have to wait this long in the relay.
 *
 * Samples missed during a long delay are added afterwards, each with the delay it would have measured.
 * Otherwise the longest delays would be sampled least.
 */
export class EventLoopDelay {
  readonly #clock: () => number;
  readonly #observe: (seconds: number) => void;
  readonly #timer: NodeJS.Timeout;
  #expectedAt: number;

  /**
   * @param clock milliseconds of a monotonic clock
   * @param observe called with each delay, in seconds
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
    for (let sample = 0; sample <= missed; sample += 1)
      this.#observe((delayMs - sample * SAMPLE_INTERVAL_MS) / 1000);
    this.#expectedAt = now + SAMPLE_INTERVAL_MS;
  }

  close(): void {
    clearInterval(this.#timer);
  }
}
