import type { RelayStatus } from '../status/relay-status.ts';

/** ISO 8601 in UTC, for example `2026-11-23T05:00:00.000Z`. Durations are in seconds. */
export type IsoTime = string;

/** One snapshot of the usage database: an entry of `GET /snapshots`. */
export interface Snapshot {
  /** Also the file name: `usage-20261123T050000Z.sqlite`. */
  readonly name: string;
  /** When it was taken. */
  readonly time: IsoTime;
  readonly bytes: number;
  /** SHA-256 of the file, hexadecimal. */
  readonly sha256: string;
  /** Number of usage records. */
  readonly rows: number;
}

/** `GET /snapshots`, newest first. */
export interface SnapshotList {
  readonly snapshots: readonly Snapshot[];
  /** Why the last attempt failed, in a sentence; null if it succeeded. */
  readonly problem: string | null;
  /** When the next one is due. */
  readonly next: IsoTime;
}

/** Records of one mood that started in one hour, day or month (UTC). Empty periods have no row. */
export interface UsageRow {
  readonly start: IsoTime;
  /** `happy`, `lonely`, `redundant`, `impatient`, `errory`, `empty`, or another value from the database. */
  readonly mood: string;
  readonly records: number;
  /** Sums over these records. */
  readonly total_bytes: number;
  readonly total_time: number;
  readonly waiting_time: number;
}

/** One bucket of the distribution of waiting times. Each pair is counted in one bucket only. */
export interface WaitingBucket {
  /** Upper bound, included; null for the last bucket, which has none. */
  readonly at_most_seconds: number | null;
  readonly records: number;
}

/** The time that the usage database covers, whatever the range of a report. */
export interface RecordedTime {
  /** The first record, or the last start of the relay if that was earlier; null if neither is known. */
  readonly from: IsoTime | null;
  /** When the relay last wrote to the database; null if it never did. A running relay does so every 30 s. */
  readonly to: IsoTime | null;
  /** The last start of the relay; null if the database does not say. */
  readonly relay_started: IsoTime | null;
}

export const GRANULARITIES = ['hour', 'day', 'month'] as const;

export type Granularity = (typeof GRANULARITIES)[number];

/** `GET /usage.json?by=hour|day|month&from=TIME&to=TIME`; `from` is included, `to` is not. */
export interface UsageReport {
  readonly by: Granularity;
  readonly from: IsoTime;
  readonly to: IsoTime;
  /** Time of the query: reports are cached for a while. */
  readonly generated: IsoTime;
  readonly recorded: RecordedTime;
  /** Sorted by start, then by mood. */
  readonly rows: readonly UsageRow[];
  /** Waiting times of happy records, shortest first; always all buckets. */
  readonly waiting: readonly WaitingBucket[];
}

export type DatabaseState =
  | { readonly state: 'ok'; readonly bytes: number; readonly modified: IsoTime }
  | { readonly state: 'missing' | 'unreadable'; readonly problem: string };

export type RelayState =
  ({ readonly state: 'up' } & RelayStatus) | { readonly state: 'down'; readonly problem: string };

/** `GET /live.json`: data that changes every second. */
export interface LiveStatus {
  readonly now: IsoTime;
  readonly relay: RelayState;
  readonly database: DatabaseState;
  readonly snapshots: {
    readonly count: number;
    readonly newest: Snapshot | null;
    readonly problem: string | null;
    readonly next: IsoTime;
  };
}

/** The response of `GET /health/…`: status 200 if `ok`, else 503. */
export interface Health {
  readonly ok: boolean;
  /** The problem in one line; null if there is none. */
  readonly problem: string | null;
}
