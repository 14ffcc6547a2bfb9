import type { OperatorWarning, RelayStatus } from '../status/relay-status.ts';

export type { OperatorWarning, RelayStatus };

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

/** The status of the relay. Fields that a relay of another version does not report have defaults. */
export type RelayState = RelayStatus | { readonly state: 'down'; readonly problem: string };

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
  readonly sidecar: { readonly version: string; readonly host: string; readonly started: IsoTime };
  /** Current problems of the sidecar itself. */
  readonly warnings: readonly OperatorWarning[];
}

/**
 * `GET /live-history.json`: the last 5 minutes in steps of 1 s, and the last hour in steps of 10 s, or as many
 * seconds as `?seconds=N` says, up to a day. Lists have the oldest point first.
 */
export interface LiveHistory {
  readonly now: IsoTime;
  readonly series: readonly HistorySeries[];
}

/** Null in a list: no data, because the relay was down, or the sidecar was not running. */
export interface HistorySeries {
  readonly step_seconds: 1 | 10;
  /** Start of the last step. */
  readonly end: IsoTime;
  /** Mean of the step. */
  readonly bytes_per_second: readonly (number | null)[];
  /** Maximum of the step. */
  readonly pairs: readonly (number | null)[];
  readonly waiting: readonly (number | null)[];
  readonly connections: readonly (number | null)[];
  /** Clients rejected within the step. */
  readonly refused: readonly (number | null)[];
}

/** The response of `GET /health/…`: status 200 if `ok`, else 503. */
export interface Health {
  readonly ok: boolean;
  /** The problem in one line; null if there is none. */
  readonly problem: string | null;
}
