import { createHash } from 'node:crypto';
import { closeSync, createReadStream, existsSync, fchmodSync, fdatasyncSync, openSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import Database from 'better-sqlite3';
import { fsyncPath } from '../../process/durable-file.ts';
import { errorCode } from '../../process/errors.ts';
import { FILE_SUFFIXES, quickCheck, walBytes } from '../../usage/sqlite-file.ts';
import type { Snapshot } from '../api.ts';
import { describeSpaceShortage, missingBytes } from '../disk-space.ts';
import { UsageSourceError, openUsageDatabase, toUsageSourceError } from '../usage/usage-source.ts';
import type { OpenUsageDatabase, UsageSource } from '../usage/usage-source.ts';
import {
  SNAPSHOT_FILE_MODE,
  publishSnapshot,
  readSnapshots,
  removeSnapshot,
  snapshotName,
  unfinishedPath,
} from './snapshot-files.ts';

/** There is no pause after less work than this, in milliseconds. */
const MIN_PAUSE_MS = 5;

/**
 * Limits one process to half of a processor or disk: each pause is as long as the work since the previous
 * pause. A pause blocks the whole process.
 */
export class DutyCycleThrottle {
  readonly #sleepCell = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT));
  #workingSince = performance.now();

  pause(): void {
    const workedMs = performance.now() - this.#workingSince;
    if (workedMs < MIN_PAUSE_MS) return;
    Atomics.wait(this.#sleepCell, 0, 0, workedMs);
    this.#workingSince = performance.now();
  }
}

/**
 * Copied between two pauses, in bytes: large enough for one sequential read, and a few milliseconds of work.
 */
const COPY_STEP_BYTES = 2 ** 20;

/** The copy is flushed to disk after this many bytes, so that disk time counts as work for the pauses. */
const SYNC_BYTES = 32 * 2 ** 20;

/**
 * The relay can't restart its write-ahead log during a read. If the log has grown by this, the rest is copied
 * without pauses.
 */
const MAX_WAL_GROWTH_BYTES = 256 * 2 ** 20;

/** More pages than any database has. */
const ALL_PAGES = 0x7fff_ffff;

/** The copy differs from its source. The message is a sentence for the operator. */
export class DamagedCopyError extends Error {}

/** The size of a copy made in this read transaction, in bytes. */
export function copySizeBytes(database: Database.Database): number {
  return Number(database.pragma('page_count', { simple: true })) * pageSizeBytes(database);
}

function pageSizeBytes(database: Database.Database): number {
  return Number(database.pragma('page_size', { simple: true }));
}

/**
 * Copies the state of `source` in its current read transaction with SQLite's online backup. Because the
 * transaction stays open, later writes neither get into the copy nor restart it. The copy is throttled,
 * unless the source blocks its writer: then it is copied at once.
 *
 * @param path must not exist; after an error its content is useless
 * @throws SqliteError of either database, or the file system's error
 */
export async function copyThrottled(
  source: OpenUsageDatabase,
  path: string,
  throttle: DutyCycleThrottle,
): Promise<void> {
  const { database, blocksWriter } = source;
  const stepPages = Math.max(1, Math.floor(COPY_STEP_BYTES / pageSizeBytes(database)));
  const syncPages = stepPages * Math.floor(SYNC_BYTES / COPY_STEP_BYTES);
  const maxWalBytes = walBytes(database) + MAX_WAL_GROWTH_BYTES;
  const descriptor = openSync(path, 'wx', SNAPSHOT_FILE_MODE);
  try {
    // The mode above is subject to the umask.
    fchmodSync(descriptor, SNAPSHOT_FILE_MODE);
    let syncAtRemaining = Number.POSITIVE_INFINITY;
    await database.backup(path, {
      progress: ({ totalPages, remainingPages }) => {
        if (blocksWriter) return ALL_PAGES;
        syncAtRemaining = Math.min(syncAtRemaining, totalPages - syncPages);
        if (remainingPages <= syncAtRemaining) {
          fdatasyncSync(descriptor);
          syncAtRemaining = remainingPages - syncPages;
        }
        if (walBytes(database) <= maxWalBytes) throttle.pause();
        return stepPages;
      },
    });
  } finally {
    closeSync(descriptor);
  }
}

/**
 * Turns a copy into a single file that can be opened anywhere, even in a read-only directory, and checks it.
 *
 * @returns the number of usage records
 * @throws DamagedCopyError
 * @throws SqliteError
 */
export function finalizeCopy(path: string, bytes: number): number {
  const copy = new Database(path, { fileMustExist: true });
  try {
    copy.pragma('journal_mode = DELETE');
    const error = quickCheck(copy);
    if (error !== null) throw new DamagedCopyError(error);
    if (copySizeBytes(copy) !== bytes) throw new DamagedCopyError('the copy is not complete');
    return Number(copy.prepare('SELECT count(*) FROM usage').pluck().get());
  } finally {
    copy.close();
  }
}

export interface SnapshotTask {
  readonly source: UsageSource;
  readonly directory: string;
  /** Number of snapshots to keep, including the new one; at least 1. */
  readonly keep: number;
}

/** A value rather than an error, because errors lose their class between processes. */
export type SnapshotOutcome =
  | { readonly kind: 'taken'; readonly snapshot: Snapshot }
  | { readonly kind: 'failed'; readonly problem: string };

/** Bytes per read: about as much work as a step of the copy. */
const HASH_CHUNK_BYTES = 2 ** 20;

/** There is no disk space for a snapshot. The message is a sentence for the operator. */
class NoSpaceError extends Error {}

/** Job of a job process: takes one snapshot, checks it, publishes it, and removes excess snapshots. */
export async function takeSnapshot(task: SnapshotTask): Promise<SnapshotOutcome> {
  try {
    return { kind: 'taken', snapshot: await createSnapshot(task) };
  } catch (error) {
    return { kind: 'failed', problem: describeError(task, error) };
  }
}

async function createSnapshot({ source, directory, keep }: SnapshotTask): Promise<Snapshot> {
  const throttle = new DutyCycleThrottle();
  const unfinished = unfinishedPath(directory);
  try {
    const time = await reserveTime(directory);
    const name = snapshotName(time);
    const bytes = await copyUsageDatabase(source, directory, unfinished, throttle);
    const rows = finalizeCopy(unfinished, bytes);
    throttle.pause();
    const sha256 = await hashFile(unfinished, throttle);
    await fsyncPath(unfinished);
    const snapshot = { name, time: new Date(time).toISOString(), bytes, sha256, rows };
    await publishSnapshot(directory, unfinished, snapshot);
    await removeExcessSnapshots(directory, keep, name);
    return snapshot;
  } finally {
    for (const side of FILE_SUFFIXES) await rm(`${unfinished}${side}`, { force: true });
  }
}

/**
 * Copies the database and closes it: the next steps need only the copy. Returns the size of the copy in bytes.
 */
async function copyUsageDatabase(
  source: UsageSource,
  directory: string,
  unfinished: string,
  throttle: DutyCycleThrottle,
): Promise<number> {
  const opened = openUsageDatabase(source);
  try {
    const bytes = beginReadTransaction(source, opened.database);
    await freeDiskSpace(directory, bytes);
    await copyThrottled(opened, unfinished, throttle);
    return bytes;
  } catch (error) {
    const isOfTheSource = error instanceof Database.SqliteError && SOURCE_ERROR_CODES.has(error.code);
    throw isOfTheSource ? toUsageSourceError(source.databasePath, error) : error;
  } finally {
    opened.database.close();
  }
}

/** Errors that only the source can cause: no other process uses the copy. */
const SOURCE_ERROR_CODES: ReadonlySet<string> = new Set(['SQLITE_BUSY', 'SQLITE_CORRUPT', 'SQLITE_NOTADB']);

/** Begins the transaction in which the whole copy is made. Returns the size of the copy in bytes. */
function beginReadTransaction(source: UsageSource, database: Database.Database): number {
  try {
    database.exec('BEGIN');
    // The transaction starts with the first read.
    return copySizeBytes(database);
  } catch (error) {
    throw toUsageSourceError(source.databasePath, error);
  }
}

/** The name of a snapshot is its second. Waits for the next second if the current one is in use. */
async function reserveTime(directory: string): Promise<number> {
  for (;;) {
    const time = Date.now();
    if (!existsSync(join(directory, snapshotName(time)))) return time;
    await sleep(1000 - (time % 1000));
  }
}

/** Removes old snapshots, but only if that is needed and frees enough space. The newest one always stays. */
async function freeDiskSpace(directory: string, bytes: number): Promise<void> {
  const lack = describeSpaceShortage(directory, bytes, 'a snapshot');
  if (lack === null) return;
  const removable = (await readSnapshots(directory)).slice(1);
  const removableBytes = removable.reduce((sum, snapshot) => sum + snapshot.bytes, 0);
  // Remove nothing if it would not be enough.
  if (removableBytes < missingBytes(directory, bytes)) throw new NoSpaceError(lack);
  for (const { name } of removable.toReversed()) {
    await removeSnapshot(directory, name);
    if (missingBytes(directory, bytes) <= 0) return;
  }
  throw new NoSpaceError(describeSpaceShortage(directory, bytes, 'a snapshot') ?? lack);
}

/** The new snapshot stays, even if the clock was set back and other snapshots seem newer. */
async function removeExcessSnapshots(directory: string, keep: number, justTaken: string): Promise<void> {
  const others = (await readSnapshots(directory)).filter(({ name }) => name !== justTaken);
  for (const { name } of others.slice(keep - 1)) await removeSnapshot(directory, name);
}

async function hashFile(path: string, throttle: DutyCycleThrottle): Promise<string> {
  const sum = createHash('sha256');
  for await (const chunk of createReadStream(path, { highWaterMark: HASH_CHUNK_BYTES })) {
    sum.update(chunk);
    throttle.pause();
  }
  return sum.digest('hex');
}

const DISK_FULL_CODES: ReadonlySet<string> = new Set(['SQLITE_FULL', 'ENOSPC', 'EDQUOT']);

function describeError({ source, directory }: SnapshotTask, error: unknown): string {
  if (error instanceof UsageSourceError || error instanceof NoSpaceError) return error.message;
  if (error instanceof DamagedCopyError) {
    return `the snapshot of "${source.databasePath}" was discarded: ${error.message}`;
  }
  if (!(error instanceof Error)) return `the snapshot failed: ${String(error)}`;
  if (DISK_FULL_CODES.has(errorCode(error))) {
    return `the disk of "${directory}" became full during a snapshot: free some space there`;
  }
  return `can't write a snapshot to "${directory}": ${error.message}`;
}
