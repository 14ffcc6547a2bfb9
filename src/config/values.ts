import {
  correctCountRate,
  correctDuration,
  correctLogLevel,
  correctQuota,
  correctRate,
  correctRetention,
  correctSize,
} from './corrections.ts';
import type { Correction } from './corrections.ts';
import { ENDPOINT_GRAMMAR, EndpointError, parseEndpoints } from './endpoint.ts';
import type { BoundEndpoint, Endpoint } from './endpoint.ts';
import { InvalidValue } from './environment.ts';
import { CIDR_GRAMMAR, CidrError, parseCidrs } from './trusted-proxies.ts';

/** A parser for a variable. It throws an InvalidValue with the accepted form. */
type Parser<T> = (text: string) => T;

/**
 * @param parse returns null for an invalid text
 * @param correct what the operator probably meant with an invalid text
 */
export function parser<T>(
  accepted: string,
  parse: (text: string) => T | null,
  correct?: (text: string) => Correction,
): Parser<T> {
  return (text) => {
    const value = parse(text);
    if (value !== null) return value;
    const { problem = null, values = [] } = correct?.(text) ?? {};
    const valid = values.filter((one) => parse(one) !== null);
    const hint = valid.length === 0 ? null : `write ${valid.join(' or ')}`;
    throw new InvalidValue(accepted, [problem, hint].filter((part) => part !== null).join(': ') || null);
  };
}

/** @param parse throws an EndpointError or a CidrError for an invalid text */
function explainingParser<T>(accepted: string, parse: (text: string) => T): Parser<T> {
  return (text) => {
    try {
      return parse(text);
    } catch (error) {
      if (!(error instanceof EndpointError) && !(error instanceof CidrError)) throw error;
      throw new InvalidValue(accepted, error.message);
    }
  };
}

/** Parses a whole number from `min` to `max`, with no more digits than `max`. Returns null if invalid. */
export function parseWholeNumber(text: string, min: number, max: number): number | null {
  const number = /^\d+$/u.test(text) && text.length <= String(max).length ? Number(text) : Number.NaN;
  return number >= min && number <= max ? number : null;
}

/** A limit of 0 would reject all clients and is invalid; an empty variable means no limit. */
const NO_LIMIT_HINT = '; empty for no limit';

export const toEndpoints = explainingParser(ENDPOINT_GRAMMAR, parseEndpoints);

/** Endpoints of listeners for operators: without TLS, and with a known address, which health checks need. */
export const toInternalEndpoints = explainingParser(
  'endpoints like tcp:4003, 127.0.0.1:4003, [::1]:4003, unix:/run/status.sock:mode=660, separated by blanks or commas',
  (text) => parseEndpoints(text).map(requireInternal),
);

function requireInternal(endpoint: Endpoint): BoundEndpoint {
  if (endpoint.kind === 'systemd')
    throw new EndpointError('sockets from systemd are not supported here; use an address');
  if (endpoint.kind === 'tcp' && endpoint.tls !== null)
    throw new EndpointError('TLS is not supported here, only on listeners for clients');
  return endpoint;
}

export const toCidrs = explainingParser(CIDR_GRAMMAR, parseCidrs);

/** pino's levels; `silent` is off. */
const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const;

export type LogLevel = (typeof LOG_LEVELS)[number];

export const toLogLevel = parser(
  `one of ${LOG_LEVELS.join(', ')}`,
  (text) => LOG_LEVELS.find((level) => level === text.toLowerCase()) ?? null,
  correctLogLevel,
);

const MAX_COUNT = 999_999_999;
const COUNT_GRAMMAR = `a whole number from 1 to ${MAX_COUNT}${NO_LIMIT_HINT}`;

/** A maximum number. */
export const toCount = parser(COUNT_GRAMMAR, (text) => parseWholeNumber(text, 1, MAX_COUNT));

export const toCountOrAuto = parser(`auto, or ${COUNT_GRAMMAR}`, (text) =>
  text.toLowerCase() === 'auto' ? 'auto' : parseWholeNumber(text, 1, MAX_COUNT),
);

/** In shorter months, 31 is the last day. */
export const toDayOfMonth = parser(
  'a day of the month from 1 to 31; in shorter months, the last day is used',
  (text) => parseWholeNumber(text, 1, 31),
);

/** Units of durations, in milliseconds. */
const DURATION_UNITS: ReadonlyMap<string, number> = new Map([
  ['ms', 1],
  ['s', 1000],
  ['m', 60_000],
  ['min', 60_000],
  ['h', 3_600_000],
  ['d', 86_400_000],
]);

/** The maximum of setTimeout is 2^31 - 1 milliseconds, which is 24.8 days. */
const MAX_DURATION_MS = 24 * 86_400_000;

export const DURATION_GRAMMAR =
  'a duration like 500ms, 90s, 5m, 1h or 2d, up to 24d; a number alone is in seconds';

/**
 * Parses a duration; a number without a unit is in seconds. Returns milliseconds, or null if invalid.
 *
 * @param maxMs the maximum; the default is that of timers
 */
export function parseDurationMs(text: string, maxMs = MAX_DURATION_MS): number | null {
  const [, number, unit] = /^(\d{1,12}(?:\.\d{1,6})?)\s*([a-z]*)$/u.exec(text) ?? [];
  const factor = DURATION_UNITS.get(unit === '' ? 's' : (unit ?? ''));
  if (number === undefined || factor === undefined) return null;
  const ms = Math.round(Number(number) * factor);
  return ms <= maxMs ? ms : null;
}

export const toDurationMs = parser(DURATION_GRAMMAR, (text) => parseDurationMs(text), correctDuration);

