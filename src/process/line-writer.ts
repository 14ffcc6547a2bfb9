import { constants, fstatSync, openSync, readFileSync, readdirSync, readlinkSync, writeSync } from 'node:fs';
import { pino } from 'pino';
import { errorCode } from './error-code.ts';
import { StartupError } from './startup-error.ts';

/** Bytes that may wait for a reader that is stuck; what comes then is dropped and counted. */
const MAX_BUFFERED_BYTES = 4 * 1024 * 1024;

/** Time for handing over what waits when the relay stops, in milliseconds. */
const CLOSE_TIMEOUT_MS = 1000;

/** What an output can't keep to itself. */
export interface LineWriterEvents {
  /** So many lines were dropped since this was told last, and now lines can be written again. */
  readonly onDropped: (count: number) => void;
  /** No line will be written any more, for this error's code. */
  readonly onBroken: (code: string) => void;
}

/** Lines to a file descriptor. Whatever happens to its other end, writing never waits and never throws. */
export class LineWriter {
  readonly #stream: ReturnType<typeof pino.destination>;
  readonly #events: LineWriterEvents;
  #dropped = 0;
  /** Of these, the ones that were told of. */
  #reportedDropped = 0;
  #isBroken = false;
  #isAbandoned = false;

  /** @throws StartupError when the descriptor is not open, or not for writing */
  constructor(fd: number, report: LineWriterEvents) {
    this.#events = report;
    this.#stream = pino.destination({
      fd: openForWriting(fd),
      sync: false,
      maxLength: MAX_BUFFERED_BYTES,
      retryEAGAIN: () => !this.#isAbandoned,
    });
    this.#stream.on('drop', () => {
      this.#dropped += 1;
      // A write that failed is tried again with the next line that is taken, and a full store takes none but this.
      this.#stream.write('');
    });
    this.#stream.on('drain', () => this.#reportDropped());
    this.#stream.on('error', (error: NodeJS.ErrnoException) => {
      // A reader that is gone does not come back. Anything else, a full disk say, is tried again with the next line.
      this.#isBroken = error.code === 'EPIPE' || error.code === 'EBADF';
      if (this.#isBroken) report.onBroken(errorCode(error));
    });
  }

  /** Lines that could not be written and never will be. */
  get dropped(): number {
    return this.#dropped;
  }

  write(line: string): void {
    if (this.#isBroken) this.#dropped += 1;
    else this.#stream.write(line);
  }

  /** Hands over what waits. Resolves when that is done or can't be done in a second. */
  close(): Promise<void> {
    if (this.#isBroken) return Promise.resolve();
    this.#reportDropped();
    return new Promise((resolve) => {
      const giveUp = setTimeout(() => {
        this.#isAbandoned = true;
        resolve();
      }, CLOSE_TIMEOUT_MS);
      const done = (): void => {
        clearTimeout(giveUp);
        // Otherwise pino retries the failed write, to a closed terminal or a full disk, forever when the process exits.
        this.#stream.destroy();
        resolve();
      };
      this.#stream.once('close', done);
      this.#stream.once('error', done);
      this.#stream.end();
    });
  }

  #reportDropped(): void {
    const count = this.#dropped - this.#reportedDropped;
    this.#reportedDropped = this.#dropped;
    if (count > 0) this.#events.onDropped(count);
  }
}

/**
 * A pipe is opened once more without blocking, since a write to a full one would hold a thread, and with it
 * the end of the process, for as long as its reader likes.
 */
function openForWriting(fd: number): number {
  try {
    const stat = fstatSync(fd);
    // Node has descriptors of its own: epoll and eventfd, which are none of these, and pipes to itself.
    if (!stat.isFile() && !stat.isFIFO() && !stat.isSocket() && !stat.isCharacterDevice())
      throw new Error('not inherited');
    writeSync(fd, '');
    if (!stat.isFIFO()) return fd;
    if (isReadByThisProcess(fd)) throw new Error('not inherited');
  } catch (error) {
    throw new StartupError(`file descriptor ${fd} is not open for writing`, { cause: error });
  }
  try {
    return openSync(`/proc/self/fd/${fd}`, constants.O_WRONLY | constants.O_NONBLOCK | constants.O_APPEND);
  } catch {
    // Without /proc, or with a pipe of another user: it blocks a thread then, but still not the event loop.
    return fd;
  }
}

/** True for a pipe whose other end is in this process too. False where there is no /proc to ask. */
function isReadByThisProcess(fd: number): boolean {
  const O_ACCMODE = 3;
  try {
    const pipe = readlinkSync(`/proc/self/fd/${fd}`);
    return readdirSync('/proc/self/fd').some((other) => {
      if (linkTarget(other) !== pipe) return false;
      const flags = /^flags:\s*(\d+)$/mu.exec(readFileSync(`/proc/self/fdinfo/${other}`, 'utf8'))?.[1] ?? '1';
      return (Number.parseInt(flags, 8) & O_ACCMODE) === constants.O_RDONLY;
    });
  } catch {
    return false;
  }
}

/** What a descriptor stands for; null when it was closed meanwhile, as the one of the listing itself is. */
function linkTarget(fd: string): string | null {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`);
  } catch {
    return null;
  }
}
