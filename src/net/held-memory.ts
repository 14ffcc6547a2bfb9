/** Copies of less than this are cheap to make anew, in bytes. */
const LEAST_BYTES = 65_536;

/** In use at a time: 4 MiB of memory. */
const MOST_PIECES = 8;

/** Kept when none is in use, for whoever comes next: 1 MiB. */
const MOST_IDLE_PIECES = 2;

/**
 * Memory for what receivers did not take, used again and again. A transfer whose receiver is the slower end holds part of a
 * read many times a second; new memory for each of them would be a quarter of all that its bytes cost, most of it for the garbage
 * collector and for pages that the kernel has to clear. What finds none free gets memory of its own.
 */
export class HeldMemory {
  readonly #pieceBytes: number;
  readonly #free: Buffer[] = [];
  readonly #pieces = new WeakMap<Uint8Array, Buffer>();
  #made = 0;

  /** @param pieceBytes the largest copy that may lie in it */
  constructor(pieceBytes: number) {
    this.#pieceBytes = pieceBytes;
  }

  /** A copy of `bytes`, until it is given back. */
  copy(bytes: Uint8Array): Uint8Array {
    const piece = bytes.length < LEAST_BYTES || bytes.length > this.#pieceBytes ? null : this.#take();
    if (piece === null) return Buffer.from(bytes);
    const copy = piece.subarray(0, bytes.length);
    copy.set(bytes);
    this.#pieces.set(copy, piece);
    return copy;
  }

  /** Nobody reads this copy any more. */
  giveBack(copy: Uint8Array): void {
    const piece = this.#pieces.get(copy);
    if (piece === undefined) return;
    this.#pieces.delete(copy);
    this.#free.push(piece);
    if (this.#free.length < this.#made) return;
    // Nobody holds anything: a relay at rest gives its memory back.
    this.#free.splice(MOST_IDLE_PIECES);
    this.#made = this.#free.length;
  }

  #take(): Buffer | null {
    const free = this.#free.pop();
    if (free !== undefined) return free;
    if (this.#made === MOST_PIECES) return null;
    this.#made += 1;
    return Buffer.allocUnsafeSlow(this.#pieceBytes);
  }
}
