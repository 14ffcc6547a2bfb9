import { constants, fstatSync, openSync, readFileSync, readdirSync, readlinkSync, writeSync } from 'node:fs';
import { isatty } from 'node:tty';
import { pino } from 'pino';
import type { LogLevel } from '../config/values.ts';
import { StartupError, errorCode } from './errors.ts';
import type { ProblemEvent } from './problem-events.ts';
import { formatReadable } from './readable-log.ts';

/** The fields of a log line, in snake_case. */
interface LogFields {
  /** The stable name of the event, for searches and alerts. The message may change. */
  readonly event: string;
  readonly [field: string]: unknown;
}

interface ProblemFields extends LogFields {
  readonly event: ProblemEvent;
}

/** A log whose lines all have an event. */
export interface Log {
  debug(fields: LogFields, message: string): void;
  info(fields: LogFields, message: string): void;
  warn(fields: ProblemFields, message: string): void;
  error(fields: ProblemFields, message: string): void;
  fatal(fields: ProblemFields, message: string): void;
}

/**
 * A log of JSON lines, or of readable ones on a terminal. Host name and process id are left out, because log
 * collectors add them.
 */
export function createLog(level: LogLevel, output: LineWriter): Log {
  return pino(
    {
      level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
    },
    output.isTerminal ? { write: (line) => output.write(formatReadable(line)) } : output,
  );
}

/**
 * The details of an error that may be logged: kind and stack, but not the message, which may quote a client.
 */
export function errorDetails(error: unknown): { name: string; code: string; at: string[] } {
  if (!(error instanceof Error)) return { name: typeof error, code: '', at: [] };
  const code = 'code' in error && typeof error.code === 'string' ? error.code : '';
  // The stack starts with the message, which may have lines that look like stack frames.
  const stack = error.stack ?? '';
  const start = stack.indexOf(error.message);
  const frames = start < 0 ? stack : stack.slice(start + error.message.length);
  const at = frames.split('\n').filter((line) => /^\s+at /u.test(line));
  return { name: error.name, code, at: at.slice(0, 8).map((line) => line.trim()) };
}

/** Limits the rate of a log line, and counts the suppressed ones. */
export class LogThrottle {
  readonly #intervalMs: number;
  readonly #clock: () => number;
  #loggedAt = Number.NEGATIVE_INFINITY;
  #count = 0;

  /** @param clock milliseconds of a monotonic clock */
  constructor(intervalMs: number, clock: () => number) {
    this.#intervalMs = intervalMs;
    this.#clock = clock;
  }

  /** Calls `write` with the number of events since the last call, unless that was within the interval. */
  log(write: (times: number) => void): void {
    this.#count += 1;
    const now = this.#clock();
    if (now - this.#loggedAt < this.#intervalMs) return;
    this.#loggedAt = now;
    const times = this.#count;
    this.#count = 0;
    write(times);
  }
}

/** Bytes that may wait for a stuck reader. Further lines are dropped and counted. */
const MAX_BUFFERED_BYTES = 4 * 1024 * 1024;

/** Time to write the waiting lines when the process stops, in milliseconds. */
const CLOSE_TIMEOUT_MS = 1000;

interface LineWriterEvents {
  /** Lines can be written again. `count` lines were dropped since the last call. */
  readonly onDropped: (count: number) => void;
  /** No further line will be written, because of an error with this code. */
  readonly onBroken: (code: string) => void;
}

/**
 * Writes lines to a file descriptor. Writing never blocks and never throws, whatever happens to the other
 * end.
 */
export class LineWriter {
  /** True if people read the lines, not programs. */
  readonly isTerminal: boolean;
  readonly #stream: ReturnType<typeof pino.destination>;
  readonly #events: LineWriterEvents;
  #dropped = 0;
  /** Dropped lines that have been reported. */
  #reportedDropped = 0;
  #isBroken = false;
  #isAbandoned = false;

  /** @throws StartupError if the file descriptor is not open for writing */
  constructor(fd: number, events: LineWriterEvents) {
    this.#events = events;
    this.isTerminal = isatty(fd);
    this.#stream = pino.destination({
      fd: openForWriting(fd),
      sync: false,
      maxLength: MAX_BUFFERED_BYTES,
      retryEAGAIN: () => !this.#isAbandoned,
    });
    this.#stream.on('drop', () => {
      this.#dropped += 1;
      // A failed write is retried with the next accepted line. A full buffer accepts only an empty one.
      this.#stream.write('');
    });
    this.#stream.on('drain', () => this.#reportDropped());
    this.#stream.on('error', (error: NodeJS.ErrnoException) => {
      // A closed reader does not come back. After other errors, such as a full disk, the next line retries.
      this.#isBroken = error.code === 'EPIPE' || error.code === 'EBADF';
      if (this.#isBroken) events.onBroken(errorCode(error));
    });
  }

  /** Number of lost lines. */
  get dropped(): number {
    return this.#dropped;
  }

  write(line: string): void {
    if (this.#isBroken) this.#dropped += 1;
    else this.#stream.write(line);
  }

  /** Writes the waiting lines. Resolves when they are written, or after a second. */
  close(): Promise<void> {
    if (this.#isBroken) return Promise.resolve();
    this.#reportDropped();
    return new Promise((resolve) => {
      const timer = setTimeout(() => {
        this.#isAbandoned = true;
        resolve();
      }, CLOSE_TIMEOUT_MS);
      const done = (): void => {
        clearTimeout(timer);
        // Otherwise pino retries a failed write (closed terminal, full disk) forever when the process exits.
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
 * Reopens a pipe in non-blocking mode. A write to a full pipe would block a thread, and with it the exit of
 * the process, until the reader reads.
 */
function openForWriting(fd: number): number {
  try {
    const stat = fstatSync(fd);
    // Node.js has file descriptors of its own: epoll and eventfd, which are of no such kind, and pipes to
    // itself.
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
    // Without /proc, or with a pipe of another user. Writes may block a thread then, but not the event loop.
    return fd;
  }
}

/** True if the other end of a pipe is in this process too. False without /proc. */
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

/** The target of a file descriptor. Null if it was closed meanwhile, as the one of the listing itself. */
function linkTarget(fd: string): string | null {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`);
  } catch {
    return null;
  }
}
