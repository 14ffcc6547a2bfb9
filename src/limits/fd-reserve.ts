import { closeSync, openSync } from 'node:fs';
import { errorCode } from '../process/errors.ts';

/** Time between two checks, in milliseconds. */
const CHECK_INTERVAL_MS = 1000;

/**
 * File descriptors in reserve. Each thread of the process may take one or two as soon as they are released.
 */
const RESERVED_FDS = 8;

/**
 * How many of them are released if there are no others: one for the next connection, which is rejected, and
 * one that libuv takes when it creates the handle of that connection and has lost its own spare.
 */
const RELEASED_FDS = 2;

/** Can always be opened and costs nothing. */
const NULL_DEVICE = '/dev/null';

interface FdReserveEvents {
  /** There are no file descriptors, now or still. EMFILE: limit of the process. ENFILE: limit of the host. */
  readonly onExhausted: (code: 'EMFILE' | 'ENFILE') => void;
  /** There are file descriptors again. */
  readonly onRecovered: () => void;
}

/**
 * Detects that the process has run out of file descriptors, and keeps some in reserve so that listeners can
 * still accept connections to reject them.
 *
 * libuv has one spare descriptor. If there is no other, it closes the spare, accepts and closes all
 * connections in the backlog, and reopens it, without reporting anything (uv__emfile_trick in its
 * unix/stream.c). If a thread takes the descriptor meanwhile, the spare is lost until a socket handle is
 * created. From then on no connection is accepted and nothing is reported, and because the backlog is never
 * empty, the event loop spins.
 */
export class FdReserve {
  readonly #events: FdReserveEvents;
  #reserved: number[] = [];
  #timer: NodeJS.Timeout | undefined;
  #isExhausted = false;

  constructor(events: FdReserveEvents) {
    this.#events = events;
  }

  get isExhausted(): boolean {
    return this.#isExhausted;
  }

  /** Opens the reserve and checks it from now on. Call `close` in the end. */
  start(): void {
    this.check();
    this.#timer = setInterval(() => this.check(), CHECK_INTERVAL_MS);
  }

  /** Tries to open the whole reserve and one more. If that fails, it releases some for connections. */
  check(): void {
    const code = this.#fill();
    const wasExhausted = this.#isExhausted;
    this.#isExhausted = code === 'EMFILE' || code === 'ENFILE';
    this.#reserved = this.#reserved.toSorted((one, other) => one - other);
    // If the limit was lowered, the highest descriptors are above it; releasing those would not help.
    if (this.#isExhausted) this.#closeReserved(0, RELEASED_FDS);
    else this.#closeReserved(RESERVED_FDS, this.#reserved.length);
    if (code === 'EMFILE' || code === 'ENFILE') this.#events.onExhausted(code);
    else if (wasExhausted) this.#events.onRecovered();
  }

  close(): void {
    clearInterval(this.#timer);
    this.#closeReserved(0, this.#reserved.length);
  }

  /** Returns the error code if it could not open all of them. */
  #fill(): string | null {
    try {
      while (this.#reserved.length <= RESERVED_FDS) this.#reserved.push(openSync(NULL_DEVICE, 'r'));
      return null;
    } catch (error) {
      return errorCode(error);
    }
  }

  #closeReserved(first: number, count: number): void {
    for (const fd of this.#reserved.splice(first, count)) closeSync(fd);
  }
}
