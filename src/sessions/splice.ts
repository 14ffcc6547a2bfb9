import type { RateLimitSlot, RateLimiter } from '../limits/rate-limiter.ts';
import type { ClientTransport, TransportKind } from '../transport/client-transport.ts';

/**
 * Total time that directions were paused: two that are paused for one second count as two seconds.
 *
 * It never decreases, because it only adds elapsed time and subtracts no start times.
 */
export class StallTimer {
  readonly #clock: () => number;
  #paused = 0;
  #totalMs = 0;
  #lastCountedAt: number;

  /** @param clock the monotonic clock, in milliseconds */
  constructor(clock: () => number) {
    this.#clock = clock;
    this.#lastCountedAt = clock();
  }

  /** Seconds so far, including pauses that have not ended. */
  get seconds(): number {
    this.#count();
    return this.#totalMs / 1000;
  }

  /** So many more directions are paused. Returns the time on the clock. */
  begin(count: number): number {
    this.#count();
    this.#paused += count;
    return this.#lastCountedAt;
  }

  /** So many directions have resumed. */
  end(count: number): void {
    this.#count();
    this.#paused -= count;
  }

  #count(): void {
    const now = this.#clock();
    this.#totalMs += this.#paused * (now - this.#lastCountedAt);
    this.#lastCountedAt = now;
  }
}

interface Direction {
  readonly from: ClientTransport;
  readonly to: ClientTransport;
  bytes: number;
  /** Since when bytes are buffered for its receiver, in milliseconds of the monotonic clock; null: none are. */
  pausedAt: number | null;
  deliveredAtSweep: number;
}

/** Bytes that one direction of a pair has forwarded. */
interface Flow {
  readonly from: TransportKind;
  readonly to: TransportKind;
  readonly bytes: number;
}

/** How long directions of pairs were not read, by reason. */
export interface StallTimers {
  /** Bytes are buffered for the receiver. */
  readonly backpressure: StallTimer;
  /** The pair has used up its rate for now. */
  readonly rateLimit: StallTimer;
}

/** With reads of the usual size, a pair would exceed a smaller limit by a large part of it. */
const SMALL_READS_BELOW_BYTES = 64 * 2 ** 20;

/**
 * The data plane of one pair: forwards the bytes of each client to the other, in both directions at once.
 *
 * If a receiver is slow, the direction stops reading from its sender until the buffered bytes have been
 * handed over. So a pair buffers no more than about one read and one write buffer in each direction.
 */
export class Splice {
  readonly #first: Direction;
  readonly #second: Direction;
  #rateLimitSlot: RateLimitSlot | null = null;
  #maxBytes = Infinity;
  /** Null: bytes are not limited, or the pair has ended. */
  #onLimitReached: (() => void) | null = null;
  /** Null once the pair has ended. */
  #stallTimers: StallTimers | null;
  /** Neither side is read, because the pair has used up its rate for now. */
  #isThrottled = false;

  constructor(first: ClientTransport, second: ClientTransport, stallTimers: StallTimers) {
    this.#stallTimers = stallTimers;
    this.#first = { from: first, to: second, bytes: 0, pausedAt: null, deliveredAtSweep: -1 };
    this.#second = { from: second, to: first, bytes: 0, pausedAt: null, deliveredAtSweep: -1 };
  }

  /** Bytes relayed so far, both directions together. */
  get totalBytes(): number {
    return this.#first.bytes + this.#second.bytes;
  }

