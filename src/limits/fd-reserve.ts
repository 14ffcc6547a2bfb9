import { closeSync, openSync } from 'node:fs';
import { errorCode } from '../process/error-code.ts';

/** How often it looks, in milliseconds. */
const CHECK_INTERVAL_MS = 1000;

/** Descriptors that are kept for bad times: each thread of ours may take one or two in the moment it is given up. */
const RESERVED_FDS = 8;

/**
 * How many of them are free while there are no others: one for the next connection, which is turned away, and one
 * that libuv takes when it makes a handle of that and has lost its own spare.
 */
const RELEASED_FDS = 2;

/** What can always be opened, and costs nothing. */
const NULL_DEVICE = '/dev/null';

/** What is told of the process' descriptors. */
export interface FdReserveEvents {
  /** There are none, as of now or still: EMFILE where the process' limit is reached, ENFILE where the machine's is. */
  readonly onExhausted: (code: 'EMFILE' | 'ENFILE') => void;
  /** There are some again. */
  readonly onRecovered: () => void;
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
export class FdReserve {
  readonly #events: FdReserveEvents;
  #reserved: number[] = [];
  #timer: NodeJS.Timeout | undefined;
  #isExhausted = false;

  constructor(report: FdReserveEvents) {
    this.#events = report;
  }

  get isExhausted(): boolean {
    return this.#isExhausted;
  }

  /** Takes the spares, and looks after them from now on. `close` is due then. */
  start(): void {
    this.check();
    this.#timer = setInterval(() => this.check(), CHECK_INTERVAL_MS);
  }

  /** Looks now. Takes all spares and one more; where that does not work, it leaves some to connections. */
  check(): void {
    const code = this.#fill();
    const wasOut = this.#isExhausted;
    this.#isExhausted = code === 'EMFILE' || code === 'ENFILE';
    this.#reserved = this.#reserved.toSorted((one, other) => one - other);
    // When the limit has been lowered, the highest are beyond it and of no use to anybody.
    if (this.#isExhausted) this.#closeReserved(0, RELEASED_FDS);
    else this.#closeReserved(RESERVED_FDS, this.#reserved.length);
    if (code === 'EMFILE' || code === 'ENFILE') this.#events.onExhausted(code);
    else if (wasOut) this.#events.onRecovered();
  }

  close(): void {
    clearInterval(this.#timer);
    this.#closeReserved(0, this.#reserved.length);
  }

  /** Returns why it could not take as many as it should; null when it could. */
  #fill(): string | null {
    try {
      while (this.#reserved.length <= RESERVED_FDS) this.#reserved.push(openSync(NULL_DEVICE, 'r'));
      return null;
    } catch (error) {
      return errorCode(error);
    }
  }

  #closeReserved(first: number, count: number): void {
    for (const spare of this.#reserved.splice(first, count)) closeSync(spare);
  }
}
