/** Keeps a number and its unit on one line. */
const NO_BREAK_SPACE = '\u00a0';

/** Shown instead of an unknown number. */
export const PLACEHOLDER = '–';

/** Decimal, like the usage records: 1 kB is 1,000 bytes. */
const BYTE_UNITS = ['B', 'kB', 'MB', 'GB', 'TB', 'PB', 'EB'] as const;

const MINUTE_S = 60;
const HOUR_S = 60 * MINUTE_S;
const DAY_S = 24 * HOUR_S;

const WHOLE = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const UP_TO_THREE_DIGITS = new Intl.NumberFormat('en', { maximumSignificantDigits: 3, useGrouping: false });
const THREE_DIGITS = new Intl.NumberFormat('en', {
  minimumSignificantDigits: 3,
  maximumSignificantDigits: 3,
  useGrouping: false,
});
const COMPACT = new Intl.NumberFormat('en', { notation: 'compact', maximumSignificantDigits: 3 });

const CLOCK = new Intl.DateTimeFormat('en-GB', { timeZone: 'UTC', timeStyle: 'medium' });
const DATE_TIME = new Intl.DateTimeFormat('en-GB', {
  timeZone: 'UTC',
  day: 'numeric',
  month: 'short',
  year: 'numeric',
  hour: '2-digit',
  minute: '2-digit',
});

const DATE = new Intl.DateTimeFormat('en-GB', { timeZone: 'UTC', day: 'numeric', month: 'long' });
const MINUTE = new Intl.DateTimeFormat('en-GB', { timeZone: 'UTC', timeStyle: 'short' });

/** A number and its unit, so that the page can show the unit smaller. */
export interface ValueWithUnit {
  readonly number: string;
  readonly unit: string;
}

/** All digits, with commas: `1,234,567`. */
export function formatCount(count: number): string {
  return WHOLE.format(count);
}

/** A count with its noun: `1 client`, `1,234 clients`. */
export function formatCounted(count: number, singular: string, plural = `${singular}s`): string {
  return `${formatCount(count)} ${count === 1 ? singular : plural}`;
}

/** Short enough for an axis: `1.2K`. */
export function formatCompact(count: number): string {
  return COMPACT.format(count);
}

/** Up to three digits and a decimal unit: `1.23 GB`. */
export function formatBytes(bytes: number): string {
  const { number, unit } = splitBytes(bytes, UP_TO_THREE_DIGITS);
  return number + NO_BREAK_SPACE + unit;
}

/** All digits: `1,234 bytes`. */
export function formatExactBytes(bytes: number): string {
  return formatCounted(bytes, 'byte');
}

/** Always three digits from 1 kB/s, so that the width does not change every second. */
export function splitRate(bytesPerSecond: number): ValueWithUnit {
  const { number, unit } = splitBytes(bytesPerSecond, bytesPerSecond < 1000 ? WHOLE : THREE_DIGITS);
  return { number, unit: `${unit}/s` };
}

/** `12.3 MB/s`. */
export function formatRate(bytesPerSecond: number): string {
  const { number, unit } = splitRate(bytesPerSecond);
  return number + NO_BREAK_SPACE + unit;
}

function splitBytes(bytes: number, format: Intl.NumberFormat): ValueWithUnit {
  let value = bytes;
  let power = 0;
  // 999.5 would be rounded to 1000 of the smaller unit.
  while (value >= 999.5 && power < BYTE_UNITS.length - 1) {
    value /= 1000;
    power += 1;
  }
  return { number: format.format(value), unit: BYTE_UNITS[power] ?? '' };
}

/** The two largest units of a duration: `45 s`, `12 min`, `3 h 20 min`, `11 d 4 h`. */
export function formatDuration(durationSeconds: number): string {
  const seconds = Math.max(0, Math.floor(durationSeconds));
  if (seconds < MINUTE_S) return withUnit(seconds, 's');
  if (seconds < HOUR_S) return withUnit(Math.floor(seconds / MINUTE_S), 'min');
  const [large, small, largeUnit, smallUnit] =
    seconds < DAY_S ? ([HOUR_S, MINUTE_S, 'h', 'min'] as const) : ([DAY_S, HOUR_S, 'd', 'h'] as const);
  const rest = Math.floor((seconds % large) / small);
  const first = withUnit(Math.floor(seconds / large), largeUnit);
  return rest === 0 ? first : `${first} ${withUnit(rest, smallUnit)}`;
}

