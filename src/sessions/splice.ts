import type { RateLimitSlot, RateLimiter } from '../limits/rate-limiter.ts';
import type { ClientTransport, TransportKind } from '../transport/client-transport.ts';

/**
 * For how long things have stood still, all of them together: two that are paused for a second make two seconds.
 *
 * It never goes back, since it adds up what has passed and keeps no beginnings to be subtracted.
 */
export class StallTimer {
  readonly #clock: () => number;
  #paused = 0;
  #totalMs = 0;
  #lastCountedAt: number;

  /** @param clock milliseconds of a clock that never jumps */
  constructor(clock: () => number) {
    this.#clock = clock;
    this.#lastCountedAt = clock();
  }

  /** Seconds so far, those of pauses that go on included. */
  get seconds(): number {
    this.#count();
    return this.#totalMs / 1000;
  }

  /** So many more stand still. */
  begin(count: number): void {
    this.#count();
    this.#paused += count;
  }

  /** So many go on. */
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
  /** Its receiver holds something. */
  paused: boolean;
  deliveredAtSweep: number;
}

/** What one direction of a pair has moved. */
export interface Flow {
  readonly from: TransportKind;
  readonly to: TransportKind;
  readonly bytes: number;
}

/** For how long directions of pairs have not been read, by the reason. */
export interface StallTimers {
  /** Their receiver holds something. */
  readonly backpressure: StallTimer;
  /** They have had their share for now. */
  readonly rateLimit: StallTimer;
}

/** Looks at what a pair moves, where that is limited. */
export interface ByteMeter {
  /** Asks for reads that are no larger than need be. */
  readonly wantsSmallReads: boolean;
  /** So many bytes more have been sent on. It may hold the splice, or end the pair. */
  consume(bytes: number): void;
  /** The pair has ended. */
  release(): void;
}

/**
 * The data plane of one pair: what one client sends goes to the other, both ways at once.
 *
 * A direction whose receiver does not keep up stops reading from its sender until what is held has been
 * handed over, so that a pair holds no more than about a read and a write buffer each way.
 */
export class Splice {
  readonly #first: Direction;
  readonly #second: Direction;
  #meter: ByteMeter | null = null;
  /** Null once the pair has ended. */
  #stallTimers: StallTimers | null;
  /** Neither side is read: the pair has had its share for now. */
  #isThrottled = false;

  constructor(first: ClientTransport, second: ClientTransport, pauses: StallTimers) {
    this.#stallTimers = pauses;
    this.#first = { from: first, to: second, bytes: 0, paused: false, deliveredAtSweep: -1 };
    this.#second = { from: second, to: first, bytes: 0, paused: false, deliveredAtSweep: -1 };
  }

  /** Bytes relayed so far, both directions together. */
  get totalBytes(): number {
    return this.#first.bytes + this.#second.bytes;
  }

  /** Both directions, as far as they have come. */
  flows(): readonly [Flow, Flow] {
    return [flowOf(this.#first), flowOf(this.#second)];
  }

  /** Has `meter` look at everything from now on. */
  setMeter(byteMeter: ByteMeter): void {
    this.#meter = byteMeter;
    if (!byteMeter.wantsSmallReads) return;
    this.#first.from.limitReadSize();
    this.#second.from.limitReadSize();
  }

  /** Sends what came from one end to the other. */
  forward(from: ClientTransport, bytes: Uint8Array): void {
    const direction = from === this.#first.from ? this.#first : this.#second;
    direction.bytes += bytes.length;
    if (!direction.to.send(bytes) && !direction.paused) {
      direction.paused = true;
      this.#stallTimers?.backpressure.begin(1);
      if (!this.#isThrottled) direction.from.pause();
    }
    this.#meter?.consume(bytes.length);
  }

  /** Counts what one end had sent to the other before there was a splice. */
  countBytes(from: ClientTransport, bytes: number): void {
    const direction = from === this.#first.from ? this.#first : this.#second;
    direction.bytes += bytes;
    this.#meter?.consume(bytes);
  }

  /** One end has been handed all that was held for it: its partner may go on. */
  receiverDrained(to: ClientTransport): void {
    const direction = to === this.#first.to ? this.#first : this.#second;
    if (!direction.paused) return;
    direction.paused = false;
    this.#stallTimers?.backpressure.end(1);
    if (!this.#isThrottled) direction.from.resume();
  }

  /** Stops reading from both ends, until `release`. */
  pauseBoth(): void {
    if (this.#isThrottled) return;
    this.#isThrottled = true;
    this.#stallTimers?.rateLimit.begin(2);
    for (const { from, paused } of [this.#first, this.#second]) if (!paused) from.pause();
  }

  resumeBoth(): void {
    if (!this.#isThrottled) return;
    this.#isThrottled = false;
    this.#stallTimers?.rateLimit.end(2);
    for (const { from, paused } of [this.#first, this.#second]) if (!paused) from.resume();
  }

  /** Stops reading again from whoever is not to be read now: somebody else has resumed it. */
  reapplyPause(): void {
    if (this.#stallTimers === null) return;
    for (const { from, paused } of [this.#first, this.#second]) if (this.#isThrottled || paused) from.pause();
  }

  /** Both ends have been told; nothing is measured any more. */
  end(): void {
    this.#meter?.release();
    this.#meter = null;
    const pauses = this.#stallTimers;
    this.#stallTimers = null;
    if (this.#isThrottled) pauses?.rateLimit.end(2);
    for (const { paused } of [this.#first, this.#second]) if (paused) pauses?.backpressure.end(1);
  }

  /**
   * Looks after senders that have been paused since the last sweep: a reset of theirs shows only when asked for.
   */
  sweep(): void {
    for (const direction of [this.#first, this.#second]) {
      const delivered = direction.to.deliveredBytes;
      if (direction.paused && delivered === direction.deliveredAtSweep) direction.from.detectReset();
      direction.deliveredAtSweep = delivered;
    }
  }
}

function flowOf({ from, to, bytes }: Direction): Flow {
  return { from: from.kind, to: to.kind, bytes };
}

/** Reads of the usual size would overshoot a limit of fewer bytes by a good part of it. */
const SMALL_READS_BELOW_BYTES = 64 * 2 ** 20;

/** What is limited of a pair. Null where nothing is, so that moving bytes costs nothing for it. */
export function createByteMeter(
  splice: Splice,
  rateLimiter: RateLimiter | null,
  pairBytes: number | null,
  usedUp: () => void,
): ByteMeter | null {
  if (rateLimiter === null && pairBytes === null) return null;
  return new PairByteMeter(splice, rateLimiter, pairBytes ?? Number.POSITIVE_INFINITY, usedUp);
}

class PairByteMeter implements ByteMeter {
  readonly wantsSmallReads: boolean;
  readonly #splice: Splice;
  readonly #rateLimitSlot: RateLimitSlot | null;
  readonly #maxBytes: number;
  readonly #onLimitReached: () => void;

  constructor(splice: Splice, rateLimiter: RateLimiter | null, maxBytes: number, usedUp: () => void) {
    this.wantsSmallReads = rateLimiter?.wantsSmallReads === true || maxBytes < SMALL_READS_BELOW_BYTES;
    this.#splice = splice;
    this.#rateLimitSlot = rateLimiter?.join(splice) ?? null;
    this.#maxBytes = maxBytes;
    this.#onLimitReached = usedUp;
  }

  consume(bytes: number): void {
    this.#rateLimitSlot?.consume(bytes);
    if (this.#splice.totalBytes > this.#maxBytes) this.#onLimitReached();
  }

  release(): void {
    this.#rateLimitSlot?.release();
  }
}
