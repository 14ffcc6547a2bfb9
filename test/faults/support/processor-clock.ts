import { openSync, readSync } from 'node:fs';

/**
 * Run delay of a thread: the time for which it was ready to run but had no processor, because other threads used
 * them. On a busy machine it is most of what a transfer takes, and it says nothing about the relay.
 */
class RunDelay {
  readonly #file: number | null;
  readonly #memory = Buffer.alloc(64);
  #ms = 0;

  /** @param thread a directory in /proc */
  constructor(thread: string) {
    this.#file = openOrNull(`/proc/${thread}/schedstat`);
  }

  /** Since the thread started, in milliseconds. The last value if the thread has ended. */
  ms(): number {
    if (this.#file === null) return 0;
    try {
      const length = readSync(this.#file, this.#memory, 0, this.#memory.length, 0);
      // Run time and run delay in nanoseconds, and a count.
      this.#ms = Number(this.#memory.toString('latin1', 0, length).split(' ')[1]) / 1e6;
    } catch {
      // The thread has ended.
    }
    return this.#ms;
  }
}

/** Null if the kernel does not count run delays. */
function openOrNull(path: string): number | null {
  try {
    return openSync(path, 'r');
  } catch {
    return null;
  }
}

/** A moment of a `ProcessorClock`. */
export interface Moment {
  readonly wallMs: number;
  readonly runDelaysMs: readonly number[];
}

/**
 * Measures time without the time for which the calling thread, or the main thread of the other process, waits for a
 * processor. So limits for what a relay may take do not depend on other programs on the machine.
 */
export class ProcessorClock {
  readonly #delays: readonly RunDelay[];

  /** @param pid a relay or sidecar. The clock belongs to the calling thread. */
  constructor(pid: number) {
    this.#delays = [new RunDelay('thread-self'), new RunDelay(String(pid))];
  }

  now(): Moment {
    return { wallMs: performance.now(), runDelaysMs: this.#delays.map((delay) => delay.ms()) };
  }

  /** Both threads may have waited at the same time, so only the longer wait is left out. */
  elapsedMs({ wallMs, runDelaysMs }: Moment): number {
    const waits = this.#delays.map((delay, index) => delay.ms() - (runDelaysMs[index] ?? 0));
    return performance.now() - wallMs - Math.max(...waits);
  }
}
