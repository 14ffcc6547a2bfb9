import type { Mood } from '../protocol/messages.ts';

/** The outcome of one connection or pair. Field names and units are those of the reference's usage log. */
export interface UsageRecord {
  /** Seconds since the epoch. */
  readonly started: number;
  /** Seconds. */
  readonly total_time: number;
  /** Seconds until the partner arrived; null if there was no partner. */
  readonly waiting_time: number | null;
  /** Bytes relayed in both directions. */
  readonly total_bytes: number;
  readonly mood: Mood;
}

/** The state of the relay, for the `current` row of the database. */
export interface CurrentUsage {
  /** Seconds since the epoch. */
  readonly rebooted: number;
  /** Seconds since the epoch. */
  readonly updated: number;
  /** Connections in pairs: two per pair. */
  readonly connected: number;
  /** Distinct waiting tokens. */
  readonly waiting: number;
  /** Bytes relayed so far by running pairs. */
  readonly incomplete_bytes: number;
}

/** One line of the JSON-lines log, with its newline and its keys in the reference's order. */
export function toJsonLine(record: UsageRecord): string {
  const { started, total_time, waiting_time, total_bytes, mood } = record;
  return `${JSON.stringify({ started, total_time, waiting_time, total_bytes, mood })}\n`;
}

const KB = 1000;
const MB = 1000 * KB;
const GB = 1000 * MB;

const MINUTE = 60;
const HOUR = 60 * MINUTE;

/**
 * Blurs a record so that it can't be matched with one transfer.
 *
 * `started` and `total_bytes` are blurred like in the reference. The reference leaves the two durations
 * exact, but captured traffic identifies a transfer by a duration in microseconds. So durations are rounded
 * up too: to 10 s, 1 min or 10 min depending on their size, or to `seconds` if that is less.
 *
 * @param seconds granularity of `started`; 0 leaves the record unchanged
 */
export function blurRecord(record: UsageRecord, seconds: number): UsageRecord {
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

/** Rounds up to 10 kB at any size: coarser steps would hide all changes of a growing counter. */
export function blurCounterBytes(bytes: number): number {
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

/** Destination of records. `record` must not block and must not throw. */
export interface RecordSink {
  record(record: UsageRecord): void;
}

/** Blurs each record once and passes it to every sink. */
export class UsageRecorder {
  /** Granularity of the start time; 0 for exact records. */
  readonly blurSeconds: number;
  readonly #sinks: RecordSink[] = [];

  constructor(blurSeconds: number) {
    this.blurSeconds = blurSeconds;
  }

  addSink(sink: RecordSink): void {
    this.#sinks.push(sink);
  }

  record(record: UsageRecord): void {
    const blurred = blurRecord(record, this.blurSeconds);
    for (const sink of this.#sinks) sink.record(blurred);
  }

  /** Blurs a live byte count like the records. */
  blurLiveBytes(bytes: number): number {
    return this.blurSeconds === 0 ? bytes : blurBytes(bytes);
  }

  /** Blurs a byte counter of the whole run, in steps no finer than the smallest step of the records. */
  blurCounter(bytes: number): number {
    return this.blurSeconds === 0 ? bytes : blurCounterBytes(bytes);
  }
}
