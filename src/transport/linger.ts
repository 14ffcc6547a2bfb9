import type { ByteStream } from './byte-stream.ts';

/**
 * How long a client may accept no byte of its pending data, or leave its own end open, once the relay has
 * closed its end. Each accepted byte restarts the timeout. Milliseconds.
 */
const LINGER_TIMEOUT_MS = 30_000;

/**
 * The same for a client that had a partner. The kernel retransmits less and less often: after a network
 * outage of two minutes, it may send the rest of a transfer only three and a half minutes after the outage
 * began.
 */
const PAIR_LINGER_TIMEOUT_MS = 300_000;

export function lingerTimeoutMs(hadPartner: boolean): number {
  return hadPartner ? PAIR_LINGER_TIMEOUT_MS : LINGER_TIMEOUT_MS;
}

/** Discarded bytes of a client above which its reads are throttled. */
const UNTHROTTLED_BYTES = 8_388_608;

/** Pause between throttled reads, in milliseconds: allows about 20 reads per second. */
const READ_PAUSE_MS = 50;

/**
 * Watches a connection that is being closed. As long as the client accepts bytes, it has unlimited time. It
 * is aborted when it has accepted none within the timeout. Reads are throttled, so that a client that keeps
 * sending costs little.
 */
export class Linger {
  readonly #stream: ByteStream;
  readonly #timeoutMs: number;
  #lastDeliveredBytes: number;
  #timer: NodeJS.Timeout;
  #unthrottledBytes = UNTHROTTLED_BYTES;
  #pauseTimer: NodeJS.Timeout | undefined;

  /** @param timeoutMs time without progress, in milliseconds */
  constructor(stream: ByteStream, timeoutMs: number) {
    this.#stream = stream;
    this.#timeoutMs = timeoutMs;
    this.#lastDeliveredBytes = stream.deliveredBytes;
    this.#timer = this.#arm();
  }

  cancel(): void {
    clearTimeout(this.#timer);
    clearTimeout(this.#pauseTimer);
    this.#pauseTimer = undefined;
  }

  /** Counts received bytes that were discarded. */
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
