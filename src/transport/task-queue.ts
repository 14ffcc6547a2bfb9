/**
 * Time per event loop tick for deferred tasks, in milliseconds. Too short for clients to notice, and long
 * enough to close about 100 connections.
 */
const SLICE_MS = 4;

/** Time per tick that one call of `forEach` takes, in milliseconds. */
const FOR_EACH_SLICE_MS = 1;

/**
 * Tasks that run immediately in one tick. Further ones are deferred, because there may be thousands of them.
 */
const MAX_IMMEDIATE_TASKS = 32;

/**
 * Runs tasks in slices, so that an event that concerns thousands of connections at once does not block the
 * event loop. Tasks run in the order in which they were added. A task itself has to be short: one connection,
 * or a few frames.
 */
export class TaskQueue {
  #tasks: (() => void)[] = [];
  /** Index of the first task that has not run. */
  #next = 0;
  #immediateCount = 0;
  #isScheduled = false;

  /** True while tasks are queued. */
  get isBusy(): boolean {
    return this.#next < this.#tasks.length;
  }

  /** Runs `task` immediately if few tasks have run in this tick, otherwise as `defer` does. */
  runOrDefer(task: () => void): void {
    if (this.isBusy || this.#immediateCount >= MAX_IMMEDIATE_TASKS) {
      this.defer(task);
      return;
    }
    this.#immediateCount += 1;
    this.#schedule();
    task();
  }

  /** Runs `task` at the end of this tick or in a later one. */
  defer(task: () => void): void {
    this.#tasks.push(task);
    this.#schedule();
  }

  /**
   * Calls `action` for each item, in slices; the first slice runs immediately. Resolves after the last one.
   */
  forEach<Item extends object>(items: readonly Item[], action: (item: Item) => void): Promise<void> {
    return new Promise((resolve) => {
      const step = (from: number): void => {
        const end = performance.now() + FOR_EACH_SLICE_MS;
        for (let next = from; next < items.length; next += 1) {
          if (next > from && performance.now() >= end) {
            this.defer(() => step(next));
            return;
          }
          const item = items[next];
          if (item !== undefined) action(item);
        }
        resolve();
      };
      step(0);
    });
  }

  #schedule(): void {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    setImmediate(() => this.#runSlice());
  }

  #runSlice(): void {
    this.#isScheduled = false;
    this.#immediateCount = 0;
    const end = performance.now() + SLICE_MS;
    while (this.isBusy && performance.now() < end) {
      const task = this.#tasks[this.#next];
      this.#next += 1;
      task?.();
    }
    this.#compact();
    if (this.isBusy) this.#schedule();
  }

  /** Removes finished tasks, once the remaining ones, which have to be moved, are no more than half. */
  #compact(): void {
    if (this.#next < this.#tasks.length / 2) return;
    this.#tasks = this.#tasks.slice(this.#next);
    this.#next = 0;
  }
}
