import { isatty } from 'node:tty';

/** Stop, stop (Ctrl-C), reload; SIGHUP means stop if the terminal of the process is gone. */
export type ProgramSignal = 'SIGTERM' | 'SIGINT' | 'SIGHUP';

const SIGNALS: readonly ProgramSignal[] = ['SIGTERM', 'SIGINT', 'SIGHUP'];

const STANDARD_STREAMS = [0, 1, 2] as const;

/**
 * The signals of a process, kept until the program can act on them.
 *
 * An entry makes one before it imports anything else. Loading the modules of a program takes some hundred milliseconds, and
 * a signal without a handler ends the process (or is ignored by the kernel where the process is PID 1).
 */
export class Signals {
  readonly #pending: ProgramSignal[] = [];
  /** Standard streams that were a terminal at the start. `nohup` leaves none. */
  readonly #terminals = STANDARD_STREAMS.filter((fd) => isatty(fd));
  #handle: (signal: ProgramSignal) => void = (signal) => this.#pending.push(signal);

  constructor() {
    for (const signal of SIGNALS) process.on(signal, () => this.#handle(signal));
  }

  /** True if the process was started in a terminal that has been closed since. The kernel sends SIGHUP after it has hung up the terminal. */
  get isTerminalClosed(): boolean {
    return this.#terminals.length > 0 && !this.#terminals.some((fd) => isatty(fd));
  }

  /** Calls `handle` for the signals that came before, in their order, and then for each one that comes. */
  deliverTo(handle: (signal: ProgramSignal) => void): void {
    this.#handle = handle;
    for (const signal of this.#pending.splice(0)) handle(signal);
  }
}
