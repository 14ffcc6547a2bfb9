import type { ByteStream } from './byte-stream.ts';

/**
 * How long a client may take no byte of what it has coming, or leave its own end open, once the relay is
 * done with it. Each byte it takes starts the time anew. Milliseconds.
 */
const LINGER_TIMEOUT_MS = 30_000;

/**
 * The same for a client that had a partner. The kernel retries less and less often: after a network outage of two minutes it may
 * send the rest of a transfer only three and a half minutes after the beginning of the outage.
 */
const PAIR_LINGER_TIMEOUT_MS = 300_000;

export function lingerTimeoutMs(hadPartner: boolean): number {
  return hadPartner ? PAIR_LINGER_TIMEOUT_MS : LINGER_TIMEOUT_MS;
}

/** What a client may still say, and is thrown away, before it has to wait between its words. Bytes. */
const UNTHROTTLED_BYTES = 8_388_608;

/** How long it waits then, in milliseconds: about 20 reads a second are left to it. */
const READ_PAUSE_MS = 50;

/**
 * Watches a connection that is being closed: as long as the client takes bytes it has all the time in the world,
 * and when it has taken none for that time it is given up. What it goes on to say costs the relay next to nothing.
 */
export class Linger {
  readonly #stream: ByteStream;
  readonly #timeoutMs: number;
  #lastDeliveredBytes: number;
  #timer: NodeJS.Timeout;
  #unthrottledBytes = UNTHROTTLED_BYTES;
  #pauseTimer: NodeJS.Timeout | undefined;

  /** @param lingerMs time without progress, in milliseconds */
  constructor(stream: ByteStream, lingerMs: number) {
    this.#stream = stream;
    this.#timeoutMs = lingerMs;
    this.#lastDeliveredBytes = stream.deliveredBytes;
    this.#timer = this.#arm();
  }

  cancel(): void {
    clearTimeout(this.#timer);
    clearTimeout(this.#pauseTimer);
    this.#pauseTimer = undefined;
  }

  /** So many bytes have come that nobody wants. */
  onDiscarded(bytes: number): void {
    this.#unthrottledBytes -= bytes;
    if (this.#unthrottledBytes >= 0 || this.#pauseTimer !== undefined) return;
    this.#stream.limitReadSize();
    this.#stream.pause();
    this.#pauseTimer = setTimeout(() => {
      this.#pauseTimer = undefined;
      this.#stream.resume();
    }, READ_PAUSE_MS);
  }

  #arm(): NodeJS.Timeout {
    return setTimeout(() => {
      const delivered = this.#stream.deliveredBytes;
      if (delivered === this.#lastDeliveredBytes) {
        this.#stream.abort();
        return;
      }
      this.#lastDeliveredBytes = delivered;
      this.#timer = this.#arm();
    }, this.#timeoutMs);
  }
}
