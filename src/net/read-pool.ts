import { HeldMemory } from './held-memory.ts';
import { TaskQueue } from './task-queue.ts';

/**
 * The memory that every connection reads into, in bytes: the largest read there is. It has to stay in the processor's
 * second cache, beside what the kernel copies from and to: with 1 MiB a single pair falls into a state in which it is a
 * quarter slower, and with 256 KiB the system calls begin to show.
 */
const LARGEST_READ_BYTES = 524_288;

/** The smallest read, in bytes, and what a stalled pair may hold in any case. */
export const SMALLEST_READ_BYTES = 16_384;

/** Reads come in these sizes, each twice the one before; a reader's `step` is an index into them. */
const LARGEST_STEP = Math.log2(LARGEST_READ_BYTES / SMALLEST_READ_BYTES);

/**
 * Bytes that the readers in the queue get in one turn of the event loop, all together. It bounds how long a
 * small message of somebody else waits: the copying of 1 MiB takes about 0.3 ms.
 */
const TURN_BYTES = 1_048_576;

/**
 * Milliseconds for the same, where bytes are slow to deal with: a client may send a WebSocket frame for each byte.
 */
const TURN_MS = 2;

/**
 * `TURN_BYTES` after somebody came: libuv accepts one connection in a turn of the event loop, and a crowd that
 * is not accepted in time waits a second for its next try.
 */
const CROWDED_TURN_BYTES = 131_072;

/** `TURN_BYTES` where there is only one in the queue. */
const LONE_TURN_BYTES = 2_097_152;

/** A reader that brings less than this at a time leaves the queue. */
const PLENTY_BYTES = 65_536;

/** Bytes that a reader gets as soon as it comes, before it stands behind all the others. */
const FRESH_BYTES = 262_144;

/**
 * Bytes that a reader brings before the next one in the queue comes. What a sender's kernel has queued has left the
 * processor's cache, but what it sends while it is being read has not: staying with one for a while
 * is faster for all than going around after each read.
 */
const LONGEST_SPELL_BYTES = 8_388_608;

/**
 * What a millisecond counts for, in bytes, where bytes take longer than they should: the relay moves twice as many. A
 * client that makes it work for each byte gets its share of time, and not its share of bytes.
 */
const BYTES_PER_MS = 2_097_152;

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
  /** Reads of this size come next, if memory allows. */
  readonly step: number;
  /** True while it is in the queue. The pool's, as is the next one. */
  isQueued: boolean;
  /** Bytes of its spell so far. */
  spellBytes: number;
  /** Reads once into `memory` and passes on what came. Returns the bytes, or 0 when it is not to be asked again. */
  serve(memory: Uint8Array): number;
  /** It has left the queue: from now on it waits for what comes. */
  leftQueue(): void;
}

/**
 * One buffer for every connection: a read and the writing of what it brought are one thing, so that the buffer is
 * free again before the next read, of whomever. What a receiver does not take is copied out of it and held.
 *
 * Connections that have little to say read whenever something comes. Those that have plenty stand in a queue, and are
 * served one after the other with large reads, a bounded amount in each turn of the event loop.
 */
export class ReadPool {
  // Not from Node's pool of small buffers, and never zeroed: nothing is read from it that was not written before.
  readonly #memory = Buffer.allocUnsafeSlow(LARGEST_READ_BYTES);
  readonly #budgetBytes: number;
  /** For what receivers did not take. */
  readonly held = new HeldMemory(LARGEST_READ_BYTES);
  /** Work on connections that need not be done in the moment they are read. */
  readonly #tasks = new TaskQueue();
  /** Readers that have just come. They are served first. */
  readonly #fresh: PoolReader[] = [];
  readonly #queue: PoolReader[] = [];
  #heldBytes = 0;
  #isTurnDue = false;
  #isCrowded = false;

  /** @param budgetBytes what may be held for stalled receivers, above `SMALLEST_READ_BYTES` for each */
  constructor(budgetBytes: number) {
    this.#budgetBytes = budgetBytes;
  }

