/**
 * Places beyond the limit, for clients that are told that there is no room: it takes a moment to find out in which language. The
 * relay's own probes come in by them, too, until they have named their tokens. When all are in use, the oldest is closed.
 */
export const REJECT_SLOTS = 64;

/**
 * Where a newcomer stands.
 *
 * - `inside`: there is room
 * - `lane`: there is none; it may be told so
 * - `nowhere`: it is not counted
 */
export type Slot = 'inside' | 'lane' | 'nowhere';

/** How many connections there may be. */
export class ConnectionLimit {
  readonly #max: number;
  #admitted = 0;

  constructor(max: number) {
    this.#max = max;
  }

  get admitted(): number {
    return this.#admitted;
  }

  /** Takes a place, which is given back with `leave`. */
  acquire(): 'inside' | 'lane' {
    if (this.#admitted >= this.#max) return 'lane';
    this.#admitted += 1;
    return 'inside';
  }

  release(slot: Slot): void {
    if (slot === 'inside') this.#admitted -= 1;
  }
}
