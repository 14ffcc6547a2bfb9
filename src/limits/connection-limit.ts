/**
 * Slots beyond the limit, for clients that are being rejected: detecting their protocol takes a moment. The
 * relay's own probes use them too, until they have sent their tokens. If all are in use, the oldest
 * connection is closed.
 */
export const REJECT_SLOTS = 64;

/**
 * The slot of a connection.
 *
 * - `admitted`: it is within the limit
 * - `reject-slot`: the limit is reached; the connection stays open until it has been rejected
 * - `none`: it is not counted
 */
export type Slot = 'admitted' | 'reject-slot' | 'none';

/** Limits the number of open connections. */
export class ConnectionLimit {
  readonly #max: number;
  #admitted = 0;

  constructor(max: number) {
    this.#max = max;
  }

  get admitted(): number {
    return this.#admitted;
  }

  /** Takes a slot. Give it back with `release`. */
  acquire(): 'admitted' | 'reject-slot' {
    if (this.#admitted >= this.#max) return 'reject-slot';
    this.#admitted += 1;
    return 'admitted';
  }

  release(slot: Slot): void {
    if (slot === 'admitted') this.#admitted -= 1;
  }
}
