import { statSync } from 'node:fs';
import type { Database } from 'better-sqlite3';
import type { DatabaseNotice } from './database-thread.ts';

/**
 * SQLite truncates the write-ahead log to this size when it starts the log again, in bytes. It is what the log has when SQLite
 * checkpoints by itself: 1000 pages.
 */
export const WAL_LIMIT_BYTES = 4 * 2 ** 20;

/** A log of more than this is truncated by a checkpoint, in bytes: the limit and a large batch. */
const TRUNCATE_ABOVE_BYTES = WAL_LIMIT_BYTES + 2 ** 20;

/** A checkpoint waits this long for readers, in milliseconds. */
const READER_TIMEOUT_MS = 100;

export interface WalTruncationOptions {
  /** Between two checkpoints while readers keep the log, in milliseconds. */
  readonly retryMs: number;
  /** Readers that keep the log longer than this are reported, in milliseconds. */
  readonly reportAfterMs: number;
}

const DEFAULTS: WalTruncationOptions = { retryMs: 5000, reportAfterMs: 120_000 };

/**
 * Keeps the write-ahead log of one database small. SQLite checkpoints by itself but never shortens the file, and a transaction of a
 * reader keeps it from starting the log again.
 */
export class WalTruncation {
  readonly #options: WalTruncationOptions;
  #nextAttemptAt = 0;
  #blockedSince: number | null = null;
  #isReported = false;

  constructor(options: Partial<WalTruncationOptions> = {}) {
    this.#options = { ...DEFAULTS, ...options };
  }

  /**
   * Truncates a large log, unless readers need it. Call it after a write, outside of a transaction.
   *
   * @param busyTimeoutMs what `database` has, and has again after the call
   * @returns what the operator should know; null for nothing new
   * @throws SqliteError
   */
  afterWrite(database: Database, busyTimeoutMs: number): DatabaseNotice | null {
    const bytes = fileSize(`${database.name}-wal`);
    const now = performance.now();
    if (bytes <= TRUNCATE_ABOVE_BYTES) return this.#reset();
    if (now < this.#nextAttemptAt) return null;
    if (truncate(database, busyTimeoutMs)) return this.#reset();
    this.#blockedSince ??= now;
    this.#nextAttemptAt = now + this.#options.retryMs;
    const heldMs = now - this.#blockedSince;
    if (this.#isReported || heldMs < this.#options.reportAfterMs) return null;
    this.#isReported = true;
    return { kind: 'wal blocked', seconds: Math.round(heldMs / 1000), bytes };
  }

  #reset(): DatabaseNotice | null {
    const wasReported = this.#isReported;
    this.#nextAttemptAt = 0;
    this.#blockedSince = null;
    this.#isReported = false;
    return wasReported ? { kind: 'wal truncated' } : null;
  }
}

/** False when readers need what is in the log. All else of it is in the database then. */
function truncate(database: Database, busyTimeoutMs: number): boolean {
  database.pragma(`busy_timeout = ${READER_TIMEOUT_MS}`);
  try {
    return database.pragma('wal_checkpoint(TRUNCATE)', { simple: true }) === 0;
  } finally {
    database.pragma(`busy_timeout = ${busyTimeoutMs}`);
  }
}

function fileSize(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.size ?? 0;
}
