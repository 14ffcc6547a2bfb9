import type { Deletion } from './retention.ts';
import type { CurrentUsage, UsageRecord } from './record.ts';

/** What the event loop asks of the database thread: one request at a time, each one transaction. */
export type Request =
  | { readonly kind: 'open' }
  | {
      readonly kind: 'write';
      readonly records: readonly UsageRecord[];
      readonly current: CurrentUsage | null;
    }
  /** Deletes a batch of records that began before this time, in seconds since the epoch. */
  | { readonly kind: 'delete'; readonly before: number }
  | { readonly kind: 'close' };

/**
 * What an operator should know of a database that works.
 *
 * - `rollback journal`: the file system can't share memory between processes, so there is no write-ahead log
 * - `log held`: readers have kept the write-ahead log from being truncated for so long, and it has this size
 * - `log released`: after `log held`, the log is small again
 */
export type Notice =
  | { readonly kind: 'rollback journal' }
  | { readonly kind: 'log held'; readonly seconds: number; readonly bytes: number }
  | { readonly kind: 'log released' };

/**
 * - `done`: the request is on disk
 * - `unfit`: the file is not a usage database; trying again is of no use
 * - `failed`: it did not work this time, and nothing of the request was written; a reason is a sentence for the operator
 */
export type Answer =
  | { readonly kind: 'done'; readonly notices?: readonly Notice[]; readonly deletion?: Deletion }
  | { readonly kind: 'unfit'; readonly reason: string }
  | { readonly kind: 'failed'; readonly code: string; readonly reason?: string };
