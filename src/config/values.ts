import { ENDPOINT_GRAMMAR, EndpointError, parseEndpoints } from './endpoint.ts';
import type { BoundEndpoint, Endpoint } from './endpoint.ts';
import { InvalidValue } from './environment.ts';
import { CIDR_GRAMMAR, CidrError, parseCidrs } from './trusted-proxies.ts';
import type { Cidr } from './trusted-proxies.ts';

/** pino's levels; `silent` is off. */
export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const;

export type LogLevel = (typeof LOG_LEVELS)[number];

/** Units of durations, in milliseconds. */
const DURATION_UNITS: ReadonlyMap<string, number> = new Map([
  ['ms', 1],
  ['s', 1000],
  ['m', 60_000],
  ['min', 60_000],
  ['h', 3_600_000],
  ['d', 86_400_000],
]);

/** Accepted durations. */
export const DURATION_GRAMMAR = 'a duration like 500ms, 90s, 5m, 1h or 2d, up to 24d';

/** The maximum of setTimeout is 2^31 - 1 milliseconds, which is 24.8 days. */
const MAX_DURATION_MS = 24 * 86_400_000;

/** Accepted retention times. */
export const RETENTION_GRAMMAR = 'a number of days or hours like 400d or 72h, from 1h to 36500d';

const MIN_RETENTION_MS = 3_600_000;
const MAX_RETENTION_MS = 36_500 * 86_400_000;

/** Units of sizes, in bytes. */
const SIZE_UNITS: ReadonlyMap<string, number> = new Map([
  ['B', 1],
  ['kB', 1e3],
  ['MB', 1e6],
  ['GB', 1e9],
  ['TB', 1e12],
  ['KiB', 2 ** 10],
  ['MiB', 2 ** 20],
  ['GiB', 2 ** 30],
  ['TiB', 2 ** 40],
]);

/** Units of network rates, in bits per second. They are always decimal. */
const BIT_UNITS: ReadonlyMap<string, number> = new Map([
  ['bit', 1],
  ['kbit', 1e3],
  ['Mbit', 1e6],
  ['Gbit', 1e9],
]);

/** Periods of count rates, in milliseconds. */
const COUNT_RATE_UNITS: ReadonlyMap<string, number> = new Map([
  ['s', 1000],
  ['min', 60_000],
  ['h', 3_600_000],
]);

/** Accepted sizes. */
export const SIZE_GRAMMAR = 'a size like 500kB, 64MiB or 2GB';

/** Accepted byte rates. */
export const RATE_GRAMMAR = 'a rate like 500KiB/s, 20MB/s, 100Mbit/s or 1Gbit/s, above 0';

/** Accepted count rates. */
export const COUNT_RATE_GRAMMAR = 'a whole number per s, min or h, like 5/s, 60/min or 1000/h, from 1';

/** Accepted quotas. */
export const QUOTA_GRAMMAR = 'a size per day or month like 100GB/day or 5TB/month, above 0';

/** At most `count` in any time of `perMs`. */
export interface CountRate {
  /** A whole number from 1. */
  readonly count: number;
  readonly perMs: number;
}

/** Bytes per calendar period. */
export interface QuotaSize {
  /** From 1. */
  readonly bytes: number;
  readonly period: 'month' | 'day';
}

/** Parses a size; a number without a unit is in bytes. Returns bytes, or null if invalid. */
export function parseSizeBytes(text: string): number | null {
  const [, number, unit] = /^(\d{1,15}(?:\.\d{1,6})?)\s*([A-Za-z]*)$/u.exec(text) ?? [];
  const factor = SIZE_UNITS.get(unit === '' ? 'B' : (unit ?? ''));
  if (number === undefined || factor === undefined) return null;
  const bytes = Math.round(Number(number) * factor);
  return Number.isSafeInteger(bytes) ? bytes : null;
}

/** Parses a duration; a number without a unit is in seconds. Returns milliseconds, or null if invalid. */
export function parseDurationMs(text: string): number | null {
  const [, number, unit] = /^(\d{1,12}(?:\.\d{1,6})?)\s*([a-z]*)$/u.exec(text) ?? [];
  const factor = DURATION_UNITS.get(unit === '' ? 's' : (unit ?? ''));
  if (number === undefined || factor === undefined) return null;
  const ms = Math.round(Number(number) * factor);
  return ms <= MAX_DURATION_MS ? ms : null;
}

/** Parses a retention time, which may be longer than any timer. Returns milliseconds, or null if invalid. */
export function parseRetentionMs(text: string): number | null {
  const [, number, unit = ''] = /^(\d{1,6})\s*([dh])$/u.exec(text) ?? [];
  if (number === undefined) return null;
  const ms = Number(number) * (DURATION_UNITS.get(unit) ?? Number.NaN);
  return ms >= MIN_RETENTION_MS && ms <= MAX_RETENTION_MS ? ms : null;
}

/** Parses a rate in bytes or bits. Returns whole bytes per second, at least 1, or null if invalid. */
export function parseRateBytesPerSecond(text: string): number | null {
  const [, size, number, unit] = /^((\d{1,15}(?:\.\d{1,6})?)\s*([A-Za-z]+))\/s$/u.exec(text) ?? [];
  if (size === undefined) return null;
  const bits = BIT_UNITS.get(unit ?? '');
  const bytes = bits === undefined ? parseSizeBytes(size) : Math.round((Number(number) * bits) / 8);
  return bytes !== null && bytes > 0 && Number.isSafeInteger(bytes) ? bytes : null;
}

