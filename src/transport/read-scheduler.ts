import { TaskQueue } from './task-queue.ts';

/**
 * Size of the buffer that every connection reads into, and thus of the largest read, in bytes. It has to fit
 * into the processor's second-level cache, together with the kernel's buffers: with 1 MiB, a single pair can
 * become a quarter slower; with 256 KiB, the cost of system calls becomes noticeable.
 */
export const MAX_READ_BYTES = 524_288;

/** Smaller copies are cheap to allocate, in bytes. */
const MIN_POOLED_BYTES = 65_536;

/** Buffers in use at a time: 4 MiB of memory. */
const MAX_BUFFERS = 8;

/** Buffers that are kept while none is in use: 1 MiB of memory. */
const MAX_IDLE_BUFFERS = 2;

/**
 * Reusable memory for bytes that receivers did not accept. A transfer with a slow receiver buffers part of a
 * read many times per second. Allocating memory each time would be a quarter of the CPU cost of its bytes,
 * mostly for the garbage collector and for pages that the kernel has to clear. When no buffer is free, a copy
 * gets memory of its own.
 */
export class BufferPool {
  readonly #free: Buffer[] = [];
  readonly #buffers = new WeakMap<Uint8Array, Buffer>();
  #allocatedCount = 0;

  /** Copies `bytes`. The copy is valid until `release`. */
  copy(bytes: Uint8Array): Uint8Array {
    const buffer = bytes.length < MIN_POOLED_BYTES || bytes.length > MAX_READ_BYTES ? null : this.#acquire();
    if (buffer === null) return Buffer.from(bytes);
    const copy = buffer.subarray(0, bytes.length);
    copy.set(bytes);
    this.#buffers.set(copy, buffer);
    return copy;
  }

  /** Makes the memory of a copy available again. */
  release(copy: Uint8Array): void {
    const buffer = this.#buffers.get(copy);
    if (buffer === undefined) return;
    this.#buffers.delete(copy);
    this.#free.push(buffer);
    if (this.#free.length < this.#allocatedCount) return;
    // No buffer is in use: an idle relay frees its memory.
    this.#free.splice(MAX_IDLE_BUFFERS);
    this.#allocatedCount = this.#free.length;
  }

  #acquire(): Buffer | null {
    const free = this.#free.pop();
    if (free !== undefined) return free;
    if (this.#allocatedCount === MAX_BUFFERS) return null;
    this.#allocatedCount += 1;
    return Buffer.allocUnsafeSlow(MAX_READ_BYTES);
  }
}

/** Size of the smallest read, and the bytes that a stalled pair may always buffer. */
export const MIN_READ_BYTES = 16_384;

/** Read sizes double with each size class: `MIN_READ_BYTES` for class 0, `MAX_READ_BYTES` for this one. */
const MAX_SIZE_CLASS = Math.log2(MAX_READ_BYTES / MIN_READ_BYTES);

/**
 * Bytes per event loop tick for all queued flows together. This bounds how long a small message of another
 * connection waits: copying 1 MiB takes about 0.3 ms.
 */
const TICK_BUDGET_BYTES = 1_048_576;

/**
 * The same limit as time, for bytes that are slow to process: a client may send a WebSocket frame for each
 * byte.
 */
const TICK_BUDGET_MS = 2;

/**
 * `TICK_BUDGET_BYTES` after a new connection. libuv accepts one connection per event loop tick, and clients
 * that are not accepted in time retry after a second.
 */
const ACCEPTING_TICK_BUDGET_BYTES = 131_072;

/** `TICK_BUDGET_BYTES` with a single queued flow. */
const SINGLE_FLOW_TICK_BUDGET_BYTES = 2_097_152;

/** A flow whose read brings less than this leaves the queue. */
const BULK_THRESHOLD_BYTES = 65_536;

/** Bytes that a new flow is served before it goes to the end of the queue (as in RFC 8290). */
const NEW_FLOW_QUANTUM_BYTES = 262_144;

/**
 * Bytes that a flow is served before the next one. Bytes that were queued in the kernel have left the
 * processor's cache, but bytes that are sent during the reads have not. Therefore several reads per flow are
 * faster for all flows than one.
 */
const MAX_QUANTUM_BYTES = 8_388_608;

/**
 * Bytes that a millisecond of processing counts as, if the bytes took longer. The relay normally moves twice
 * as many. A client whose bytes are expensive gets a fair share of time instead of a fair share of bytes.
 */
const COST_BYTES_PER_MS = 2_097_152;

/** Bytes for one round of the queue. This bounds how long a pair waits for its next read: about 0.1 s. */
const ROUND_BYTES = 268_435_456;

/**
 * Fraction of the budget for buffered bytes that is reserved for the smallest reads. With 64 MiB, 2,000 pairs
 * stay within the budget even if the first of them stalled in the middle of the largest reads.
 */
const RESERVED_FRACTION = 0.5;

/** A read is at most the unused part of the unreserved budget, divided by this. */
const BUDGET_DIVISOR = 16;

/** A connection whose reads the scheduler controls. */
export interface ReadFlow {
  /** Size of its next reads, if memory allows: an index, 0 for the smallest. */
  readonly sizeClass: number;
  /** True while it is queued. Owned by the scheduler, like `servedBytes`. */
  isQueued: boolean;
  /** Bytes of the current quantum so far. */
  servedBytes: number;
  /** Reads once into `memory` and forwards the bytes. Returns their count, or 0 to leave the queue. */
  serve(memory: Uint8Array): number;
  /** Called when the flow has left the queue: it waits for readiness from now on. */
  onDequeued(): void;
}

/**
 * One read buffer for all connections. The bytes of a read are written before the read returns, so that the
 * buffer is free again for the next read of any connection. Bytes that a receiver does not accept are copied
 * and buffered.
 *
 * Connections with little data read as soon as bytes arrive. Connections with bulk data are queued, and
 * served by deficit round robin with large reads and a limited number of bytes per event loop tick.
 */
export class ReadScheduler {
  // Not from Node's pool of small buffers. Zeroing is not needed, because only bytes of the current read are
  // used.
  readonly #buffer = Buffer.allocUnsafeSlow(MAX_READ_BYTES);
  readonly #budgetBytes: number;
  /** For bytes that receivers did not accept. */
  readonly buffers = new BufferPool();
  /** For work on connections that would take too long in the tick in which their bytes are read. */
  readonly tasks = new TaskQueue();
  /** Flows that were just queued. They are served first. */
  readonly #newFlows: ReadFlow[] = [];
  readonly #oldFlows: ReadFlow[] = [];
  /** Counts towards RELAY_BUFFER_MEMORY. Each connection adds its bytes, and subtracts them again. */
  bufferedBytes = 0;
  #isTickScheduled = false;
  #hasNewConnections = false;

