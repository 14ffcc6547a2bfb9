import { join } from 'node:path';
import Database from 'better-sqlite3';
import type { Granularity, UsageRow, WaitingBucket } from '../../src/sidecar/api.ts';
import type { UsageSource } from '../../src/sidecar/usage/usage-source.ts';
import { ensureSchema } from '../../src/usage/schema.ts';

/** A row of the table `usage`. */
export interface StoredRecord {
  readonly started: unknown;
  readonly total_time: unknown;
  readonly waiting_time: unknown;
  readonly total_bytes: unknown;
  readonly result: unknown;
}

/** A row with valid values. */
export interface ValidRecord extends StoredRecord {
  readonly started: number;
  readonly total_time: number;
  readonly waiting_time: number | null;
  readonly total_bytes: number;
  readonly result: string;
}

export const HAPPY_RECORD: ValidRecord = {
  started: Date.UTC(2026, 10, 23, 5, 30) / 1000,
  total_time: 12.5,
  waiting_time: 3.25,
  total_bytes: 4096,
  result: 'happy',
};

/** Creates a usage database with these records. */
export function createUsageDatabase(
  directory: string,
  records: readonly StoredRecord[],
  name = 'usage.sqlite',
): UsageSource {
  const source = { databasePath: join(directory, name), scratchDirectory: join(directory, 'scratch') };
  const database = new Database(source.databasePath);
  // It need not survive a power failure.
  database.pragma('synchronous = OFF');
  ensureSchema(database);
  insertRecords(database, records);
  database.close();
  return source;
}

export function insertRecords(database: Database.Database, records: readonly StoredRecord[]): void {
  const statement = database.prepare<[StoredRecord]>(
    `INSERT INTO usage (started, total_time, waiting_time, total_bytes, result)
       VALUES (@started, @total_time, @waiting_time, @total_bytes, @result)`,
  );
  database.transaction(() => records.forEach((record) => statement.run(record)))();
}

/** Length of the prefix of an ISO time for its hour, day or month, and the suffix that completes the time. */
const PERIOD_TRUNCATIONS: Readonly<Record<Granularity, readonly [length: number, rest: string]>> = {
  hour: [13, ':00:00.000Z'],
  day: [10, 'T00:00:00.000Z'],
  month: [7, '-01T00:00:00.000Z'],
};

/** The rows of a report on these records, computed from ISO times without SQLite. */
export function expectedRows(
  records: readonly ValidRecord[],
  by: Granularity,
  from: number,
  to: number,
): UsageRow[] {
  const [length, rest] = PERIOD_TRUNCATIONS[by];
  const rows = new Map<string, UsageRow>();
  for (const { started, result, total_bytes, total_time, waiting_time } of records) {
    if (started < from || started >= to) continue;
    const start = `${new Date(started * 1000).toISOString().slice(0, length)}${rest}`;
    const row = rows.get(`${start} ${result}`);
    rows.set(`${start} ${result}`, {
      start,
      mood: result,
      records: (row?.records ?? 0) + 1,
      total_bytes: (row?.total_bytes ?? 0) + total_bytes,
      total_time: (row?.total_time ?? 0) + total_time,
      waiting_time: (row?.waiting_time ?? 0) + (waiting_time ?? 0),
    });
  }
  return [...rows.entries()].toSorted(([one], [other]) => (one < other ? -1 : 1)).map(([, row]) => row);
}

/** Waiting buckets of these records, computed without SQLite. */
export function expectedWaiting(records: readonly ValidRecord[]): WaitingBucket[] {
  const waited = records.filter(({ result }) => result === 'happy').map(({ waiting_time }) => waiting_time);
  const bounds = [0, 1, 5, 30, 120, 600, 3600, Infinity];
  return bounds.slice(1).map((most, at) => ({
    at_most_seconds: most === Infinity ? null : most,
    records: waited.filter(
      (seconds) => seconds !== null && seconds <= most && (at === 0 || seconds > (bounds[at] ?? 0)),
    ).length,
  }));
}
