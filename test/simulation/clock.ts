/**
 * Time that advances from event to event. Events of the same time run in the order in which they were
 * scheduled.
 */
export class Clock {
  #nowMs = 0;
  #scheduled = 0;
  /** A binary heap: no event is later than its children at 2i+1 and 2i+2. */
  readonly #heap: { readonly atMs: number; readonly order: number; readonly run: () => void }[] = [];

  /** Time since the start, in milliseconds. */
  get nowMs(): number {
    return this.#nowMs;
  }

  /** Schedules an event `delayMs` from now. */
  after(delayMs: number, run: () => void): void {
    const heap = this.#heap;
    const event = { atMs: this.#nowMs + Math.max(0, delayMs), order: this.#scheduled, run };
    this.#scheduled += 1;
    let at = heap.push(event) - 1;
    while (at > 0) {
      const parentAt = (at - 1) >> 1;
      const parent = heap[parentAt];
      if (parent === undefined || !isEarlier(event, parent)) break;
      heap[at] = parent;
      at = parentAt;
    }
    heap[at] = event;
  }

  /** Runs all events until `endMs`. */
  runUntil(endMs: number): void {
    for (;;) {
      const next = this.#heap[0];
      if (next === undefined || next.atMs > endMs) break;
      this.#removeFirst();
      this.#nowMs = next.atMs;
      next.run();
    }
    this.#nowMs = endMs;
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
      if (right !== undefined && isEarlier(right, left)) childAt += 1;
      const child = heap[childAt];
      if (child === undefined || !isEarlier(child, last)) break;
      heap[at] = child;
      at = childAt;
    }
    heap[at] = last;
  }
}

interface Ordered {
  readonly atMs: number;
  readonly order: number;
}

function isEarlier(one: Ordered, other: Ordered): boolean {
  return one.atMs < other.atMs || (one.atMs === other.atMs && one.order < other.order);
}
