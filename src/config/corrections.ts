/** What an operator probably meant with an invalid value. */
export interface Correction {
  /** Null: the corrected values say enough. */
  readonly problem: string | null;
  /** Corrected values. They may be invalid for another reason, for example too large. */
  readonly values: readonly string[];
}

const NONE: Correction = { problem: null, values: [] };

const NUMBER = String.raw`(\d{1,15}(?:\.\d{1,6})?)`;

/** k, M, G or T in any case, and the `i` of binary units. */
const PREFIX = '([kmgt])(i?)';

/** Larger numbers without a unit are probably bytes. */
const MAX_MEGABYTES = 100_000;

/** Corrects a size like `50`, `50mb`, `50M` or `64Mi`. */
export function correctSize(text: string): Correction {
  if (matches(NUMBER, text) !== null)
    return noUnit(Number(text) > MAX_MEGABYTES ? [`${text}B`] : [`${text}MB`, `${text}B`]);
  return written(canonicalSize(text));
}

/** Corrects a rate like `20`, `20MB`, `20 mb/s` or `100Mbps`. */
export function correctRate(text: string): Correction {
  const size = text.replace(/\s*(?:\/\s*s(?:ec(?:ond)?)?|ps)$/iu, '');
  if (matches(NUMBER, size) !== null) return noUnit([`${size}MB/s`, `${size}Mbit/s`]);
  const found = matches(`${NUMBER}\\s*${PREFIX}(b|bytes?|bits?)?`, size);
  const [, number = '', prefix = '', binary = '', unit = ''] = found ?? [];
  const bytes = `${number}${sizeUnit(prefix, binary)}/s`;
  const bits = `${number}${decimalPrefix(prefix)}bit/s`;
  if (found === null) return NONE;
  if (/^bits?$/iu.test(unit)) return written(bits);
  const isBytes = binary !== '' || /^bytes?$/iu.test(unit) || unit === 'B';
  return isBytes ? written(bytes) : { problem: 'it means bytes or bits', values: [bytes, bits] };
}

/** Corrects a quota like `5TB`, `5/month`, `5tb/month` or `5TB per month`. */
export function correctQuota(text: string): Correction {
  const [, size = '', period] = /^([^/]*?)\s*(?:(?:\/|\bper\b)\s*([a-z]+))?$/iu.exec(text) ?? [];
  const unit = canonicalPeriod(period ?? '');
  if (matches(NUMBER, size) !== null) return noUnit([`${size}GB/${unit ?? 'month'}`]);
  const canonical = canonicalSize(size);
  if (canonical === null) return NONE;
  if (period === undefined)
    return { problem: 'it has no period', values: [`${canonical}/month`, `${canonical}/day`] };
  return unit === null ? NONE : written(`${canonical}/${unit}`);
}

/** Corrects a number per time like `60` or `60/minute`. */
export function correctCountRate(text: string): Correction {
  const [, count = '', unit] = /^(\d{1,9})(?:\s*\/\s*([a-z]+))?$/iu.exec(text) ?? [];
  if (count === '') return NONE;
  if (unit === undefined)
    return { problem: 'it has no period', values: [`${count}/min`, `${count}/s`, `${count}/h`] };
  const known = canonicalTimeUnit(unit);
  return written(known === null ? null : `${count}/${known === 'm' ? 'min' : known}`);
}

/** Corrects a duration like `5 minutes`, `1H` or `1h30m`. */
export function correctDuration(text: string): Correction {
  const parts = [...text.matchAll(/(\d{1,6})\s*([a-z]+)\s*/giu)];
  if (parts.length === 0 || parts.map(([part]) => part).join('') !== text) return NONE;
  const units = parts.map(([, , unit = '']) => canonicalTimeUnit(unit));
  const last = units.at(-1) ?? 's';
  const seconds = parts.reduce((sum, [, number], index) => sum + Number(number) * secondsIn(units[index]), 0);
  return Number.isNaN(seconds) ? NONE : written(`${seconds / secondsIn(last)}${last}`);
}

/** Corrects a retention time like `400` or `2 weeks`. */
export function correctRetention(text: string): Correction {
  if (/^\d+$/u.test(text)) return noUnit([`${text}d`]);
  const [, number, unit = ''] = /^(\d{1,4})\s*([a-z]+?)s?$/iu.exec(text) ?? [];
  const days = LONG_UNITS.get(unit.toLowerCase());
  return written(days === undefined ? null : `${Number(number) * days}d`);
}

/** Corrects the log level of another program, like `warning` or `off`. */
export function correctLogLevel(text: string): Correction {
  return written(LOG_LEVELS.get(text.toLowerCase()) ?? null);
}

const LOG_LEVELS: ReadonlyMap<string, string> = new Map([
  ['verbose', 'debug'],
  ['notice', 'info'],
  ['warning', 'warn'],
  ['err', 'error'],
  ['critical', 'fatal'],
  ['none', 'silent'],
  ['off', 'silent'],
]);

/** Units of retention times, in days. */
const LONG_UNITS: ReadonlyMap<string, number> = new Map([
  ['d', 1],
  ['day', 1],
  ['w', 7],
  ['week', 7],
  ['month', 30],
  ['y', 365],
  ['year', 365],
]);

/** NaN if the unit is unknown. */
function secondsIn(unit: string | null | undefined): number {
  return { s: 1, m: 60, h: 3600, d: 86_400 }[unit ?? ''] ?? Number.NaN;
}

function canonicalTimeUnit(unit: string): string | null {
  if (/^s(?:ec(?:ond)?s?)?$/iu.test(unit)) return 's';
  if (/^m(?:in(?:ute)?s?)?$/iu.test(unit)) return 'm';
  if (/^h(?:(?:ou)?rs?)?$/iu.test(unit)) return 'h';
  return /^d(?:ays?)?$/iu.test(unit) ? 'd' : null;
}

function canonicalPeriod(period: string): string | null {
  if (/^mon(?:th(?:s|ly)?)?$/iu.test(period)) return 'month';
  return /^d(?:ays?|aily)?$/iu.test(period) ? 'day' : null;
}

/** Null if it is no size in any spelling. */
function canonicalSize(text: string): string | null {
  const found = matches(`${NUMBER}\\s*${PREFIX}(?:b|bytes?)?`, text);
  const [, number = '', prefix = '', binary = ''] = found ?? [];
  return found === null ? null : `${number}${sizeUnit(prefix, binary)}`;
}

function sizeUnit(prefix: string, binary: string): string {
  return binary === '' ? `${decimalPrefix(prefix)}B` : `${prefix.toUpperCase()}iB`;
}

function decimalPrefix(prefix: string): string {
  return prefix.toLowerCase() === 'k' ? 'k' : prefix.toUpperCase();
}

function noUnit(values: readonly string[]): Correction {
  return { problem: 'it has no unit', values };
}

function written(value: string | null): Correction {
  return value === null ? NONE : { problem: null, values: [value] };
}

function matches(pattern: string, text: string): RegExpExecArray | null {
  return new RegExp(`^${pattern}$`, 'iu').exec(text);
}