/** A timeout of 0 is invalid: it would reject all clients. */
export const toTimeoutMs = parser(
  DURATION_GRAMMAR + NO_LIMIT_HINT,
  (text) => nullIfZero(parseDurationMs(text)),
  correctDuration,
);

const MAX_BLUR_SECONDS = 999_999_999;

/** Whole seconds, because records have them. 0 means exact records. */
export const toBlurSeconds = parser(
  `a duration of whole seconds like 1h or 3600, up to ${MAX_BLUR_SECONDS}; 0 for exact records`,
  (text) => {
    const seconds = (parseDurationMs(text, MAX_BLUR_SECONDS * 1000) ?? Number.NaN) / 1000;
    return Number.isInteger(seconds) ? seconds : null;
  },
  correctDuration,
);

function nullIfZero(number: number | null): number | null {
  return number === 0 ? null : number;
}

const MIN_RETENTION_MS = 3_600_000;
const MAX_RETENTION_MS = 36_500 * 86_400_000;

/** A retention time, which may be longer than any timer. */
export const toRetentionMs = parser(
  'a number of days or hours like 400d or 72h, from 1h to 36500d; empty to keep all records',
  (text) => {
    const [, number, unit = ''] = /^(\d{1,6})\s*([dh])$/u.exec(text) ?? [];
    const ms = Number(number) * (DURATION_UNITS.get(unit) ?? Number.NaN);
    return ms >= MIN_RETENTION_MS && ms <= MAX_RETENTION_MS ? ms : null;
  },
  correctRetention,
);

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

export const SIZE_GRAMMAR = 'a size like 500kB, 64MiB or 2GB';

/** Parses a size. Only 0 needs no unit. Returns bytes, or null if invalid. */
export function parseSizeBytes(text: string): number | null {
  if (text === '0') return 0;
  const [, number, unit] = /^(\d{1,15}(?:\.\d{1,6})?)\s*([A-Za-z]+)$/u.exec(text) ?? [];
  const factor = SIZE_UNITS.get(unit ?? '');
  if (number === undefined || factor === undefined) return null;
  const bytes = Math.round(Number(number) * factor);
  return Number.isSafeInteger(bytes) ? bytes : null;
}

export const toSizeBytes = parser(SIZE_GRAMMAR, parseSizeBytes, correctSize);

/** A limit, in bytes. */
export const toPositiveSizeBytes = parser(
  `${SIZE_GRAMMAR}, above 0${NO_LIMIT_HINT}`,
  (text) => nullIfZero(parseSizeBytes(text)),
  correctSize,
);

/** Units of network rates, in bits per second. They are always decimal. */
const BIT_UNITS: ReadonlyMap<string, number> = new Map([
  ['bit', 1],
  ['kbit', 1e3],
  ['Mbit', 1e6],
  ['Gbit', 1e9],
]);

export const RATE_GRAMMAR = 'a rate like 500KiB/s, 20MB/s, 100Mbit/s or 1Gbit/s, above 0';

/** Parses a rate in bytes or bits. Returns whole bytes per second, at least 1, or null if invalid. */
export function parseRateBytesPerSecond(text: string): number | null {
  const [, size, number, unit] = /^((\d{1,15}(?:\.\d{1,6})?)\s*([A-Za-z]+))\/s$/u.exec(text) ?? [];
  if (size === undefined) return null;
  const bits = BIT_UNITS.get(unit ?? '');
  const bytes = bits === undefined ? parseSizeBytes(size) : Math.round((Number(number) * bits) / 8);
  return bytes !== null && bytes > 0 && Number.isSafeInteger(bytes) ? bytes : null;
}

export const toRateBytesPerSecond = parser(
  RATE_GRAMMAR + NO_LIMIT_HINT,
  parseRateBytesPerSecond,
  correctRate,
);

/** At most `count` in any time of `perMs`. */
export interface CountRate {
  /** A whole number from 1. */
  readonly count: number;
  readonly perMs: number;
}

/** Periods of count rates, in milliseconds. */
const COUNT_RATE_UNITS: ReadonlyMap<string, number> = new Map([
  ['s', 1000],
  ['min', 60_000],
  ['h', 3_600_000],
]);

export const COUNT_RATE_GRAMMAR = 'a whole number per s, min or h, like 5/s, 60/min or 1000/h, from 1';

/** Parses a count rate. Returns null if it is invalid or 0. */
export function parseCountRate(text: string): CountRate | null {
  const [, number, unit] = /^(\d{1,9})\s*\/\s*([a-z]+)$/u.exec(text) ?? [];
  const perMs = COUNT_RATE_UNITS.get(unit ?? '');
  const count = Number(number);
  return perMs !== undefined && count > 0 ? { count, perMs } : null;
}

export const toCountRate = parser(COUNT_RATE_GRAMMAR + NO_LIMIT_HINT, parseCountRate, correctCountRate);

/** Bytes per calendar period. */
interface QuotaSize {
  /** From 1. */
  readonly bytes: number;
  readonly period: 'month' | 'day';
}

export const QUOTA_GRAMMAR = 'a size per day or month like 100GB/day or 5TB/month, above 0';

/** Parses a size per day or month. Returns null if it is invalid or 0. */
export function parseQuota(text: string): QuotaSize | null {
  const [, size = '', period] = /^([^/]+?)\s*\/\s*(day|month)$/u.exec(text) ?? [];
  const bytes = nullIfZero(parseSizeBytes(size));
  return bytes === null ? null : { bytes, period: period === 'day' ? 'day' : 'month' };
}

export const toQuota = parser(QUOTA_GRAMMAR + NO_LIMIT_HINT, parseQuota, correctQuota);
