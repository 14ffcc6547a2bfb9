import { pino } from 'pino';
import type { Logger } from 'pino';
import type { LogLevel } from '../config/values.ts';
import type { LineWriter } from './line-writer.ts';

/** A log of JSON lines. Host name and process id are left out, because log collectors add them. */
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