/** Parses a count rate. Returns null if it is invalid or 0. */
export function parseCountRate(text: string): CountRate | null {
  const [, number, unit] = /^(\d{1,9})\s*\/\s*([a-z]+)$/u.exec(text) ?? [];
  const perMs = COUNT_RATE_UNITS.get(unit ?? '');
  const count = Number(number);
  return perMs !== undefined && count > 0 ? { count, perMs } : null;
}

/** Parses a size per day or month; the default is per month. Returns null if it is invalid or 0. */
export function parseQuota(text: string): QuotaSize | null {
  const [, size, period] = /^([^/]+?)(?:\s*\/\s*(day|month))?$/u.exec(text) ?? [];
  const bytes = size === undefined ? null : parseSizeBytes(size);
  if (bytes === null || bytes === 0) return null;
  return { bytes, period: period === 'day' ? 'day' : 'month' };
}

/** A limit of 0 would reject all clients and is invalid; an empty variable means no limit. */
const NO_LIMIT_HINT = '; empty for no limit';

// The following parsers throw an InvalidValue with the accepted form.

export function toEndpoints(text: string): Endpoint[] {
  try {
    return parseEndpoints(text);
  } catch (error) {
    if (error instanceof EndpointError) throw new InvalidValue(ENDPOINT_GRAMMAR, error.message);
    throw error;
  }
}

export function toCidrs(text: string): Cidr[] {
  try {
    return parseCidrs(text);
  } catch (error) {
    if (error instanceof CidrError) throw new InvalidValue(CIDR_GRAMMAR, error.message);
    throw error;
  }
}

export function toLogLevel(text: string): LogLevel {
  const level = LOG_LEVELS.find((known) => known === text.toLowerCase());
  if (level !== undefined) return level;
  throw new InvalidValue(`one of ${LOG_LEVELS.join(', ')}`);
}

export function toDurationMs(text: string): number {
  const ms = parseDurationMs(text);
  if (ms !== null) return ms;
  throw new InvalidValue(DURATION_GRAMMAR);
}

export function toRetentionMs(text: string): number {
  const ms = parseRetentionMs(text);
  if (ms !== null) return ms;
  throw new InvalidValue(`${RETENTION_GRAMMAR}; empty to keep all records`);
}

/** A timeout of 0 is invalid: it would reject all clients. */
export function toTimeoutMs(text: string): number {
  const ms = parseDurationMs(text);
  if (ms !== null && ms > 0) return ms;
  throw new InvalidValue(DURATION_GRAMMAR + NO_LIMIT_HINT);
}

export function toSizeBytes(text: string): number {
  const bytes = parseSizeBytes(text);
  if (bytes !== null) return bytes;
  throw new InvalidValue(SIZE_GRAMMAR);
}

/** A limit, in bytes. */
export function toPositiveSizeBytes(text: string): number {
  const bytes = parseSizeBytes(text);
  if (bytes !== null && bytes > 0) return bytes;
  throw new InvalidValue(`${SIZE_GRAMMAR}, above 0${NO_LIMIT_HINT}`);
}

/** A limit, in bytes per second. */
export function toRateBytesPerSecond(text: string): number {
  const bytesPerSecond = parseRateBytesPerSecond(text);
  if (bytesPerSecond !== null) return bytesPerSecond;
  throw new InvalidValue(RATE_GRAMMAR + NO_LIMIT_HINT);
}

export function toCountRate(text: string): CountRate {
  const rate = parseCountRate(text);
  if (rate !== null) return rate;
  throw new InvalidValue(COUNT_RATE_GRAMMAR + NO_LIMIT_HINT);
}

export function toQuota(text: string): QuotaSize {
  const quota = parseQuota(text);
  if (quota !== null) return quota;
  throw new InvalidValue(QUOTA_GRAMMAR + NO_LIMIT_HINT);
}

/** A maximum number. */
export function toCount(text: string): number {
  const count = Number(text);
  if (/^\d{1,9}$/u.test(text) && count > 0) return count;
  throw new InvalidValue(`a whole number from 1 to 999999999${NO_LIMIT_HINT}`);
}

/** In shorter months, 31 is the last day. */
export function toDayOfMonth(text: string): number {
  const day = Number(text);
  if (/^\d{1,2}$/u.test(text) && day >= 1 && day <= 31) return day;
  throw new InvalidValue('a day of the month from 1 to 31; in shorter months, the last day is used');
}

const INTERNAL_ENDPOINT_GRAMMAR =
  'endpoints like tcp:4003, tcp:4003:interface=127.0.0.1, tcp:4003:interface=\\:\\:1, ' +
  'unix:/run/status.sock:mode=660, separated by blanks';

/** Endpoints of listeners for operators: without TLS, and with a known address, which health checks need. */
export function toInternalEndpoints(text: string): BoundEndpoint[] {
  return parseInternalEndpoints(text).map((endpoint) => {
    if (endpoint.kind === 'systemd')
      throw new InvalidValue(
        INTERNAL_ENDPOINT_GRAMMAR,
        'sockets from systemd are not supported here; use an address',
      );
    if (endpoint.kind === 'tcp' && endpoint.tls !== null)
      throw new InvalidValue(
        INTERNAL_ENDPOINT_GRAMMAR,
        'TLS is not supported here, only on listeners for clients',
      );
    return endpoint;
  });
}

function parseInternalEndpoints(text: string): Endpoint[] {
  try {
    return parseEndpoints(text);
  } catch (error) {
    if (error instanceof EndpointError) throw new InvalidValue(INTERNAL_ENDPOINT_GRAMMAR, error.message);
    throw error;
  }
}
