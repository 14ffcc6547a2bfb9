/**
 * For how long things have stood still, all of them together: two that are paused for a second make two seconds.
 *
 * It never goes back, since it adds up what has passed and keeps no beginnings to be subtracted.
 */
export class PauseClock {
  readonly #clock: () => number;
  #paused = 0;
  #totalMs = 0;
  #countedTo: number;

  /** @param clock milliseconds of a clock that never jumps */
  constructor(clock: () => number) {
    this.#clock = clock;
    this.#countedTo = clock();
  }

  /** Seconds so far, those of pauses that go on included. */
  get seconds(): number {
    this.#count();
    return this.#totalMs / 1000;
  }

  /** So many more stand still. */
  begin(count: number): void {
    this.#count();
    this.#paused += count;
  }

  /** So many go on. */
  end(count: number): void {
    this.#count();
    this.#paused -= count;
  }

  #count(): void {
    const now = this.#clock();
    this.#totalMs += this.#paused * (now - this.#countedTo);
    this.#countedTo = now;
  }
}
