import { closeSync, openSync } from 'node:fs';
import { errorCode } from '../error-code.ts';

/** How often it looks, in milliseconds. */
const LOOK_MS = 1000;

/** Descriptors that are kept for bad times: each thread of ours may take one or two in the moment it is given up. */
const SPARES = 8;

/**
 * How many of them are free while there are no others: one for the next connection, which is turned away, and one
 * that libuv takes when it makes a handle of that and has lost its own spare.
 */
const GIVEN_UP = 2;

/** What can always be opened, and costs nothing. */
const NOTHING = '/dev/null';

/** What is told of the process' descriptors. */
export interface DescriptorReport {
  /** There are none, as of now or still: EMFILE where the process' limit is reached, ENFILE where the machine's is. */
  readonly out: (code: 'EMFILE' | 'ENFILE') => void;
  /** There are some again. */
  readonly back: () => void;
}

/**
 * Finds out that the process has no descriptor left, and sees that a listener can accept connections all the same, to
 * turn them away.
 *
 * libuv has one spare descriptor. Without any other it closes that, accepts and closes whoever is in the backlog, opens it
 * again, and tells nobody (uv__emfile_trick in its unix/stream.c). Where a thread has taken its place meanwhile, the spare
 * is lost until a handle for a socket is made. From then on nobody is accepted and nobody is told, and as the backlog is
 * never empty, the event loop spins.
 */
export class DescriptorWatch {
  readonly #report: DescriptorReport;
  #spares: number[] = [];
  #timer: NodeJS.Timeout | undefined;
  #isOut = false;

  constructor(report: DescriptorReport) {
    this.#report = report;
  }

  get isOut(): boolean {
    return this.#isOut;
  }

  /** Takes the spares, and looks after them from now on. `close` is due then. */
  start(): void {
    this.look();
    this.#timer = setInterval(() => this.look(), LOOK_MS);
  }

  /** Looks now. Takes all spares and one more; where that does not work, it leaves some to connections. */
  look(): void {
    const code = this.#take();
    const wasOut = this.#isOut;
    this.#isOut = code === 'EMFILE' || code === 'ENFILE';
    this.#spares = this.#spares.toSorted((one, other) => one - other);
    // When the limit has been lowered, the highest are beyond it and of no use to anybody.
    if (this.#isOut) this.#giveUp(0, GIVEN_UP);
    else this.#giveUp(SPARES, this.#spares.length);
    if (code === 'EMFILE' || code === 'ENFILE') this.#report.out(code);
    else if (wasOut) this.#report.back();
  }

  close(): void {
    clearInterval(this.#timer);
    this.#giveUp(0, this.#spares.length);
  }

  /** Returns why it could not take as many as it should; null when it could. */
  #take(): string | null {
    try {
      while (this.#spares.length <= SPARES) this.#spares.push(openSync(NOTHING, 'r'));
      return null;
    } catch (error) {
      return errorCode(error);
    }
  }

  #giveUp(first: number, count: number): void {
    for (const spare of this.#spares.splice(first, count)) closeSync(spare);
  }
}
