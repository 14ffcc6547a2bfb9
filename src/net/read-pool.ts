/** The memory that every connection reads into, in bytes: the largest read there is. */
const LARGEST_READ_BYTES = 1_048_576;

/** The smallest read, in bytes, and what a stalled pair may hold in any case. */
export const SMALLEST_READ_BYTES = 16_384;

/** Reads come in these sizes, each twice the one before; a reader's `step` is an index into them. */
const STEPS = Math.log2(LARGEST_READ_BYTES / SMALLEST_READ_BYTES) + 1;

/**
 * Bytes that readers with plenty get in one turn of the event loop, all together, when there are several. It bounds
 * how long a small message of somebody else waits: the copying of 1 MiB takes about 0.3 ms.
 */
const TURN_BYTES = 1_048_576;

/** A reader that brings less than this in a turn does not have plenty, and is never made to wait. */
const PLENTY_BYTES = 65_536;

/** What a reader may bring in one turn when no other has plenty. */
const LONE_TURN_BYTES = 2_097_152;

/**
 * Bytes that a reader brings before the next one in the queue comes. What a sender's kernel has queued has left the
 * processor's cache, but what it sends while it is being read has not: staying with one for a while
 * is faster for all than going around after each read.
 */
const LONGEST_SPELL_BYTES = 8_388_608;

/** Bytes for once around the queue. It bounds how long a pair stands still: about 0.1 s. */
const ROUND_BYTES = 268_435_456;

/**
 * This part of the budget for held bytes is kept for the smallest reads: with 64 MiB, 2,000 pairs stay within the
 * budget even where the first of them were stalled in the middle of the largest reads.
 */
const KEPT_PART = 0.5;

/** A read may become at most this part of what the rest of the budget has left. */
const BUDGET_PARTS = 16;

/** A connection that reads from the pool. */
export interface PoolReader {
  /** Reads of this size come next. */
  readonly step: number;
  /** The turn that `turnBytes` counts. Both are the pool's. */
  turn: number;
  turnBytes: number;
  /** Bytes of its spell so far. The pool's too. */
  spellBytes: number;
  /** It may read again. */
  unpark(): void;
  /** It has to make do with smaller reads from now on. */
  shrinkTo(step: number): void;
}

/**
 * One buffer for every connection: a read and the writing of what it brought are one thing, so that the buffer is
 * free again before the next read, of whomever. What a receiver does not take is copied out of it and held.
 *
 * The pool decides how large reads may be, small when much is held for stalled receivers, so that together they
 * never hold much more than the budget; and who reads when: those that have plenty stand in a queue and are let in a few
 * at a time, with large reads, while everybody else reads in every turn of the event loop.
 */
export class ReadPool {
  // Not from Node's pool of small buffers, and never zeroed: nothing is read from it that was not written before.
  readonly #memory = Buffer.allocUnsafeSlow(LARGEST_READ_BYTES);
  readonly #views: readonly Uint8Array[];
  readonly #budgetBytes: number;
  readonly #grown = new Set<PoolReader>();
  /** Readers with plenty, in the order of their last reads. */
  readonly #queue: PoolReader[] = [];
  /** Readers whose spell goes on: they come first when the turn ends, in this order. */
  readonly #staying: PoolReader[] = [];
  #heldBytes = 0;
  #largestStep = STEPS - 1;
  #turn = 0;
  #turnEnds = false;
  #readersWithPlenty = 0;
  #isContended = false;

  /** @param budgetBytes what may be held for stalled receivers, above `SMALLEST_READ_BYTES` for each */
  constructor(budgetBytes: number) {
    this.#views = Array.from({ length: STEPS }, (_, step) => this.bytes(SMALLEST_READ_BYTES << step));
    this.#budgetBytes = budgetBytes;
    this.#setLargestStep();
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
    return this.#largestStep;
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
    this.#setLargestStep();
  }

  /** Counts what was read. False when the reader has to wait for others: `unpark` follows. */
  spend(reader: PoolReader, bytes: number): boolean {
    const before = reader.turn === this.#turn ? reader.turnBytes : 0;
    reader.turn = this.#turn;
    reader.turnBytes = before + bytes;
    if (reader.turnBytes < PLENTY_BYTES) return true;
    if (before < PLENTY_BYTES) this.#readersWithPlenty += 1;
    if (!this.#turnEnds) this.#endTurnSoon();
    const isAlone = !this.#isContended && this.#readersWithPlenty === 1;
    if (isAlone && reader.turnBytes < LONE_TURN_BYTES) return true;
    reader.spellBytes += reader.turnBytes;
    if (reader.spellBytes < this.#spellBytes()) this.#staying.push(reader);
    else {
      reader.spellBytes = 0;
      this.#queue.push(reader);
    }
    return false;
  }

  #spellBytes(): number {
    return Math.min(LONGEST_SPELL_BYTES, ROUND_BYTES / (this.#queue.length + this.#staying.length + 1));
  }

  #endTurnSoon(): void {
    this.#turnEnds = true;
    // Runs when everybody who had something to read in this turn has had the chance.
    setImmediate(() => this.#endTurn());
  }

  #endTurn(): void {
    this.#turnEnds = false;
    this.#turn += 1;
    this.#queue.unshift(...this.#staying.splice(0));
    this.#isContended = this.#queue.length > 1 || this.#readersWithPlenty > 1;
    this.#readersWithPlenty = 0;
    let letIn = 0;
    let bytes = 0;
    for (const reader of this.#queue) {
      // A reader is expected to bring what it brought when it was last let in.
      if (letIn > 0 && bytes + reader.turnBytes > TURN_BYTES) break;
      bytes += reader.turnBytes;
      letIn += 1;
    }
    for (const reader of this.#queue.splice(0, letIn)) reader.unpark();
    if (this.#queue.length > 0) this.#endTurnSoon();
  }

  #setLargestStep(): void {
    const step = stepFor((this.#budgetBytes * (1 - KEPT_PART) - this.#heldBytes) / BUDGET_PARTS);
    const isLess = step < this.#largestStep;
    this.#largestStep = step;
    if (!isLess) return;
    for (const reader of this.#grown) if (reader.step > step) reader.shrinkTo(step);
  }
}

/** The step of the largest read of at most `bytes`; 0 for anything smaller. */
function stepFor(bytes: number): number {
  if (bytes < 2 * SMALLEST_READ_BYTES) return 0;
  return Math.min(STEPS - 1, Math.floor(Math.log2(bytes / SMALLEST_READ_BYTES)));
}
