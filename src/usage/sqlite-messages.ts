import type { CurrentUsage, UsageRecord } from './record.ts';

/** What the event loop asks of the database thread: one request at a time, each one transaction. */
export type Request =
  | { readonly kind: 'open' }
  | {
      readonly kind: 'write';
      readonly records: readonly UsageRecord[];
      readonly current: CurrentUsage | null;
    }
  | { readonly kind: 'close' };

/**
 * - `done`: the request is on disk
 * - `unfit`: the file is not a usage database; trying again is of no use
 * - `failed`: it did not work this time, and nothing of the request was written
 */
export type Answer =
  | { readonly kind: 'done' }
  | { readonly kind: 'unfit'; readonly reason: string }
  | { readonly kind: 'failed'; readonly code: string };