  /**
   * @param budgetBytes bytes that may be buffered for stalled receivers, in addition to `MIN_READ_BYTES` for
   *   each
   */
  constructor(budgetBytes: number) {
    this.#budgetBytes = budgetBytes;
  }

  /** The first `count` bytes of the read buffer. */
  bufferView(count: number): Uint8Array {
    return this.#buffer.subarray(0, count);
  }

  /** Size of a read of this class, in bytes. Smaller if many bytes are buffered. */
  readSizeBytes(sizeClass: number): number {
    const allowed = (this.#budgetBytes * (1 - RESERVED_FRACTION) - this.bufferedBytes) / BUDGET_DIVISOR;
    const wanted = MIN_READ_BYTES << Math.min(sizeClass, MAX_SIZE_CLASS);
    return Math.max(MIN_READ_BYTES, Math.min(wanted, allowed));
  }

  /** The next larger size class, or the largest. */
  nextSizeClass(sizeClass: number): number {
    return Math.min(MAX_SIZE_CLASS, sizeClass + 1);
  }

  /** A connection was accepted: makes the next tick short. */
  onAccept(): void {
    this.#hasNewConnections = true;
  }

  /** Queues a flow with bulk data. A queued flow keeps its position. */
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
    // Runs after the reads of all connections that became readable in this tick.
    setImmediate(() => this.#runTick());
  }

  #runTick(): void {
    this.#isTickScheduled = false;
    const budgetBytes = this.#tickBudgetBytes();
    let bytes = budgetBytes;
    let now = performance.now();
    const end = now + TICK_BUDGET_MS;
    while (bytes > 0 && now < end) {
      const from = this.#newFlows.length > 0 ? this.#newFlows : this.#oldFlows;
      const flow = from.shift();
      if (flow === undefined) return;
      const memory = this.bufferView(Math.min(this.readSizeBytes(flow.sizeClass), budgetBytes));
      const count = flow.serve(memory);
      const later = performance.now();
      // A read has a cost even if it returns no bytes.
      bytes -= Math.max(count, MIN_READ_BYTES);
      flow.servedBytes += Math.max(count, (later - now) * COST_BYTES_PER_MS);
      now = later;
      this.#requeue(flow, count >= BULK_THRESHOLD_BYTES || count === memory.length, from === this.#newFlows);
    }
    if (this.#newFlows.length + this.#oldFlows.length > 0) this.#scheduleTick();
  }

  #tickBudgetBytes(): number {
    const isAccepting = this.#hasNewConnections;
    this.#hasNewConnections = false;
    if (isAccepting) return ACCEPTING_TICK_BUDGET_BYTES;
    return this.#newFlows.length + this.#oldFlows.length === 1
      ? SINGLE_FLOW_TICK_BUDGET_BYTES
      : TICK_BUDGET_BYTES;
  }

  #requeue(flow: ReadFlow, isBulk: boolean, isNew: boolean): void {
    if (!isBulk) {
      flow.isQueued = false;
      flow.onDequeued();
      return;
    }
    const quantumBytes = isNew ? NEW_FLOW_QUANTUM_BYTES : this.#quantumBytes();
    if (flow.servedBytes < quantumBytes) {
      (isNew ? this.#newFlows : this.#oldFlows).unshift(flow);
    } else {
      flow.servedBytes = 0;
      this.#oldFlows.push(flow);
    }
  }

  #quantumBytes(): number {
    return Math.min(MAX_QUANTUM_BYTES, ROUND_BYTES / (this.#oldFlows.length + 1));
  }
}
