import { ENDPOINT_GRAMMAR, EndpointError, parseEndpoints } from '../net/endpoint.ts';
import type { Endpoint } from '../net/endpoint.ts';
import { CIDR_GRAMMAR, CidrError, parseCidrs } from '../net/trusted-proxies.ts';
import type { Cidr } from '../net/trusted-proxies.ts';
import { LOG_LEVELS } from './config.ts';
import type { LogLevel } from './config.ts';
import { Refusal } from './environment.ts';
import {
  COUNT_RATE_GRAMMAR,
  DURATION_GRAMMAR,
  QUOTA_GRAMMAR,
  RATE_GRAMMAR,
  RETENTION_GRAMMAR,
  SIZE_GRAMMAR,
  parseCountRate,
  parseDurationMs,
  parseQuota,
  parseRateBytesPerSecond,
  parseRetentionMs,
  parseSizeBytes,
} from './units.ts';
import type { CountRate, QuotaSize } from './units.ts';

/** A limit of zero would let nobody in, and is refused; a variable that is set to nothing is off. */
const OR_NO_LIMIT = '; nothing for no limit';

/** What the values of several variables mean. Each throws a Refusal that says what would be right. */

export function toEndpoints(text: string): Endpoint[] {
  try {
    return parseEndpoints(text);
  } catch (error) {
    if (error instanceof EndpointError) throw new Refusal(ENDPOINT_GRAMMAR, error.message);
    throw error;
  }
}

export function toCidrs(text: string): Cidr[] {
  try {
    return parseCidrs(text);
  } catch (error) {
    if (error instanceof CidrError) throw new Refusal(CIDR_GRAMMAR, error.message);
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

export function toRetentionMs(text: string): number {
  const ms = parseRetentionMs(text);
  if (ms !== null) return ms;
  throw new Refusal(`${RETENTION_GRAMMAR}; nothing to keep all`);
}

/** A limit: no time at all would let nobody in. */
export function toTimeoutMs(text: string): number {
  const ms = parseDurationMs(text);
  if (ms !== null && ms > 0) return ms;
  throw new Refusal(DURATION_GRAMMAR + OR_NO_LIMIT);
}

export function toSizeBytes(text: string): number {
  const bytes = parseSizeBytes(text);
  if (bytes !== null) return bytes;
  throw new Refusal(SIZE_GRAMMAR);
}

/** A limit, in bytes. */
export function toPositiveSize(text: string): number {
  const bytes = parseSizeBytes(text);
  if (bytes !== null && bytes > 0) return bytes;
  throw new Refusal(`${SIZE_GRAMMAR}, above 0${OR_NO_LIMIT}`);
}

/** A limit, in bytes per second. */
export function toRate(text: string): number {
  const bytesPerSecond = parseRateBytesPerSecond(text);
  if (bytesPerSecond !== null) return bytesPerSecond;
  throw new Refusal(RATE_GRAMMAR + OR_NO_LIMIT);
}

export function toCountRate(text: string): CountRate {
  const rate = parseCountRate(text);
  if (rate !== null) return rate;
  throw new Refusal(COUNT_RATE_GRAMMAR + OR_NO_LIMIT);
}

export function toQuota(text: string): QuotaSize {
  const quota = parseQuota(text);
  if (quota !== null) return quota;
  throw new Refusal(QUOTA_GRAMMAR + OR_NO_LIMIT);
}

/** A limit of how many there may be at once. */
export function toCount(text: string): number {
  const count = Number(text);
  if (/^\d{1,9}$/u.test(text) && count > 0) return count;
  throw new Refusal(`a whole number from 1 to 999999999${OR_NO_LIMIT}`);
}

/** 31 is the last day of a shorter month too. */
export function toDayOfMonth(text: string): number {
  const day = Number(text);
  if (/^\d{1,2}$/u.test(text) && day >= 1 && day <= 31) return day;
  throw new Refusal('a day of the month from 1 to 31; in a month that is shorter, its last day');
}
