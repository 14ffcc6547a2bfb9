import type { DatabaseState, Period, UsageRow, WaitingStep } from './api.ts';
import type { TotalsState } from './metrics-totals-query.ts';
import type { RecordPosition } from './usage-query.ts';
import type { UsageSource } from './usage-source.ts';

/** The database could not be read; `problem` is a sentence for the operator. */
export type UsageFailure = { readonly kind: 'failed' } & Exclude<DatabaseState, { state: 'ok' }>;

/** Asks `aggregate` for all that began from `from`, included, to `to`, excluded; seconds since the epoch. */
export interface AggregateTask {
  readonly source: UsageSource;
  readonly by: Period;
  readonly from: number;
  readonly to: number;
}

/**
 * - `ok`: all of it
 * - `refused`: it would be too long; `problem` says what to ask instead
 *
 * `tookMs` is the time the job ran, in milliseconds.
 */
export type AggregateOutcome =
  | {
      readonly kind: 'ok';
      readonly rows: readonly UsageRow[];
      readonly waiting: readonly WaitingStep[];
      readonly tookMs: number;
    }
  | { readonly kind: 'refused'; readonly problem: string; readonly tookMs: number }
  | UsageFailure;

/** What one line of the CSV stands for: a period and mood, or a record. */
export type CsvBy = Period | 'record';

/** Asks `csvPage` for lines from `position` on, up to `to`, excluded, in seconds since the epoch. */
export interface CsvTask {
  readonly source: UsageSource;
  readonly by: CsvBy;
  readonly position: RecordPosition;
  readonly to: number;
}

/** Lines without the header, and where the next page begins; null when this is the last one. */
export type CsvOutcome =
  { readonly kind: 'ok'; readonly text: string; readonly next: RecordPosition | null } | UsageFailure;

/** Asks `totals` for sums over all records; `known` is what is known of them, and spares reading those again. */
export interface TotalsTask {
  readonly source: UsageSource;
  readonly known: TotalsState | null;
}

/** `isComplete` false: it is a page of a long table, and asking again with `state` brings the next one. */
export type TotalsOutcome =
  { readonly kind: 'ok'; readonly state: TotalsState; readonly isComplete: boolean } | UsageFailure;
