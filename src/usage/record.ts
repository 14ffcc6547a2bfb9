import type { Mood } from '../protocol/wire.ts';

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
