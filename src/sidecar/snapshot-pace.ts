/** Work of less than this is not worth a pause, in milliseconds. */
const WORTH_A_PAUSE_MS = 5;

/** The work was told to end before it was done. */
export class CancelledError extends Error {}

/** Something that threads share to tell each other that it is over. */
export type CancelFlag = Int32Array<SharedArrayBuffer>;

export function createCancelFlag(): CancelFlag {
  return new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT));
}

/** Tells the other thread, and wakes it where it pauses. */
export function cancel(flag: CancelFlag): void {
  Atomics.store(flag, 0, 1);
  Atomics.notify(flag, 0);
}

/**
 * Spreads work of one thread over time: each pause is as long as the work since the one before, so that
 * never more than half of a processor or of a disk goes into it. A pause keeps the whole thread.
 */
export class Pace {
  readonly #flag: CancelFlag;
  #workingSince = performance.now();

  constructor(flag: CancelFlag) {
    this.#flag = flag;
  }

  /** @throws CancelledError */
  pause(): void {
    const workedMs = performance.now() - this.#workingSince;
    if (workedMs >= WORTH_A_PAUSE_MS) {
      Atomics.wait(this.#flag, 0, 0, workedMs);
      this.#workingSince = performance.now();
    }
    this.check();
  }

  /** @throws CancelledError */
  check(): void {
    if (Atomics.load(this.#flag, 0) !== 0) throw new CancelledError('cancelled');
  }
}
