/** An answer is kept for this long at least, in milliseconds: less than Prometheus' interval of 15 s, so that each scrape has a new one. */
const MIN_TTL_MS = 10_000;

/** An answer is kept for so many times what it cost: a check takes a tenth of one core at most, however often asked for. */
const TTL_COST_FACTOR = 10;

/** Who has not answered for this long is not well, whatever the last answer was. In milliseconds. */
const HUNG_AFTER_MS = 60_000;

export interface CachedCheckOptions {
  /** True: all is well. */
  readonly run: () => Promise<boolean>;
  /** Something in this program is wrong; that is not well either. */
  readonly onInternalError: (error: unknown) => void;
  /** Monotonic, in milliseconds. */
  readonly clock?: () => number;
}

/** The last answer of a check, which is carried out once at a time and not more often than it is worth. */
export class CachedCheck {
  readonly #options: Required<CachedCheckOptions>;
  #ok = false;
  #running: Promise<void> | null = null;
  #startedMs = 0;
  #expiresMs = -Infinity;

  constructor({ run: ask, onInternalError: fault, clock = () => performance.now() }: CachedCheckOptions) {
    this.#options = { run: ask, onInternalError: fault, clock };
  }

  /** As of the last answer; false before the first. */
  get ok(): boolean {
    const isHung = this.#running !== null && this.#options.clock() - this.#startedMs > HUNG_AFTER_MS;
    return this.#ok && !isHung;
  }

  /** Resolves when the answer is as new as it has to be. Whoever asks meanwhile waits for the same one. Never rejects. */
  refresh(): Promise<void> {
    if (this.#options.clock() < this.#expiresMs) return Promise.resolve();
    this.#running ??= this.#run();
    return this.#running;
  }

  async #run(): Promise<void> {
    const { run: ask, onInternalError: fault, clock } = this.#options;
    this.#startedMs = clock();
    try {
      this.#ok = await ask();
    } catch (error) {
      this.#ok = false;
      fault(error);
    }
    const nowMs = clock();
    this.#expiresMs = nowMs + Math.max(MIN_TTL_MS, TTL_COST_FACTOR * (nowMs - this.#startedMs));
    this.#running = null;
  }
}
