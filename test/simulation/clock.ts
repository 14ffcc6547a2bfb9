import type { Timer } from '../../src/cluster/runtime.ts';

/**
 * Time that advances from event to event. Events of the same time run in the order in which they were
 * scheduled. All promises that an event has resolved are handled before the next event, so the order is the
 * same in every run.
 */
export class Clock {
  #nowMs = 0;
  #scheduled = 0;
  /** A binary heap: no event is later than its children at 2i+1 and 2i+2. */
  readonly #heap: ScheduledEvent[] = [];

  /** Time since the start, in milliseconds. */
  get nowMs(): number {
    return this.#nowMs;
  }

  /** Schedules an event `delayMs` from now. */
  after(delayMs: number, run: () => void): ScheduledEvent {
    const event = new ScheduledEvent(this.#nowMs + Math.max(0, delayMs), this.#scheduled, run);
    this.#scheduled += 1;
    this.#add(event);
    return event;
  }

  /** Runs all events until `endMs`. */
  async runUntil(endMs: number): Promise<void> {
    // The caller may have called asynchronous functions.
    await settlePromises();
    for (;;) {
      const next = this.#heap[0];
      if (next === undefined || next.atMs > endMs) break;
      this.#removeFirst();
      if (next.isCancelled) continue;
      this.#nowMs = next.atMs;
      next.run();
      await settlePromises();
    }
    this.#nowMs = endMs;
  }

  #add(event: ScheduledEvent): void {
    const heap = this.#heap;
    let at = heap.push(event) - 1;
    while (at > 0) {
      const parentAt = (at - 1) >> 1;
      const parent = heap[parentAt];
      if (parent === undefined || !event.isBefore(parent)) break;
      heap[at] = parent;
      at = parentAt;
    }
    heap[at] = event;
  }

  #removeFirst(): void {
    const heap = this.#heap;
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return;
    let at = 0;
    for (;;) {
      let childAt = 2 * at + 1;
      const [left, right] = [heap[childAt], heap[childAt + 1]];
      if (left === undefined) break;
      if (right?.isBefore(left) === true) childAt += 1;
      const child = heap[childAt];
      if (child?.isBefore(last) !== true) break;
      heap[at] = child;
      at = childAt;
    }
    heap[at] = last;
  }
}

class ScheduledEvent {
  readonly atMs: number;
  readonly run: () => void;
  readonly #order: number;
  isCancelled = false;

  constructor(atMs: number, order: number, run: () => void) {
    this.atMs = atMs;
    this.#order = order;
    this.run = run;
  }

  isBefore(other: ScheduledEvent): boolean {
    return this.atMs < other.atMs || (this.atMs === other.atMs && this.#order < other.#order);
  }
}

/** A timer of `setTimeout` in simulated time. */
export class SimulatedTimer implements Timer {
  readonly #clock: Clock;
  readonly #delayMs: number;
  readonly #run: () => void;
  #event: ScheduledEvent;

  constructor(clock: Clock, delayMs: number, run: () => void) {
    this.#clock = clock;
    this.#delayMs = delayMs;
    this.#run = run;
    this.#event = clock.after(delayMs, run);
  }

  refresh(): void {
    this[Symbol.dispose]();
    this.#event = this.#clock.after(this.#delayMs, this.#run);
  }

  [Symbol.dispose](): void {
    this.#event.isCancelled = true;
  }
}

/** Resolves when all callbacks of resolved promises have run, and those of streams: both come before immediates. */
function settlePromises(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}