  /**
   * Since when a direction has been paused because bytes are buffered for its receiver, in milliseconds of the
   * monotonic clock. Null if none is. It keeps its value when the pair has ended.
   */
  get stalledSince(): number | null {
    const [one, other] = [this.#first.pausedAt, this.#second.pausedAt];
    return one === null || other === null ? (one ?? other) : Math.min(one, other);
  }

  /** Both directions so far. */
  flows(): readonly Flow[] {
    return [this.#first, this.#second].map(({ from, to, bytes }) => ({
      from: from.kind,
      to: to.kind,
      bytes,
    }));
  }

  /**
   * Limits all further bytes.
   *
   * @param rateLimiter null: no rate limit
   * @param maxBytes bytes that the pair may forward; null: no limit
   * @param onLimitReached called for bytes beyond `maxBytes`; it has to end the pair
   */
  limit(rateLimiter: RateLimiter | null, maxBytes: number | null, onLimitReached: () => void): void {
    this.#rateLimitSlot = rateLimiter?.join(this) ?? null;
    this.#maxBytes = maxBytes ?? Infinity;
    this.#onLimitReached = onLimitReached;
    if (rateLimiter?.wantsSmallReads !== true && this.#maxBytes >= SMALL_READS_BELOW_BYTES) return;
    this.#first.from.limitReadSize();
    this.#second.from.limitReadSize();
  }

  /** Sends bytes from one end to the other. */
  forward(from: ClientTransport, bytes: Uint8Array): void {
    const direction = from === this.#first.from ? this.#first : this.#second;
    direction.bytes += bytes.length;
    if (!direction.to.send(bytes) && direction.pausedAt === null) {
      direction.pausedAt = this.#stallTimers?.backpressure.begin(1) ?? 0;
      if (!this.#isThrottled) direction.from.pause();
    }
    if (this.#onLimitReached !== null) this.#consume(bytes.length);
  }

  /** Counts bytes that one end had sent to the other before the splice existed. */
  countBytes(from: ClientTransport, bytes: number): void {
    const direction = from === this.#first.from ? this.#first : this.#second;
    direction.bytes += bytes;
    if (this.#onLimitReached !== null) this.#consume(bytes);
  }

  /** Counts bytes against the limits. This may pause both ends or end the pair. */
  #consume(bytes: number): void {
    this.#rateLimitSlot?.consume(bytes);
    if (this.totalBytes > this.#maxBytes) this.#onLimitReached?.();
  }

  /** Everything buffered for one end has been handed over, so its sender is read again. */
  receiverDrained(to: ClientTransport): void {
    const direction = to === this.#first.to ? this.#first : this.#second;
    if (direction.pausedAt === null) return;
    direction.pausedAt = null;
    this.#stallTimers?.backpressure.end(1);
    if (!this.#isThrottled) direction.from.resume();
  }

  /** Stops reading from both ends until `resumeBoth`. */
  pauseBoth(): void {
    if (this.#isThrottled) return;
    this.#isThrottled = true;
    this.#stallTimers?.rateLimit.begin(2);
    for (const { from, pausedAt } of [this.#first, this.#second]) if (pausedAt === null) from.pause();
  }

  resumeBoth(): void {
    if (!this.#isThrottled) return;
    this.#isThrottled = false;
    this.#stallTimers?.rateLimit.end(2);
    for (const { from, pausedAt } of [this.#first, this.#second]) if (pausedAt === null) from.resume();
  }

  /** Pauses both ends again as necessary after something else has resumed them. */
  reapplyPause(): void {
    if (this.#stallTimers === null) return;
    for (const { from, pausedAt } of [this.#first, this.#second])
      if (this.#isThrottled || pausedAt !== null) from.pause();
  }

  /** Stops all measurements, because the pair has ended. */
  end(): void {
    this.#rateLimitSlot?.release();
    this.#onLimitReached = null;
    const timers = this.#stallTimers;
    this.#stallTimers = null;
    if (this.#isThrottled) timers?.rateLimit.end(2);
    for (const { pausedAt } of [this.#first, this.#second])
      if (pausedAt !== null) timers?.backpressure.end(1);
  }

  /**
   * Checks senders that were paused since the last sweep for a reset, which is hidden while nothing is read.
   */
  sweep(): void {
    for (const direction of [this.#first, this.#second]) {
      const delivered = direction.to.deliveredBytes;
      if (direction.pausedAt !== null && delivered === direction.deliveredAtSweep)
        direction.from.detectReset();
      direction.deliveredAtSweep = delivered;
    }
  }
}