function withUnit(value: number, unit: string): string {
  return formatCount(value) + NO_BREAK_SPACE + unit;
}

/** The age of an event: `just now`, `3 min ago`. */
export function formatAge(thenMs: number, nowMs: number): string {
  const ageSeconds = (nowMs - thenMs) / 1000;
  return ageSeconds < MINUTE_S ? 'just now' : `${formatDuration(ageSeconds)} ago`;
}

/** The time until `thenMs`: `in 12 min`. */
export function formatUntil(thenMs: number, nowMs: number): string {
  const remainingSeconds = (thenMs - nowMs) / 1000;
  return remainingSeconds < 1 ? 'now' : `in ${formatDuration(remainingSeconds)}`;
}

/** `05:19:22 UTC`. */
export function formatClock(timeMs: number): string {
  return `${CLOCK.format(timeMs)} UTC`;
}

/** `23 Nov 2026, 05:19 UTC`. */
export function formatDateTime(timeMs: number): string {
  return `${DATE_TIME.format(timeMs)} UTC`;
}

/** `05:19`, for the axis of a chart in UTC. */
export function formatMinute(timeMs: number): string {
  return MINUTE.format(timeMs);
}

/** `05:19 UTC` for times of the last 24 hours, otherwise `23 Nov 2026, 05:19 UTC`. */
export function formatPast(thenMs: number, nowMs: number): string {
  return nowMs - thenMs < DAY_S * 1000 ? `${MINUTE.format(thenMs)} UTC` : formatDateTime(thenMs);
}

/** `05:19 UTC` for times of the next 24 hours, otherwise `12 December`. */
export function formatDay(thenMs: number, nowMs: number): string {
  return thenMs - nowMs < DAY_S * 1000 ? `${MINUTE.format(thenMs)} UTC` : DATE.format(thenMs);
}

/** `at 05:19 UTC` for times of the next 24 hours, otherwise `on 12 December`. */
export function formatOn(thenMs: number, nowMs: number): string {
  return `${thenMs - nowMs < DAY_S * 1000 ? 'at' : 'on'} ${formatDay(thenMs, nowMs)}`;
}

/** Whole per cent, but `< 1 %` and `> 99 %` instead of a rounded 0 % or 100 %. `–` if `whole` is 0. */
export function formatShare(part: number, whole: number): string {
  if (whole <= 0) return PLACEHOLDER;
  const percent = (100 * part) / whole;
  if (percent > 0 && percent < 1) return `<${NO_BREAK_SPACE}1${NO_BREAK_SPACE}%`;
  if (percent > 99 && percent < 100) return `>${NO_BREAK_SPACE}99${NO_BREAK_SPACE}%`;
  return `${Math.round(percent)}${NO_BREAK_SPACE}%`;
}

/**
 * A short name for a listener: `TCP 4001`, `TLS 443`, `WebSocket 4002`, `/run/relay.sock`. Unknown names are
 * unchanged.
 *
 * @param listener as in health checks: `raw tcp:4001:interface=127.0.0.1`, `websocket unix:/run/relay.sock`
 */
export function formatListener(listener: string): string {
  const [, role, kind, rest = ''] =
    /^(raw|websocket) (tcp|ssl|unix):(?:port=|address=)?((?:\\.|[^:\\])*)/u.exec(listener) ?? [];
  if (role === undefined) return listener;
  const where = rest.replaceAll(/\\(.)/gu, '$1');
  if (role === 'websocket') return `WebSocket ${where}`;
  if (kind === 'unix') return where;
  return kind === 'ssl' ? `TLS ${where}` : `TCP ${where}`;
}

/** Adds a capital letter and a full stop. */
export function toSentence(problem: string): string {
  const text = problem.trim();
  const capital = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?…]$/u.test(capital) ? capital : `${capital}.`;
}
