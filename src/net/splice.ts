import type { Peer } from './peer.ts';

interface Direction {
  readonly from: Peer;
  readonly to: Peer;
  bytes: number;
  paused: boolean;
  bytesAtSweep: number;
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

  constructor(first: Peer, second: Peer) {
    this.#first = { from: first, to: second, bytes: 0, paused: false, bytesAtSweep: -1 };
    this.#second = { from: second, to: first, bytes: 0, paused: false, bytesAtSweep: -1 };
  }

  /** Bytes relayed so far, both directions together. */
  get totalBytes(): number {
    return this.#first.bytes + this.#second.bytes;
  }

  /** Sends what came from one end to the other. */
  forward(from: Peer, bytes: Uint8Array): void {
    const direction = from === this.#first.from ? this.#first : this.#second;
    direction.bytes += bytes.length;
    if (direction.to.send(bytes) || direction.paused) return;
    direction.paused = true;
    direction.from.pause();
  }

  /** One end has been handed all that was held for it: its partner may go on. */
  drained(to: Peer): void {
    const direction = to === this.#first.to ? this.#first : this.#second;
    if (!direction.paused) return;
    direction.paused = false;
    direction.from.resume();
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
