import type { Wire } from './wire.ts';

/**
 * How long a client may take no byte of what it has coming, or leave its own end open, once the relay is
 * done with it. Each byte it takes starts the time anew. Milliseconds.
 */
const LINGER_MS = 30_000;

/**
 * Watches a connection that is being closed: as long as the client takes bytes it has all the time in the world,
 * and when it has taken none for `LINGER_MS` it is given up.
 */
export class Linger {
  readonly #wire: Wire;
  #seenBytes: number;
  #timer: NodeJS.Timeout;

  constructor(wire: Wire) {
    this.#wire = wire;
    this.#seenBytes = wire.deliveredBytes;
    this.#timer = this.#arm();
  }

  cancel(): void {
    clearTimeout(this.#timer);
  }

  #arm(): NodeJS.Timeout {
    return setTimeout(() => {
      const delivered = this.#wire.deliveredBytes;
      if (delivered === this.#seenBytes) {
        this.#wire.destroy();
        return;
      }
      this.#seenBytes = delivered;
      this.#timer = this.#arm();
    }, LINGER_MS);
  }
}
