/**
 * A result is cached for at least this long, in milliseconds: less than Prometheus' interval of 15 s, so that
 * each scrape gets a new one.
 */
const MIN_TTL_MS = 10_000;

/** A result is cached for this multiple of its duration, so that a check uses at most a tenth of a core. */
const TTL_COST_FACTOR = 10;

/**
 * A check that has been running for this long counts as failed, whatever the last result was. In
 * milliseconds.
 */
const HUNG_AFTER_MS = 60_000;

export interface CachedCheckOptions {
  /** Resolves with true if the check passed. */
  readonly run: () => Promise<boolean>;
  /** `run` threw an error; the check counts as failed. */
  readonly onInternalError: (error: unknown) => void;
  /** Monotonic, in milliseconds. */
  readonly clock?: () => number;
}

/**
 * The cached result of a check. The check never runs twice at the same time, and expensive checks run less
 * often.
 */
export class CachedCheck {
  readonly #options: Required<CachedCheckOptions>;
  #ok = false;
  #running: Promise<void> | null = null;
  #startedMs = 0;
  #expiresMs = -Infinity;

  constructor({ run, onInternalError, clock = () => performance.now() }: CachedCheckOptions) {
    this.#options = { run, onInternalError, clock };
  }

  /** The last result; false before the first. */
  get ok(): boolean {
    const isHung = this.#running !== null && this.#options.clock() - this.#startedMs > HUNG_AFTER_MS;
    return this.#ok && !isHung;
  }

  /** Resolves when the result is fresh. Concurrent callers share one run. Never rejects. */
  refresh(): Promise<void> {
    if (this.#options.clock() < this.#expiresMs) return Promise.resolve();
    this.#running ??= this.#run();
    return this.#running;
  }

  async #run(): Promise<void> {
    const { run, onInternalError, clock } = this.#options;
    this.#startedMs = clock();
    try {
      this.#ok = await run();
    } catch (error) {
      this.#ok = false;
      onInternalError(error);
    }
    const nowMs = clock();
    this.#expiresMs = nowMs + Math.max(MIN_TTL_MS, TTL_COST_FACTOR * (nowMs - this.#startedMs));
    this.#running = null;
  }
}
