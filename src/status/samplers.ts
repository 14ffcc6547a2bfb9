/** Time between two samples of a counter, in milliseconds. */
const COUNTER_INTERVAL_MS = 1000;

/** Growth of a counter per second, sampled once per second. */
export class RateMeter {
  readonly #read: () => number;
  readonly #clock: () => number;
  readonly #timer: NodeJS.Timeout;
  #last: { readonly count: number; readonly at: number };
  #perSecond = 0;

  /**
   * @param read the counter, which never decreases
   * @param clock milliseconds of a monotonic clock
   */
  constructor(read: () => number, clock: () => number) {
    this.#read = read;
    this.#clock = clock;
    this.#last = { count: read(), at: clock() };
    this.#timer = setInterval(() => this.sample(), COUNTER_INTERVAL_MS).unref();
  }

  /** Growth per second, over the last sample interval. */
  get perSecond(): number {
    return this.#perSecond;
  }

  /** Takes a sample. Called by a timer. */
  sample(): void {
    const now = { count: this.#read(), at: this.#clock() };
    const elapsedMs = now.at - this.#last.at;
    if (elapsedMs <= 0) return;
    this.#perSecond = ((now.count - this.#last.count) / elapsedMs) * 1000;
    this.#last = now;
  }

  close(): void {
    clearInterval(this.#timer);
  }
}

/** Time between two samples of the delay, in milliseconds. */
const DELAY_INTERVAL_MS = 100;

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
    this.#expectedAt = clock() + DELAY_INTERVAL_MS;
    this.#timer = setInterval(() => this.sample(), DELAY_INTERVAL_MS).unref();
  }

  /** Called by a timer. */
  sample(): void {
    const now = this.#clock();
    const delayMs = Math.max(0, now - this.#expectedAt);
    const missed = Math.min(Math.floor(delayMs / DELAY_INTERVAL_MS), MAX_MISSED_SAMPLES);
    for (let sample = 0; sample <= missed; sample += 1)
      this.#observe((delayMs - sample * DELAY_INTERVAL_MS) / 1000);
    this.#expectedAt = now + DELAY_INTERVAL_MS;
  }

  close(): void {
    clearInterval(this.#timer);
  }
}
