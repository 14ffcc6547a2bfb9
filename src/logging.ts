import { pino } from 'pino';
import type { Logger } from 'pino';
import type { LogLevel } from './config/config.ts';
import type { Output } from './output.ts';

/** A log of JSON lines. It has no names of this host or process: whoever collects logs knows them. */
export function createLog(level: LogLevel, output: Output): Logger {
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
export function faultOf(error: unknown): { name: string; code: string; at: string[] } {
  if (!(error instanceof Error)) return { name: typeof error, code: '', at: [] };
  const code = 'code' in error && typeof error.code === 'string' ? error.code : '';
  const at = (error.stack ?? '').split('\n').filter((line) => /^\s+at /u.test(line));
  return { name: error.name, code, at: at.slice(0, 8).map((line) => line.trim()) };
}
