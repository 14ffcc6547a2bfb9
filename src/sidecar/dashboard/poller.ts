import { backoffMs } from './live-state.ts';

/** Runs a task periodically while the page is visible, one run at a time, with backoff after failures. */
export class Poller {
  readonly #intervalMs: number;
  readonly #task: () => Promise<boolean>;
  #timer: ReturnType<typeof setTimeout> | null = null;
  #running = false;
  #requestedMs: number | null = null;
  #failures = 0;
  #startedMs = Number.NEGATIVE_INFINITY;

  /**
   * @param intervalMs time between two starts
   * @param task resolves with whether it succeeded; must not reject
   */
  constructor(intervalMs: number, task: () => Promise<boolean>) {
    this.#intervalMs = intervalMs;
    this.#task = task;
    document.addEventListener('visibilitychange', () => this.#schedule(this.#remainingMs(this.#intervalMs)));
  }

  /** Runs the task now, but at the earliest `minIntervalMs` after its last start. */
  trigger(minIntervalMs = 0): void {
    if (this.#running) this.#requestedMs = minIntervalMs;
    else this.#schedule(this.#remainingMs(minIntervalMs));
  }

  #remainingMs(sinceStartMs: number): number {
    return Math.max(0, this.#startedMs + sinceStartMs - performance.now());
  }

  #schedule(delayMs: number): void {
    if (this.#running) return;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = document.hidden ? null : setTimeout(() => void this.#run(), delayMs);
  }

  async #run(): Promise<void> {
    this.#running = true;
    this.#requestedMs = null;
    this.#startedMs = performance.now();
    const isOk = await this.#task();
    this.#failures = isOk ? 0 : this.#failures + 1;
    this.#running = false;
    if (this.#failures > 0)
      this.#schedule(Math.max(backoffMs(this.#failures), this.#remainingMs(this.#intervalMs)));
    else this.#schedule(this.#remainingMs(this.#requestedMs ?? this.#intervalMs));
  }
}
