import { isatty } from 'node:tty';

/** Stop, stop (Ctrl-C), reload. SIGHUP means stop if the terminal of the process was closed. */
const SIGNALS = ['SIGTERM', 'SIGINT', 'SIGHUP'] as const;

export type ProgramSignal = (typeof SIGNALS)[number];

/**
 * Queues the signals of a process until the program can handle them.
 *
 * Entries create it before they import anything else. Loading the modules of a program takes a few hundred
 * milliseconds, and a signal without a handler ends the process (or is ignored by the kernel if the process
 * is PID 1).
 */
export class Signals {
  readonly #pending: ProgramSignal[] = [];
  /** Standard streams that were terminals at the start. None with `nohup`. */
  readonly #terminals = [0, 1, 2].filter((fd) => isatty(fd));
  #handle: (signal: ProgramSignal) => void = (signal) => this.#pending.push(signal);

  constructor() {
    for (const signal of SIGNALS) process.on(signal, () => this.#handle(signal));
  }

  /**
   * True if the process was started in a terminal that was closed since. The kernel hangs up the terminal
   * before it sends SIGHUP.
   */
  get isTerminalClosed(): boolean {
    return this.#terminals.length > 0 && !this.#terminals.some((fd) => isatty(fd));
  }

  /** Calls `handle` for the queued signals in order, and then for each new one. */
  deliverTo(handle: (signal: ProgramSignal) => void): void {
    this.#handle = handle;
    for (const signal of this.#pending.splice(0)) handle(signal);
  }
}
