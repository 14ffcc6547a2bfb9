/** Runs something again and again, and at once when that is needed; never twice at a time. */
export class ClaimRounds {
  readonly #everyMs: number;
  readonly #round: () => Promise<void>;
  #timer: NodeJS.Timeout | undefined;
  #running: Promise<void> | null = null;
  #again = false;
  #closed = false;

  /**
   * @param everyMs the longest time between two rounds, in milliseconds
   * @param round must not reject
   */
  constructor(everyMs: number, round: () => Promise<void>) {
    this.#everyMs = everyMs;
    this.#round = round;
    this.#wait();
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
    do {
      this.#again = false;
      await this.#round();
    } while (this.#again && !this.#closed);
    this.#running = null;
    this.#wait();
  }

  /** Relays that were started at one time, or lost the coordinator at one time, do not come in step for long. */
  #wait(): void {
    if (this.#closed) return;
    this.#timer = setTimeout(() => this.now(), this.#everyMs * (0.8 + Math.random() / 5));
  }
}
