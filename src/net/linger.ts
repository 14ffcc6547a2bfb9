import type { Wire } from './wire.ts';

/**
 * How long a client may take no byte of what it has coming, or leave its own end open, once the relay is
 * done with it. Each byte it takes starts the time anew. Milliseconds.
 */
const LINGER_MS = 30_000;

/**
 * The same for a client that had a partner. The kernel retries less and less often: after a network outage of two minutes it may
 * send the rest of a transfer only three and a half minutes after the beginning of the outage.
 */
const PAIR_LINGER_MS = 300_000;

export function lingerMsFor(hadPartner: boolean): number {
  return hadPartner ? PAIR_LINGER_MS : LINGER_MS;
}

/** What a client may still say, and is thrown away, before it has to wait between its words. Bytes. */
const FREE_BYTES = 8_388_608;

/** How long it waits then, in milliseconds: about 20 reads a second are left to it. */
const REST_MS = 50;

/**
 * Watches a connection that is being closed: as long as the client takes bytes it has all the time in the world,
 * and when it has taken none for that time it is given up. What it goes on to say costs the relay next to nothing.
 */
export class Linger {
  readonly #wire: Wire;
  readonly #lingerMs: number;
  #seenBytes: number;
  #timer: NodeJS.Timeout;
  #freeBytes = FREE_BYTES;
  #rest: NodeJS.Timeout | undefined;

  /** @param lingerMs time without progress, in milliseconds */
  constructor(wire: Wire, lingerMs: number) {
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
