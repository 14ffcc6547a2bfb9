/** Runs something again and again, and at once when that is needed; never twice at a time. */
export class ClaimRounds {
  readonly #everyMs: number;
  readonly #round: () => Promise<void>;
  readonly #clock: () => number;
  #timer: NodeJS.Timeout | undefined;
  #running: Promise<void> | null = null;
  #again = false;
  #closed = false;

  /**
   * @param everyMs the longest time from the beginning of a round to that of the next, in milliseconds, unless a round takes longer
   * @param round must not reject
   * @param clock milliseconds of a clock that never jumps
   */
  constructor(everyMs: number, round: () => Promise<void>, clock = (): number => performance.now()) {
    this.#everyMs = everyMs;
    this.#round = round;
    this.#clock = clock;
    this.#wait(0);
  }

  /** Runs a round, after the one that runs if there is one. */
  now(): void {
    if (this.#closed) return;
    clearTimeout(this.#timer);
    if (this.#running !== null) this.#again = true;
    else this.#running = this.#run();
  }

  /** Resolves when the round that runs has ended; no other begins. */
  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    await this.#running;
  }

  async #run(): Promise<void> {
    let beganAt = 0;
    do {
      this.#again = false;
      beganAt = this.#clock();
      await this.#round();
    } while (this.#again && !this.#closed);
    this.#running = null;
    this.#wait(this.#clock() - beganAt);
  }

  /** Relays that were started at one time, or lost the coordinator at one time, do not come in step for long. */
  #wait(tookMs: number): void {
    if (this.#closed) return;
    const pauseMs = this.#everyMs * (0.8 + Math.random() / 5) - tookMs;
    this.#timer = setTimeout(() => this.now(), Math.max(0, pauseMs));
  }
}
