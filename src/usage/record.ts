import type { LineWriter } from '../process/line-writer.ts';
import type { Mood } from '../protocol/messages.ts';

/** How one connection, or one pair, went. Field names and units are those of the reference's usage log. */
export interface UsageRecord {
  /** Seconds since the epoch. */
  readonly started: number;
  /** Seconds. */
  readonly total_time: number;
  /** Seconds until the partner came; null where none did. */
  readonly waiting_time: number | null;
  /** Bytes relayed, both directions together. */
  readonly total_bytes: number;
  readonly mood: Mood;
}

/** What the relay is doing now, as the `current` row of the database has it. */
export interface CurrentUsage {
  /** Seconds since the epoch. */
  readonly rebooted: number;
  /** Seconds since the epoch. */
  readonly updated: number;
  /** Connections in pairs: two a pair. */
  readonly connected: number;
  /** Distinct waiting tokens. */
  readonly waiting: number;
  /** Bytes relayed so far by pairs that have not ended. */
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
 * Takes out of a record what would tie it to one transfer.
 *
 * `started` and `total_bytes` are blurred as the reference does it. The reference leaves the two durations exact,
 * and a duration to the microsecond is as good as a name to whoever has captured traffic: here they are
 * rounded up too, to no finer than 10 s, 1 min or 10 min by their size, unless `seconds` is finer still.
 *
 * @param seconds granularity of `started`; 0 leaves the record as it is
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

/** Rounds up to 10 kB, however large: a count that only grows would hide all that happens behind a coarser step. */
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

/** Where records go. `record` must not wait and must not throw. */
export interface RecordSink {
  record(record: UsageRecord): void;
}

/** Blurs each record once and hands it to every sink. */
export class UsageRecorder {
  /** Granularity of the records' start; 0: they are exact. */
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

  /** A live count of bytes, no finer than the records will be. */
  blurLiveBytes(bytes: number): number {
    return this.blurSeconds === 0 ? bytes : blurBytes(bytes);
  }

  /** A count of bytes that grows as long as the relay runs, in steps no finer than the smallest of the records. */
  blurCounter(bytes: number): number {
    return this.blurSeconds === 0 ? bytes : blurCounterBytes(bytes);
  }
}

/** One JSON line a record, for the operator's own tools. */
export function createJsonLinesSink(output: LineWriter): RecordSink {
  return { record: (record) => output.write(toJsonLine(record)) };
}
