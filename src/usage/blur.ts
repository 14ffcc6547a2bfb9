import type { UsageRecord } from './record.ts';

const KB = 1000;
const MB = 1000 * KB;
const GB = 1000 * MB;

const MINUTE = 60;
const HOUR = 60 * MINUTE;

/**
 * Takes out of a record what would tie it to one transfer.
 *
 * `started` and `total_bytes` are blurred as the reference does it. The reference leaves the two durations exact,
 * and a duration to the microsecond is as good as a name to whoever has captured traffic: here they are
 * rounded up too, to no finer than 10 s, 1 min or 10 min by their size, unless `seconds` is finer still.
 *
 * @param seconds granularity of `started`; 0 leaves the record as it is
 */
export function blur(record: UsageRecord, seconds: number): UsageRecord {
  if (seconds === 0) return record;
  return {
    started: Math.floor(record.started / seconds) * seconds,
    total_time: blurDuration(record.total_time, seconds),
    waiting_time: record.waiting_time === null ? null : blurDuration(record.waiting_time, seconds),
    total_bytes: blurBytes(record.total_bytes),
    mood: record.mood,
  };
}

/** Rounds up: 0 stays 0, below 1 MB to 10 kB, below 1 GB to 1 MB, else to 100 MB. Source: the reference. */
export function blurBytes(bytes: number): number {
  if (bytes < MB) return roundUp(bytes, 10 * KB);
  return roundUp(bytes, bytes < GB ? MB : 100 * MB);
}

/** Rounds up to 10 kB, however large: a count that only grows would hide all that happens behind a coarser step. */
export function blurCount(bytes: number): number {
  return roundUp(bytes, 10 * KB);
}

function blurDuration(duration: number, seconds: number): number {
  let step = 10 * MINUTE;
  if (duration < MINUTE) step = 10;
  else if (duration < HOUR) step = MINUTE;
  return roundUp(duration, Math.min(step, seconds));
}

function roundUp(value: number, step: number): number {
  return Math.ceil(value / step) * step;
}
