/** Milliseconds in each unit a duration may have. */
const DURATION_UNITS: ReadonlyMap<string, number> = new Map([
  ['ms', 1],
  ['s', 1000],
  ['m', 60_000],
  ['min', 60_000],
  ['h', 3_600_000],
  ['d', 86_400_000],
]);

/** What an operator may write for a duration. */
export const DURATION_GRAMMAR = 'a duration like 500ms, 90s, 5m, 1h or 2d, up to 24d';

/** setTimeout takes no more: 2^31 - 1 milliseconds are 24.8 days. */
const MAX_DURATION_MS = 24 * 86_400_000;

/** Bytes in each unit a size may have. */
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

/** What an operator may write for a size. */
export const SIZE_GRAMMAR = 'a size like 500kB, 64MiB or 2GB';

/** Reads a size with its unit; a bare number is bytes. Returns bytes, or null for nonsense. */
export function parseSizeBytes(text: string): number | null {
  const [, number, unit] = /^(\d{1,15}(?:\.\d{1,6})?)\s*([A-Za-z]*)$/u.exec(text) ?? [];
  const factor = SIZE_UNITS.get(unit === '' ? 'B' : (unit ?? ''));
  if (number === undefined || factor === undefined) return null;
  const bytes = Math.round(Number(number) * factor);
  return Number.isSafeInteger(bytes) ? bytes : null;
}

/** Reads a duration with its unit; a bare number is seconds. Returns milliseconds, or null for nonsense. */
export function parseDurationMs(text: string): number | null {
  const [, number, unit] = /^(\d{1,12}(?:\.\d{1,6})?)\s*([a-z]*)$/u.exec(text) ?? [];
  const factor = DURATION_UNITS.get(unit === '' ? 's' : (unit ?? ''));
  if (number === undefined || factor === undefined) return null;
  const ms = Math.round(Number(number) * factor);
  return ms <= MAX_DURATION_MS ? ms : null;
}
