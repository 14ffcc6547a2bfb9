import type { RelayState } from './api.ts';
import type { LiveHistory } from './live-history.ts';

const INTERVAL_MS = 1000;

/** Polls come in the middle of each second of the monotonic clock, so that a late timer skips none. */
const PHASE_MS = 500;

/** Polls the relay once a second, whether or not a page is open, and keeps the results in a history. */
export class RelayPoller {
  readonly #state: () => Promise<RelayState>;
  readonly #history: LiveHistory;
  #timer: NodeJS.Timeout | undefined;
  #isPolling = false;
  #closed = false;

  /** @param state never rejects */
  constructor(state: () => Promise<RelayState>, history: LiveHistory) {
    this.#state = state;
    this.#history = history;
  }

  /** Polls at once, and then each second until `close`. */
  start(): void {
    void this.#poll();
    this.#schedule();
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
  }

  #schedule(): void {
    if (this.#closed) return;
    const delayMs = INTERVAL_MS - ((performance.now() - PHASE_MS + INTERVAL_MS) % INTERVAL_MS);
    this.#timer = setTimeout(() => {
      void this.#poll();
      this.#schedule();
    }, delayMs).unref();
  }

  async #poll(): Promise<void> {
    // A relay that hangs answers or times out later; the next polls are left out.
    if (this.#isPolling) return;
    this.#isPolling = true;
    const atMs = performance.now();
    this.#history.add(await this.#state(), atMs);
    this.#isPolling = false;
  }
}
