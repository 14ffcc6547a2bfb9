import { LINGER_MS } from './peer.ts';

/**
 * Watches a client that is being closed: as long as it takes bytes it has all the time in the world, and
 * when it has taken none for `LINGER_MS` it is given up.
 */
export class Linger {
  readonly #delivered: () => number;
  readonly #giveUp: () => void;
  #seen: number;
  #timer: NodeJS.Timeout;

  constructor(delivered: () => number, giveUp: () => void) {
    this.#delivered = delivered;
    this.#giveUp = giveUp;
    this.#seen = delivered();
    this.#timer = setTimeout(() => this.#check(), LINGER_MS);
  }

  cancel(): void {
    clearTimeout(this.#timer);
  }

  #check(): void {
    const delivered = this.#delivered();
    if (delivered === this.#seen) {
      this.#giveUp();
      return;
    }
    this.#seen = delivered;
    this.#timer = setTimeout(() => this.#check(), LINGER_MS);
  }
}
