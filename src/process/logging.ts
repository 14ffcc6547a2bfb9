import { pino } from 'pino';
import type { Logger } from 'pino';
import type { LogLevel } from '../config/values.ts';
import type { LineWriter } from './line-writer.ts';

/** A log of JSON lines. It has no names of this host or process: whoever collects logs knows them. */
export function createLog(level: LogLevel, output: LineWriter): Logger {
  return pino(
    {
      level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
    },
    output,
  );
}

/** What may be logged of an error: where it happened and of which kind, but not its message, which may quote a client. */
export function errorDetails(error: unknown): { name: string; code: string; at: string[] } {
  if (!(error instanceof Error)) return { name: typeof error, code: '', at: [] };
  const code = 'code' in error && typeof error.code === 'string' ? error.code : '';
  // The message comes first there, and may have lines that look like places.
  const stack = error.stack ?? '';
  const start = stack.indexOf(error.message);
  const places = start < 0 ? stack : stack.slice(start + error.message.length);
  const at = places.split('\n').filter((line) => /^\s+at /u.test(line));
  return { name: error.name, code, at: at.slice(0, 8).map((line) => line.trim()) };
}

/** Says that something happened: at once, and then so often at most, with how many times it was. */
export class LogThrottle {
  readonly #intervalMs: number;
  readonly #clock: () => number;
  #loggedAt = Number.NEGATIVE_INFINITY;
  #count = 0;

  /** @param clock milliseconds of a clock that never jumps */
  constructor(intervalMs: number, clock: () => number) {
    this.#intervalMs = intervalMs;
    this.#clock = clock;
  }

  /** Calls `say` with the times since it was called last, this one included, unless that was just now. */
  log(say: (times: number) => void): void {
    this.#count += 1;
    const now = this.#clock();
    if (now - this.#loggedAt < this.#intervalMs) return;
    this.#loggedAt = now;
    const times = this.#count;
    this.#count = 0;
    say(times);
  }
}
