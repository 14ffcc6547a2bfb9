/** Stop, stop (Ctrl-C), reload. */
export type ProgramSignal = 'SIGTERM' | 'SIGINT' | 'SIGHUP';

const SIGNALS: readonly ProgramSignal[] = ['SIGTERM', 'SIGINT', 'SIGHUP'];

/**
 * The signals of a process, kept until the program can act on them.
 *
 * An entry makes one before it imports anything else. Loading the modules of a program takes some hundred milliseconds, and
 * a signal without a handler ends the process (or is ignored by the kernel where the process is PID 1).
 */
export class Signals {
  readonly #early: ProgramSignal[] = [];
  #handle: (signal: ProgramSignal) => void = (signal) => this.#early.push(signal);

  constructor() {
    for (const signal of SIGNALS) process.on(signal, () => this.#handle(signal));
  }

  /** Calls `handle` for the signals that came before, in their order, and then for each one that comes. */
  deliverTo(handle: (signal: ProgramSignal) => void): void {
    this.#handle = handle;
    for (const signal of this.#early.splice(0)) handle(signal);
  }
}
