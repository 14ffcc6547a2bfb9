/** Work of less than this is not worth a pause, in milliseconds. */
const WORTH_A_PAUSE_MS = 5;

/**
 * Spreads work of one process over time: each pause is as long as the work since the one before, so that
 * never more than half of a processor or of a disk goes into it. A pause keeps the whole process.
 */
export class Pace {
  readonly #never = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT));
  #workingSince = performance.now();

  pause(): void {
    const workedMs = performance.now() - this.#workingSince;
    if (workedMs < WORTH_A_PAUSE_MS) return;
    Atomics.wait(this.#never, 0, 0, workedMs);
    this.#workingSince = performance.now();
  }
}
