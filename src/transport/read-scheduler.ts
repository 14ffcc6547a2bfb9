import { TaskQueue } from './task-queue.ts';

/** Copies of less than this are cheap to make anew, in bytes. */
const MIN_POOLED_BYTES = 65_536;

/** In use at a time: 4 MiB of memory. */
const MAX_BUFFERS = 8;

/** Kept when none is in use, for whoever comes next: 1 MiB. */
const MAX_IDLE_BUFFERS = 2;

/**
 * Memory for what receivers did not take, used again and again. A transfer whose receiver is the slower end holds part of a
 * read many times a second; new memory for each of them would be a quarter of all that its bytes cost, most of it for the garbage
 * collector and for pages that the kernel has to clear. What finds none free gets memory of its own.
 */
export class BufferPool {
  readonly #bufferBytes: number;
  readonly #free: Buffer[] = [];
  readonly #buffers = new WeakMap<Uint8Array, Buffer>();
  #allocatedCount = 0;

  /** @param pieceBytes the largest copy that may lie in it */
  constructor(pieceBytes: number) {
    this.#bufferBytes = pieceBytes;
  }

  /** A copy of `bytes`, until it is given back. */
  copy(bytes: Uint8Array): Uint8Array {
    const piece =
      bytes.length < MIN_POOLED_BYTES || bytes.length > this.#bufferBytes ? null : this.#acquire();
    if (piece === null) return Buffer.from(bytes);
    const copy = piece.subarray(0, bytes.length);
    copy.set(bytes);
    this.#buffers.set(copy, piece);
    return copy;
  }

