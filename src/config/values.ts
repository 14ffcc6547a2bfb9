import { ENDPOINT_GRAMMAR, EndpointError, parseEndpoints } from '../net/endpoint.ts';
import type { Endpoint } from '../net/endpoint.ts';
import { LOG_LEVELS } from './config.ts';
import type { LogLevel } from './config.ts';
import { Refusal } from './environment.ts';
import { DURATION_GRAMMAR, SIZE_GRAMMAR, parseDurationMs, parseSizeBytes } from './units.ts';

/** What the values of several variables mean. Each throws a Refusal that says what would be right. */

export function toEndpoints(text: string): Endpoint[] {
  try {
    return parseEndpoints(text);
  } catch (error) {
    if (error instanceof EndpointError) throw new Refusal(ENDPOINT_GRAMMAR, error.message);
    throw error;
  }
}

export function toLogLevel(text: string): LogLevel {
  const level = LOG_LEVELS.find((known) => known === text.toLowerCase());
  if (level !== undefined) return level;
  throw new Refusal(`one of ${LOG_LEVELS.join(', ')}`);
}

export function toDurationMs(text: string): number {
  const ms = parseDurationMs(text);
  if (ms !== null) return ms;
  throw new Refusal(DURATION_GRAMMAR);
}

/** A limit: no time at all would let nobody in. */
export function toTimeoutMs(text: string): number {
  const ms = parseDurationMs(text);
  if (ms !== null && ms > 0) return ms;
  throw new Refusal(`${DURATION_GRAMMAR}; nothing for no limit`);
}

export function toSizeBytes(text: string): number {
  const bytes = parseSizeBytes(text);
  if (bytes !== null) return bytes;
  throw new Refusal(SIZE_GRAMMAR);
}
