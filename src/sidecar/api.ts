import type { RelayStatus } from '../status/relay-status.ts';

/** Times are ISO 8601 in UTC, as `2026-11-23T05:00:00.000Z`, and durations seconds. */
export type IsoTime = string;

/** One snapshot of the usage database: an entry of `GET /snapshots`. */
export interface Snapshot {
  /** Also its file's name: `usage-20261123T050000Z.sqlite`. */
  readonly name: string;
  /** When it was taken. */
  readonly time: IsoTime;
  readonly bytes: number;
  /** Of the file, hexadecimal. */
  readonly sha256: string;
  /** Usage records in it. */
  readonly rows: number;
}

/** `GET /snapshots`, newest first. */
export interface SnapshotList {
  readonly snapshots: readonly Snapshot[];
  /** Why the last attempt failed, in a sentence; null when it did not. */
  readonly problem: string | null;
  /** When the next one is due. */
  readonly next: IsoTime;
}

/** Records of one mood that began in one hour, day or month (UTC). There is none where nothing happened. */
export interface UsageRow {
  readonly start: IsoTime;
  /** `happy`, `lonely`, `redundant`, `impatient`, `errory`, `empty`, or what else the database says. */
  readonly mood: string;
  readonly records: number;
  /** Sums over these records. */
  readonly total_bytes: number;
  readonly total_time: number;
  readonly waiting_time: number;
}

/** How many of the pairs waited so long and no longer. */
export interface WaitingBucket {
  /** Of this step, excluded from the next one; null: longer than all others. */
  readonly at_most_seconds: number | null;
  readonly records: number;
}

export const GRANULARITIES = ['hour', 'day', 'month'] as const;

export type Granularity = (typeof GRANULARITIES)[number];

/** `GET /usage.json?by=hour|day|month&from=TIME&to=TIME`; `from` is included, `to` is not. */
export interface UsageReport {
  readonly by: Granularity;
  readonly from: IsoTime;
  readonly to: IsoTime;
  /** When the database was asked: an answer may be kept for a while. */
  readonly generated: IsoTime;
  /** By start, then by mood. */
  readonly rows: readonly UsageRow[];
  /** Of happy records, shortest step first, all steps always there. */
  readonly waiting: readonly WaitingBucket[];
}

export type DatabaseState =
  | { readonly state: 'ok'; readonly bytes: number; readonly modified: IsoTime }
  | { readonly state: 'missing' | 'unreadable'; readonly problem: string };

export type RelayState =
  ({ readonly state: 'up' } & RelayStatus) | { readonly state: 'down'; readonly problem: string };

/** `GET /live.json`: what changes from second to second. */
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

/** A check's answer, as `GET /health/…` gives it: status 200 when `ok`, else 503. */
export interface Health {
  readonly ok: boolean;
  /** One line that says what is wrong; null when nothing is. */
  readonly problem: string | null;
}
