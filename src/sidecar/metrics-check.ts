/** An answer is kept for this long at least, in milliseconds: less than Prometheus' interval of 15 s, so that each scrape has a new one. */
const KEEP_MS = 10_000;

/** An answer is kept for so many times what it cost: a check takes a tenth of one core at most, however often asked for. */
const KEEP_TIMES_COST = 10;

/** Who has not answered for this long is not well, whatever the last answer was. In milliseconds. */
const HUNG_MS = 60_000;

export interface KeptCheckOptions {
  /** True: all is well. */
  readonly ask: () => Promise<boolean>;
  /** Something in this program is wrong; that is not well either. */
  readonly fault: (error: unknown) => void;
  /** Monotonic, in milliseconds. */
  readonly clock?: () => number;
}

/** The last answer of a check, which is carried out once at a time and not more often than it is worth. */
export class KeptCheck {
  readonly #options: Required<KeptCheckOptions>;
  #ok = false;
  #asking: Promise<void> | null = null;
  #askedMs = 0;
  #keptUntilMs = -Infinity;

  constructor({ ask, fault, clock = () => performance.now() }: KeptCheckOptions) {
    this.#options = { ask, fault, clock };
  }

  /** As of the last answer; false before the first. */
  get ok(): boolean {
    const isHung = this.#asking !== null && this.#options.clock() - this.#askedMs > HUNG_MS;
    return this.#ok && !isHung;
  }

  /** Resolves when the answer is as new as it has to be. Whoever asks meanwhile waits for the same one. Never rejects. */
  refresh(): Promise<void> {
    if (this.#options.clock() < this.#keptUntilMs) return Promise.resolve();
    this.#asking ??= this.#ask();
    return this.#asking;
  }

  async #ask(): Promise<void> {
    const { ask, fault, clock } = this.#options;
    this.#askedMs = clock();
    try {
      this.#ok = await ask();
    } catch (error) {
      this.#ok = false;
      fault(error);
    }
    const nowMs = clock();
    this.#keptUntilMs = nowMs + Math.max(KEEP_MS, KEEP_TIMES_COST * (nowMs - this.#askedMs));
    this.#asking = null;
  }
}
