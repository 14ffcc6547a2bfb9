/** The memory that every connection reads into, in bytes: the largest read there is. */
const LARGEST_READ_BYTES = 1_048_576;

/** The smallest read, in bytes, and what a stalled pair may hold in any case. */
export const SMALLEST_READ_BYTES = 16_384;

/** Reads come in these sizes, each twice the one before; a reader's `step` is an index into them. */
const STEPS = Math.log2(LARGEST_READ_BYTES / SMALLEST_READ_BYTES) + 1;

/**
 * Bytes that all connections together read in one turn of the event loop, when several have plenty. It bounds
 * how long a small message waits for its turn: about 1 ms.
 */
const TURN_BYTES = 2_097_152;

/** What a connection with plenty may read in a turn, however many there are. */
const SMALLEST_SHARE_BYTES = 65_536;

/** A read may become at most this part of what the budget for held bytes has left. */
const BUDGET_PARTS = 64;

/** A connection that reads from the pool. */
export interface PoolReader {
  /** Reads of this size come next. */
  readonly step: number;
  /** Bytes it has read in turn `turn`. */
  turn: number;
  turnBytes: number;
  /** Its turn has come again. */
  unpark(): void;
  /** It has to make do with smaller reads from now on. */
  shrinkTo(step: number): void;
}

/**
 * One buffer for every connection: a read and the writing of what it brought are one thing, so that the buffer is
 * free again before the next read, of whomever. What a receiver does not take is copied out of it and held.
 *
 * The pool decides how large reads may be: small when much is held for stalled receivers, so that
 * together they never hold much more than the budget, and small when many have plenty, so that nobody waits long.
 */
export class ReadPool {
  // Not from Node's pool of small buffers, and never zeroed: nothing is read from it that was not written before.
  readonly #memory = Buffer.allocUnsafeSlow(LARGEST_READ_BYTES);
  readonly #views: readonly Uint8Array[];
  readonly #budgetBytes: number;
  readonly #grown = new Set<PoolReader>();
  #parked: PoolReader[] = [];
  #heldBytes = 0;
  #budgetStep = STEPS - 1;
  #shareBytes = TURN_BYTES;
  #shareStep = STEPS - 1;
  #turn = 0;
  #busyReaders = 0;
  #turnEnds = false;

  /** @param budgetBytes what may be held for stalled receivers, above `SMALLEST_READ_BYTES` for each */
  constructor(budgetBytes: number) {
    this.#views = Array.from({ length: STEPS }, (_, step) => this.bytes(SMALLEST_READ_BYTES << step));
    this.#budgetBytes = budgetBytes;
    this.#setBudgetStep();
  }

  /** Bytes held for receivers that do not keep up. */
  get heldBytes(): number {
    return this.#heldBytes;
  }

  /** What a read has brought. All reads begin at the same place. */
  bytes(count: number): Uint8Array {
    return this.#memory.subarray(0, count);
  }

  /** The memory for a read. */
  view(step: number): Uint8Array {
    const view = this.#views[step];
    if (view === undefined) throw new RangeError(`there is no read of step ${step}`);
    return view;
  }

  /** The largest step there is at the moment. */
  get largestStep(): number {
    return Math.min(this.#budgetStep, this.#shareStep);
  }

  /** To be told when a reader's step has changed, so that it can be shrunk when memory gets scarce. */
  noteStep(reader: PoolReader): void {
    if (reader.step > 0) this.#grown.add(reader);
    else this.#grown.delete(reader);
  }

  forget(reader: PoolReader): void {
    this.#grown.delete(reader);
  }

  /** More is held, or less (with a negative number). */
  hold(bytes: number): void {
    this.#heldBytes += bytes;
    this.#setBudgetStep();
  }

  /** Counts what was read. False when that is enough for this turn: `unpark` follows in the next one. */
  spend(reader: PoolReader, bytes: number): boolean {
    if (reader.turn !== this.#turn) {
      reader.turn = this.#turn;
      reader.turnBytes = 0;
    }
    const before = reader.turnBytes;
    reader.turnBytes += bytes;
    if (reader.turnBytes < SMALLEST_SHARE_BYTES) return true;
    if (before < SMALLEST_SHARE_BYTES) this.#busyReaders += 1;
    if (!this.#turnEnds) {
      this.#turnEnds = true;
      setImmediate(() => this.#endTurn());
    }
    if (reader.turnBytes < this.#shareBytes) return true;
    this.#parked.push(reader);
    return false;
  }

  #endTurn(): void {
    this.#turnEnds = false;
    this.#turn += 1;
    this.#shareBytes = Math.max(SMALLEST_SHARE_BYTES, TURN_BYTES / this.#busyReaders);
    this.#shareStep = stepFor(this.#shareBytes);
    this.#busyReaders = 0;
    const parked = this.#parked;
    this.#parked = [];
    for (const reader of parked) reader.unpark();
  }

  #setBudgetStep(): void {
    const step = stepFor((this.#budgetBytes - this.#heldBytes) / BUDGET_PARTS);
    const isLess = step < this.#budgetStep;
    this.#budgetStep = step;
    if (!isLess) return;
    for (const reader of this.#grown) if (reader.step > step) reader.shrinkTo(step);
  }
}

/** The step of the largest read of at most `bytes`; 0 for anything smaller. */
function stepFor(bytes: number): number {
  if (bytes < 2 * SMALLEST_READ_BYTES) return 0;
  return Math.min(STEPS - 1, Math.floor(Math.log2(bytes / SMALLEST_READ_BYTES)));
}
