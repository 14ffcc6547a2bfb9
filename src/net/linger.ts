import type { Wire } from './wire.ts';

/**
 * How long a client may take no byte of what it has coming, or leave its own end open, once the relay is
 * done with it. Each byte it takes starts the time anew. Milliseconds.
 */
const LINGER_MS = 30_000;

/** What a client may still say, and is thrown away, before it has to wait between its words. Bytes. */
const FREE_BYTES = 8_388_608;

/** How long it waits then, in milliseconds: about 20 reads a second are left to it. */
const REST_MS = 50;

/**
 * Watches a connection that is being closed: as long as the client takes bytes it has all the time in the world,
 * and when it has taken none for `LINGER_MS` it is given up. What it goes on to say costs the relay next to nothing.
 */
export class Linger {
  readonly #wire: Wire;
  readonly #lingerMs: number;
  #seenBytes: number;
  #timer: NodeJS.Timeout;
  #freeBytes = FREE_BYTES;
  #rest: NodeJS.Timeout | undefined;

  /** @param lingerMs instead of `LINGER_MS` */
  constructor(wire: Wire, lingerMs = LINGER_MS) {
    this.#wire = wire;
    this.#lingerMs = lingerMs;
    this.#seenBytes = wire.deliveredBytes;
    this.#timer = this.#arm();
  }

  cancel(): void {
    clearTimeout(this.#timer);
    clearTimeout(this.#rest);
    this.#rest = undefined;
  }

  /** So many bytes have come that nobody wants. */
  discarded(bytes: number): void {
    this.#freeBytes -= bytes;
    if (this.#freeBytes >= 0 || this.#rest !== undefined) return;
    this.#wire.readLess();
    this.#wire.pause();
    this.#rest = setTimeout(() => {
      this.#rest = undefined;
      this.#wire.resume();
    }, REST_MS);
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
    }, this.#lingerMs);
  }
}