  /** Nobody reads this copy any more. */
  release(copy: Uint8Array): void {
    const piece = this.#buffers.get(copy);
    if (piece === undefined) return;
    this.#buffers.delete(copy);
    this.#free.push(piece);
    if (this.#free.length < this.#allocatedCount) return;
    // Nobody holds anything: a relay at rest gives its memory back.
    this.#free.splice(MAX_IDLE_BUFFERS);
    this.#allocatedCount = this.#free.length;
  }

  #acquire(): Buffer | null {
    const free = this.#free.pop();
    if (free !== undefined) return free;
    if (this.#allocatedCount === MAX_BUFFERS) return null;
    this.#allocatedCount += 1;
    return Buffer.allocUnsafeSlow(this.#bufferBytes);
  }
}

/**
 * The memory that every connection reads into, in bytes: the largest read there is. It has to stay in the processor's
 * second cache, beside what the kernel copies from and to: with 1 MiB a single pair falls into a state in which it is a
 * quarter slower, and with 256 KiB the system calls begin to show.
 */
const MAX_READ_BYTES = 524_288;

/** The smallest read, in bytes, and what a stalled pair may hold in any case. */
export const MIN_READ_BYTES = 16_384;

/** Reads come in these sizes, each twice the one before; a reader's `step` is an index into them. */
const MAX_SIZE_CLASS = Math.log2(MAX_READ_BYTES / MIN_READ_BYTES);

/**
 * Bytes that the readers in the queue get in one turn of the event loop, all together. It bounds how long a
 * small message of somebody else waits: the copying of 1 MiB takes about 0.3 ms.
 */
const TICK_BUDGET_BYTES = 1_048_576;

/**
 * Milliseconds for the same, where bytes are slow to deal with: a client may send a WebSocket frame for each byte.
 */
const TICK_BUDGET_MS = 2;

/**
 * `TURN_BYTES` after somebody came: libuv accepts one connection in a turn of the event loop, and a crowd that
 * is not accepted in time waits a second for its next try.
 */
const ACCEPTING_TICK_BUDGET_BYTES = 131_072;

/** `TURN_BYTES` where there is only one in the queue. */
const SINGLE_FLOW_TICK_BUDGET_BYTES = 2_097_152;

/** A reader that brings less than this at a time leaves the queue. */
const BULK_THRESHOLD_BYTES = 65_536;

/** Bytes that a reader gets as soon as it comes, before it stands behind all the others. */
const NEW_FLOW_QUANTUM_BYTES = 262_144;

/**
 * Bytes that a reader brings before the next one in the queue comes. What a sender's kernel has queued has left the
 * processor's cache, but what it sends while it is being read has not: staying with one for a while
 * is faster for all than going around after each read.
 */
const MAX_QUANTUM_BYTES = 8_388_608;

/**
 * What a millisecond counts for, in bytes, where bytes take longer than they should: the relay moves twice as many. A
 * client that makes it work for each byte gets its share of time, and not its share of bytes.
 */
const COST_BYTES_PER_MS = 2_097_152;

/** Bytes for once around the queue. It bounds how long a pair stands still: about 0.1 s. */
const ROUND_BYTES = 268_435_456;

/**
 * This part of the budget for held bytes is kept for the smallest reads: with 64 MiB, 2,000 pairs stay within the
 * budget even where the first of them were stalled in the middle of the largest reads.
 */
const RESERVED_FRACTION = 0.5;

/** A read may become at most this part of what the rest of the budget has left. */
const BUDGET_DIVISOR = 16;

/** A connection that reads from the pool. */
export interface ReadFlow {
  /** Reads of this size come next, if memory allows. */
  readonly sizeClass: number;
  /** True while it is in the queue. The pool's, as is the next one. */
  isQueued: boolean;
  /** Bytes of its spell so far. */
  servedBytes: number;
  /** Reads once into `memory` and passes on what came. Returns the bytes, or 0 when it is not to be asked again. */
  serve(memory: Uint8Array): number;
  /** It has left the queue: from now on it waits for what comes. */
  onDequeued(): void;
}

/** Queue for work on connections that would take too long in the event loop tick in which their bytes are read. */
export interface DeferredWork {
  /** True while work is queued. */
  readonly isBusy: boolean;
  /** Runs `task` at the end of this tick or in a later one. */
  defer(task: () => void): void;
  /** Adds to the buffered bytes that count towards RELAY_BUFFER_MEMORY; negative to release. */
  addBufferedBytes(bytes: number): void;
}

/**
 * One buffer for every connection: a read and the writing of what it brought are one thing, so that the buffer is
 * free again before the next read, of whomever. What a receiver does not take is copied out of it and held.
 *
 * Connections that have little to say read whenever something comes. Those that have plenty stand in a queue, and are
 * served one after the other with large reads, a bounded amount in each turn of the event loop.
 */
export class ReadScheduler {
  // Not from Node's pool of small buffers, and never zeroed: nothing is read from it that was not written before.
  readonly #buffer = Buffer.allocUnsafeSlow(MAX_READ_BYTES);
  readonly #budgetBytes: number;
  /** For what receivers did not take. */
  readonly buffers = new BufferPool(MAX_READ_BYTES);
  /** Work on connections that need not be done in the moment they are read. */
  readonly #tasks = new TaskQueue();
  /** Readers that have just come. They are served first. */
  readonly #newFlows: ReadFlow[] = [];
  readonly #oldFlows: ReadFlow[] = [];
  #bufferedBytes = 0;
  #isTickScheduled = false;
  #hasNewConnections = false;

  /** @param budgetBytes what may be held for stalled receivers, above `SMALLEST_READ_BYTES` for each */
  constructor(budgetBytes: number) {
    this.#budgetBytes = budgetBytes;
  }

  /** Bytes held for receivers that do not keep up. */
  get bufferedBytes(): number {
    return this.#bufferedBytes;
  }

  /** The first bytes of the buffer. */
  bufferView(count: number): Uint8Array {
    return this.#buffer.subarray(0, count);
  }

  /** How large a read may be that is `step` steps above the smallest, in bytes: less when much is held already. */
  readSizeBytes(step: number): number {
    const allowed = (this.#budgetBytes * (1 - RESERVED_FRACTION) - this.#bufferedBytes) / BUDGET_DIVISOR;
    const wanted = MIN_READ_BYTES << Math.min(step, MAX_SIZE_CLASS);
    return Math.max(MIN_READ_BYTES, Math.min(wanted, allowed));
  }

  /** The step above `step`, if there is one. */
  nextSizeClass(step: number): number {
    return Math.min(MAX_SIZE_CLASS, step + 1);
  }

  /** More is held, or less (with a negative number). */
  addBufferedBytes(bytes: number): void {
    this.#bufferedBytes += bytes;
  }

  /** True while deferred work is queued. */
  get isBusy(): boolean {
    return this.#tasks.isBusy;
  }

  /** Runs `task` now, or later where thousands of them come at once: connections that end. */
  runOrDefer(task: () => void): void {
    this.#tasks.runOrDefer(task);
  }

  /** Runs `task` at the end of this turn or in a later one. */
  defer(task: () => void): void {
    this.#tasks.defer(task);
  }

  /** Somebody has come: the next turn is a short one. */
  onAccept(): void {
    this.#hasNewConnections = true;
  }

  /** Puts a reader that has plenty into the queue. One that is in it stays where it is. */
  enqueue(flow: ReadFlow): void {
    if (flow.isQueued) return;
    flow.isQueued = true;
    flow.servedBytes = 0;
    this.#newFlows.push(flow);
    this.#scheduleTick();
  }

  #scheduleTick(): void {
    if (this.#isTickScheduled) return;
    this.#isTickScheduled = true;
    // Runs when everybody who had something to read in this turn of the event loop has read it.
    setImmediate(() => this.#runTick());
  }

  #runTick(): void {
    this.#isTickScheduled = false;
    const turnBytes = this.#tickBudgetBytes();
    let bytes = turnBytes;
    let now = performance.now();
    const end = now + TICK_BUDGET_MS;
    while (bytes > 0 && now < end) {
      const from = this.#newFlows.length > 0 ? this.#newFlows : this.#oldFlows;
      const flow = from.shift();
      if (flow === undefined) return;
      const memory = this.bufferView(Math.min(this.readSizeBytes(flow.sizeClass), turnBytes));
      const count = flow.serve(memory);
      const later = performance.now();
      // A read costs something even where it brings nothing.
      bytes -= Math.max(count, MIN_READ_BYTES);
      flow.servedBytes += Math.max(count, (later - now) * COST_BYTES_PER_MS);
      now = later;
      this.#requeue(flow, count >= BULK_THRESHOLD_BYTES || count === memory.length, from === this.#newFlows);
    }
    if (this.#newFlows.length + this.#oldFlows.length > 0) this.#scheduleTick();
  }

  #tickBudgetBytes(): number {
    const isCrowded = this.#hasNewConnections;
    this.#hasNewConnections = false;
    if (isCrowded) return ACCEPTING_TICK_BUDGET_BYTES;
    return this.#newFlows.length + this.#oldFlows.length === 1
      ? SINGLE_FLOW_TICK_BUDGET_BYTES
      : TICK_BUDGET_BYTES;
  }

  #requeue(flow: ReadFlow, hasPlenty: boolean, isFresh: boolean): void {
    if (!hasPlenty) {
      flow.isQueued = false;
      flow.onDequeued();
      return;
    }
    const spell = isFresh ? NEW_FLOW_QUANTUM_BYTES : this.#quantumBytes();
    if (flow.servedBytes < spell) {
      (isFresh ? this.#newFlows : this.#oldFlows).unshift(flow);
    } else {
      flow.servedBytes = 0;
      this.#oldFlows.push(flow);
    }
  }

  #quantumBytes(): number {
    return Math.min(MAX_QUANTUM_BYTES, ROUND_BYTES / (this.#oldFlows.length + 1));
  }
}
