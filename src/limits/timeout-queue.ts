/** setTimeout takes no more, in milliseconds. */
const MAX_TIMER_MS = 2 ** 31 - 1;

/** Time for things that are due in the same moment, in milliseconds. The others are told a moment later. */
const SLICE_MS = 4;

/** Time between two slices, in milliseconds. */
const SLICE_PAUSE_MS = 1;

/**
 * Tells when things have taken too long. All of them are given the same time, so that whoever came first is also due
 * first: one timer for the oldest is enough, however many there are, and each costs an entry in a map.
 */
export class TimeoutQueue<Thing> {
  readonly #timeoutMs: number | null;
  readonly #clock: () => number;
  readonly #onTimeout: (thing: Thing) => void;
  /** When each is due, the oldest first. */
  readonly #dueTimes = new Map<Thing, number>();
  #timer: NodeJS.Timeout | null = null;

  /**
   * @param timeoutMs null: nothing is ever due
   * @param clock milliseconds of a clock that never jumps
   * @param expired told once of each thing that is due; it is forgotten by then
   */
  constructor(timeoutMs: number | null, clock: () => number, expired: (thing: Thing) => void) {
    this.#timeoutMs = timeoutMs;
    this.#clock = clock;
    this.#onTimeout = expired;
  }

  /** Things that are not due yet. */
  get size(): number {
    return this.#dueTimes.size;
  }

  /** Gives `thing` its time, from now. One that has some already starts anew. */
  start(thing: Thing): void {
    if (this.#timeoutMs === null) return;
    this.#dueTimes.delete(thing);
    this.#dueTimes.set(thing, this.#clock() + this.#timeoutMs);
    if (this.#timer === null) this.#schedule(this.#timeoutMs);
  }

  /** Forgets `thing`: it is done. */
  stop(thing: Thing): void {
    this.#dueTimes.delete(thing);
  }

  /** Forgets everything. */
  close(): void {
    this.#dueTimes.clear();
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
  }

  #schedule(ms: number): void {
    this.#timer = setTimeout(() => this.#expireDue(), Math.min(Math.max(ms, 0), MAX_TIMER_MS));
  }

  #expireDue(): void {
    this.#timer = null;
    const now = this.#clock();
    for (const [thing, dueAt] of this.#dueTimes) {
      if (dueAt > now) {
        // Most are done long before they are due; a timer that comes too early finds the next one.
        if (this.#timer === null) this.#schedule(dueAt - now);
        return;
      }
      if (this.#clock() - now >= SLICE_MS) {
        this.#timer ??= setTimeout(() => this.#expireDue(), SLICE_PAUSE_MS);
        return;
      }
      this.#dueTimes.delete(thing);
      this.#onTimeout(thing);
    }
  }
}
