import { statSync } from 'node:fs';
import type { Database } from 'better-sqlite3';
import type { DatabaseNotice } from './database-thread.ts';

/**
 * SQLite truncates the write-ahead log to this size when it restarts the log, in bytes. It is the size at
 * which SQLite checkpoints automatically: 1000 pages.
 */
export const WAL_LIMIT_BYTES = 4 * 2 ** 20;

/** A larger log is truncated by a checkpoint, in bytes: the limit plus a large batch. */
const TRUNCATE_ABOVE_BYTES = WAL_LIMIT_BYTES + 2 ** 20;

/** A checkpoint waits this long for readers, in milliseconds. */
const READER_TIMEOUT_MS = 100;

export interface WalTruncationOptions {
  /** Time between two checkpoints while readers block the truncation, in milliseconds. */
  readonly retryMs: number;
  /** Readers that block the truncation for longer are reported, in milliseconds. */
  readonly reportAfterMs: number;
}

const DEFAULTS: WalTruncationOptions = { retryMs: 5000, reportAfterMs: 120_000 };

/**
 * Keeps the write-ahead log of one database small. SQLite checkpoints automatically but never shortens the
 * file, and it can't restart the log during a reader's transaction.
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
   * Truncates a large log, unless readers need it. Call it after a write, outside a transaction.
   *
   * @param busyTimeoutMs the busy timeout of `database`, which this call restores
   * @returns a notice for the operator; null if nothing has changed
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
    const blockedMs = now - this.#blockedSince;
    if (this.#isReported || blockedMs < this.#options.reportAfterMs) return null;
    this.#isReported = true;
    return { kind: 'wal blocked', seconds: Math.round(blockedMs / 1000), bytes };
  }

  #reset(): DatabaseNotice | null {
    const wasReported = this.#isReported;
    this.#nextAttemptAt = 0;
    this.#blockedSince = null;
    this.#isReported = false;
    return wasReported ? { kind: 'wal truncated' } : null;
  }
}

/** False if readers still need the log. Everything else in it has been written to the database. */
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
