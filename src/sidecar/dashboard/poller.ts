import { backoffMs } from './poll-policy.ts';

/** Does something again and again while the page can be seen, one at a time, and more rarely while it fails. */
export class Poller {
  readonly #intervalMs: number;
  readonly #task: () => Promise<boolean>;
  #timer: ReturnType<typeof setTimeout> | null = null;
  #running = false;
  #requestedMs: number | null = null;
  #failures = 0;
  #startedMs = Number.NEGATIVE_INFINITY;

  /**
   * @param intervalMs from one beginning to the next
   * @param task resolves with whether it went well; must not reject
   */
  constructor(intervalMs: number, task: () => Promise<boolean>) {
    this.#intervalMs = intervalMs;
    this.#task = task;
    document.addEventListener('visibilitychange', () => this.#schedule(this.#remainingMs(this.#intervalMs)));
  }

  /** Does it now, but not sooner than `leastMs` after it was begun the last time. */
  trigger(leastMs = 0): void {
    if (this.#running) this.#requestedMs = leastMs;
    else this.#schedule(this.#remainingMs(leastMs));
  }

  #remainingMs(sinceBegunMs: number): number {
    return Math.max(0, this.#startedMs + sinceBegunMs - performance.now());
  }

  #schedule(inMs: number): void {
    if (this.#running) return;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = document.hidden ? null : setTimeout(() => void this.#run(), inMs);
  }

  async #run(): Promise<void> {
    this.#running = true;
    this.#requestedMs = null;
    this.#startedMs = performance.now();
    const wentWell = await this.#task();
    this.#failures = wentWell ? 0 : this.#failures + 1;
    this.#running = false;
    if (this.#failures > 0)
      this.#schedule(Math.max(backoffMs(this.#failures), this.#remainingMs(this.#intervalMs)));
    else this.#schedule(this.#remainingMs(this.#requestedMs ?? this.#intervalMs));
  }
}
