import type { PauseClock } from './pause-clock.ts';
import type { Peer, Transport } from './peer.ts';

interface Direction {
  readonly from: Peer;
  readonly to: Peer;
  bytes: number;
  /** Its receiver holds something. */
  paused: boolean;
  bytesAtSweep: number;
}

/** What one direction of a pair has moved. */
export interface Flow {
  readonly from: Transport;
  readonly to: Transport;
  readonly bytes: number;
}

/** For how long directions of pairs have not been read, by the reason. */
export interface Pauses {
  /** Their receiver holds something. */
  readonly backpressure: PauseClock;
  /** They have had their share for now. */
  readonly rateLimit: PauseClock;
}

/** Looks at what a pair moves, where that is limited. */
export interface SpliceMeter {
  /** Asks for reads that are no larger than need be. */
  readonly wantsSmallReads: boolean;
  /** So many bytes more have been sent on. It may hold the splice, or end the pair. */
  spend(bytes: number): void;
  /** The pair has ended. */
  leave(): void;
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
  #meter: SpliceMeter | null = null;
  /** Null once the pair has ended. */
  #pauses: Pauses | null;
  /** Neither side is read: the pair has had its share for now. */
  #isHeld = false;

  constructor(first: Peer, second: Peer, pauses: Pauses) {
    this.#pauses = pauses;
    this.#first = { from: first, to: second, bytes: 0, paused: false, bytesAtSweep: -1 };
    this.#second = { from: second, to: first, bytes: 0, paused: false, bytesAtSweep: -1 };
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
  measure(meter: SpliceMeter): void {
    this.#meter = meter;
    if (!meter.wantsSmallReads) return;
    this.#first.from.readLess();
    this.#second.from.readLess();
  }

  /** Sends what came from one end to the other. */
  forward(from: Peer, bytes: Uint8Array): void {
    const direction = from === this.#first.from ? this.#first : this.#second;
    direction.bytes += bytes.length;
    if (!direction.to.send(bytes) && !direction.paused) {
      direction.paused = true;
      this.#pauses?.backpressure.begin(1);
      if (!this.#isHeld) direction.from.pause();
    }
    this.#meter?.spend(bytes.length);
  }

  /** Counts what one end had sent to the other before there was a splice. */
  count(from: Peer, bytes: number): void {
    const direction = from === this.#first.from ? this.#first : this.#second;
    direction.bytes += bytes;
    this.#meter?.spend(bytes);
  }

  /** One end has been handed all that was held for it: its partner may go on. */
  drained(to: Peer): void {
    const direction = to === this.#first.to ? this.#first : this.#second;
    if (!direction.paused) return;
    direction.paused = false;
    this.#pauses?.backpressure.end(1);
    if (!this.#isHeld) direction.from.resume();
  }

  /** Stops reading from both ends, until `release`. */
  hold(): void {
    if (this.#isHeld) return;
    this.#isHeld = true;
    this.#pauses?.rateLimit.begin(2);
    for (const { from, paused } of [this.#first, this.#second]) if (!paused) from.pause();
  }

  release(): void {
    if (!this.#isHeld) return;
    this.#isHeld = false;
    this.#pauses?.rateLimit.end(2);
    for (const { from, paused } of [this.#first, this.#second]) if (!paused) from.resume();
  }

  /** Stops reading again from whoever is not to be read now: somebody else has resumed it. */
  insist(): void {
    if (this.#pauses === null) return;
    for (const { from, paused } of [this.#first, this.#second]) if (this.#isHeld || paused) from.pause();
  }

  /** Both ends have been told; nothing is measured any more. */
  end(): void {
    this.#meter?.leave();
    this.#meter = null;
    const pauses = this.#pauses;
    this.#pauses = null;
    if (this.#isHeld) pauses?.rateLimit.end(2);
    for (const { paused } of [this.#first, this.#second]) if (paused) pauses?.backpressure.end(1);
  }

  /**
   * Looks after senders that have been paused since the last sweep: a reset of theirs shows only when asked for.
   */
  sweep(): void {
    for (const direction of [this.#first, this.#second]) {
      const delivered = direction.to.deliveredBytes;
      if (direction.paused && delivered === direction.bytesAtSweep) direction.from.probe();
      direction.bytesAtSweep = delivered;
    }
  }
}

function flowOf({ from, to, bytes }: Direction): Flow {
  return { from: from.transport, to: to.transport, bytes };
}