  /** Bytes held for receivers that do not keep up. */
  get heldBytes(): number {
    return this.#heldBytes;
  }

  /** The first bytes of the buffer. */
  bytes(count: number): Uint8Array {
    return this.#memory.subarray(0, count);
  }

  /** How large a read may be that is `step` steps above the smallest, in bytes: less when much is held already. */
  readBytes(step: number): number {
    const allowed = (this.#budgetBytes * (1 - KEPT_PART) - this.#heldBytes) / BUDGET_PARTS;
    const wanted = SMALLEST_READ_BYTES << Math.min(step, LARGEST_STEP);
    return Math.max(SMALLEST_READ_BYTES, Math.min(wanted, allowed));
  }

  /** The step above `step`, if there is one. */
  stepAbove(step: number): number {
    return Math.min(LARGEST_STEP, step + 1);
  }

  /** More is held, or less (with a negative number). */
  hold(bytes: number): void {
    this.#heldBytes += bytes;
  }

  /** True while deferred work is queued. */
  get isBusy(): boolean {
    return this.#tasks.isBusy;
  }

  /** Runs `task` now, or later where thousands of them come at once: connections that end. */
  run(task: () => void): void {
    this.#tasks.run(task);
  }

  /** Runs `task` at the end of this turn or in a later one. */
  defer(task: () => void): void {
    this.#tasks.defer(task);
  }

  /** Somebody has come: the next turn is a short one. */
  newcomer(): void {
    this.#isCrowded = true;
  }

  /** Puts a reader that has plenty into the queue. One that is in it stays where it is. */
  join(reader: PoolReader): void {
    if (reader.isQueued) return;
    reader.isQueued = true;
    reader.spellBytes = 0;
    this.#fresh.push(reader);
    this.#scheduleTurn();
  }

  #scheduleTurn(): void {
    if (this.#isTurnDue) return;
    this.#isTurnDue = true;
    // Runs when everybody who had something to read in this turn of the event loop has read it.
    setImmediate(() => this.#takeTurn());
  }

  #takeTurn(): void {
    this.#isTurnDue = false;
    const turnBytes = this.#bytesOfTurn();
    let bytes = turnBytes;
    let now = performance.now();
    const end = now + TURN_MS;
    while (bytes > 0 && now < end) {
      const from = this.#fresh.length > 0 ? this.#fresh : this.#queue;
      const reader = from.shift();
      if (reader === undefined) return;
      const memory = this.bytes(Math.min(this.readBytes(reader.step), turnBytes));
      const count = reader.serve(memory);
      const later = performance.now();
      // A read costs something even where it brings nothing.
      bytes -= Math.max(count, SMALLEST_READ_BYTES);
      reader.spellBytes += Math.max(count, (later - now) * BYTES_PER_MS);
      now = later;
      this.#putBack(reader, count >= PLENTY_BYTES || count === memory.length, from === this.#fresh);
    }
    if (this.#fresh.length + this.#queue.length > 0) this.#scheduleTurn();
  }

  #bytesOfTurn(): number {
    const isCrowded = this.#isCrowded;
    this.#isCrowded = false;
    if (isCrowded) return CROWDED_TURN_BYTES;
    return this.#fresh.length + this.#queue.length === 1 ? LONE_TURN_BYTES : TURN_BYTES;
  }

  #putBack(reader: PoolReader, hasPlenty: boolean, isFresh: boolean): void {
    if (!hasPlenty) {
      reader.isQueued = false;
      reader.leftQueue();
      return;
    }
    const spell = isFresh ? FRESH_BYTES : this.#spellBytes();
    if (reader.spellBytes < spell) {
      (isFresh ? this.#fresh : this.#queue).unshift(reader);
    } else {
      reader.spellBytes = 0;
      this.#queue.push(reader);
    }
  }

  #spellBytes(): number {
    return Math.min(LONGEST_SPELL_BYTES, ROUND_BYTES / (this.#queue.length + 1));
  }
}
