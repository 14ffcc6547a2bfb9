/** Time between two samples of the counter, in milliseconds. */
const SAMPLE_INTERVAL_MS = 1000;

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
    this.#timer = setInterval(() => this.sample(), SAMPLE_INTERVAL_MS).unref();
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
