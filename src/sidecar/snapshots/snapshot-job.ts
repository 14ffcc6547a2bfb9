import { createHash } from 'node:crypto';
import {
  closeSync,
  createReadStream,
  existsSync,
  fchmodSync,
  fdatasyncSync,
  openSync,
  statSync,
} from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import Database from 'better-sqlite3';
import { errorCode } from '../../process/error-code.ts';
import { FILE_SUFFIXES, quickCheck } from '../../usage/sqlite-file.ts';
import type { Snapshot } from '../api.ts';
import { describeSpaceShortage, missingBytes } from '../disk-space.ts';
import { UsageSourceError, openUsageDatabase, toUsageSourceError } from '../usage/usage-source.ts';
import type { OpenUsageDatabase, UsageSource } from '../usage/usage-source.ts';
import {
  SNAPSHOT_FILE_MODE,
  fsyncPath,
  publishSnapshot,
  readSnapshots,
  removeSnapshot,
  snapshotName,
  unfinishedPath,
} from './snapshot-files.ts';

/** Work of less than this is not worth a pause, in milliseconds. */
const MIN_PAUSE_MS = 5;

/**
 * Spreads work of one process over time: each pause is as long as the work since the one before, so that
 * never more than half of a processor or of a disk goes into it. A pause keeps the whole process.
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

/** Copied between two pauses: large enough to be read in one go, and a few milliseconds of work. */
const COPY_STEP_BYTES = 2 ** 20;

/** The disk is given this much at a time, so that its work is part of what the pauses are measured by. */
const SYNC_BYTES = 32 * 2 ** 20;

/** The relay's log can't begin anew while it is read. When it has grown by this, the rest is copied without pauses. */
const MAX_WAL_GROWTH_BYTES = 256 * 2 ** 20;

/** All pages that a database can have. */
const ALL_PAGES = 0x7fff_ffff;

/** The copy is not what it was copied from, in a sentence for the operator. */
export class DamagedCopyError extends Error {}

/** How large a copy of what is to be seen in this read transaction becomes, in bytes. */
export function copySizeBytes(database: Database.Database): number {
  return Number(database.pragma('page_count', { simple: true })) * pageSizeBytes(database);
}

function pageSizeBytes(database: Database.Database): number {
  return Number(database.pragma('page_size', { simple: true }));
}

/**
 * Copies what `source` sees in the read transaction that it is in, by SQLite's online backup. Since that transaction
 * lasts, what is written meanwhile neither gets into the copy nor makes it begin anew. It goes at the `pace`, but
 * for a source that keeps its writer waiting: that one is copied at once.
 *
 * @param path must not exist; what is there after an error is of no use
 * @throws SqliteError of either database, or the file system's error
 */
export async function copyThrottled(
  source: OpenUsageDatabase,
  path: string,
  pace: DutyCycleThrottle,
): Promise<void> {
  const { database, blocksWriter } = source;
  const stepPages = Math.max(1, Math.floor(COPY_STEP_BYTES / pageSizeBytes(database)));
  const syncPages = stepPages * Math.floor(SYNC_BYTES / COPY_STEP_BYTES);
  const hurryAboveBytes = walBytes(database) + MAX_WAL_GROWTH_BYTES;
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
        if (walBytes(database) <= hurryAboveBytes) pace.pause();
        return stepPages;
      },
    });
  } finally {
    closeSync(descriptor);
  }
}

/**
 * Makes a copy one file that opens anywhere, also where nothing can be written, and checks it.
 *
 * @returns how many usage records it has
 * @throws BadCopyError when it is damaged
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

function walBytes(database: Database.Database): number {
  return statSync(`${database.name}-wal`, { throwIfNoEntry: false })?.size ?? 0;
}

/** What the process is asked for. */
export interface SnapshotTask {
  readonly source: UsageSource;
  readonly directory: string;
  /** Snapshots that stay, the new one among them; 1 at least. */
  readonly keep: number;
}

/** Values, since errors lose what they are on their way between processes. */
export type SnapshotOutcome =
  | { readonly kind: 'taken'; readonly snapshot: Snapshot }
  | { readonly kind: 'failed'; readonly problem: string };

/** Read at a time, in bytes: about as much work as a step of the copy. */
const HASH_CHUNK_BYTES = 2 ** 20;

/** No room for a snapshot, in a sentence for the operator. */
class NoSpaceError extends Error {}

/** The job of a process: takes one snapshot, checks it, publishes it, and removes those that are too many. */
export async function takeSnapshot(task: SnapshotTask): Promise<SnapshotOutcome> {
  try {
    return { kind: 'taken', snapshot: await createSnapshot(task) };
  } catch (error) {
    return { kind: 'failed', problem: describeError(task, error) };
  }
}

async function createSnapshot({ source, directory, keep }: SnapshotTask): Promise<Snapshot> {
  const pace = new DutyCycleThrottle();
  const unfinished = unfinishedPath(directory);
  try {
    const { time, name, bytes } = await copyUsageDatabase(source, directory, unfinished, pace);
    const rows = finalizeCopy(unfinished, bytes);
    pace.pause();
    const sha256 = await hashFile(unfinished, pace);
    await fsyncPath(unfinished);
    const snapshot = { name, time: new Date(time).toISOString(), bytes, sha256, rows };
    await publishSnapshot(directory, unfinished, snapshot);
    await removeExcessSnapshots(directory, keep, name);
    return snapshot;
  } finally {
    for (const side of FILE_SUFFIXES) await rm(`${unfinished}${side}`, { force: true });
  }
}

/** Copies the database, and lets go of it: what follows needs the copy alone. */
async function copyUsageDatabase(
  source: UsageSource,
  directory: string,
  unfinished: string,
  pace: DutyCycleThrottle,
): Promise<{ readonly time: number; readonly name: string; readonly bytes: number }> {
  const { time, name } = await reserveName(directory);
  const opened = openUsageDatabase(source);
  try {
    const bytes = beginReadTransaction(source, opened.database);
    await freeDiskSpace(directory, bytes);
    await copyThrottled(opened, unfinished, pace);
    return { time, name, bytes };
  } catch (error) {
    const isOfTheSource = error instanceof Database.SqliteError && SOURCE_ERROR_CODES.has(error.code);
    throw isOfTheSource ? toUsageSourceError(source.databasePath, error) : error;
  } finally {
    opened.close();
  }
}

/** What only the database that is copied can be the reason of: nobody else knows the copy. */
const SOURCE_ERROR_CODES: ReadonlySet<string> = new Set(['SQLITE_BUSY', 'SQLITE_CORRUPT', 'SQLITE_NOTADB']);

/** Begins the transaction that the whole copy is made in. Returns the bytes it will have. */
function beginReadTransaction(source: UsageSource, database: Database.Database): number {
  try {
    database.exec('BEGIN');
    // Only a read makes the transaction begin.
    return copySizeBytes(database);
  } catch (error) {
    throw toUsageSourceError(source.databasePath, error);
  }
}

/** A second that no snapshot is named after: this one, or the next. */
async function reserveName(directory: string): Promise<{ readonly time: number; readonly name: string }> {
  for (;;) {
    const time = Date.now();
    const name = snapshotName(time);
    if (!existsSync(join(directory, name))) return { time, name };
    await sleep(1000 - (time % 1000));
  }
}

/** Removes old snapshots where that, and nothing less, makes room; the newest one stays whatever comes. */
async function freeDiskSpace(directory: string, bytes: number): Promise<void> {
  const lack = describeSpaceShortage(directory, bytes, 'a snapshot');
  if (lack === null) return;
  const removable = (await readSnapshots(directory)).slice(1);
  const removableBytes = removable.reduce((sum, snapshot) => sum + snapshot.bytes, 0);
  // What would be lost for nothing stays.
  if (removableBytes < missingBytes(directory, bytes)) throw new NoSpaceError(lack);
  for (const { name } of removable.toReversed()) {
    await removeSnapshot(directory, name);
    if (missingBytes(directory, bytes) <= 0) return;
  }
  throw new NoSpaceError(describeSpaceShortage(directory, bytes, 'a snapshot') ?? lack);
}

/** The one that was just taken stays, also where the clock was put back and others seem newer. */
async function removeExcessSnapshots(directory: string, keep: number, justTaken: string): Promise<void> {
  const others = (await readSnapshots(directory)).filter(({ name }) => name !== justTaken);
  for (const { name } of others.slice(keep - 1)) await removeSnapshot(directory, name);
}

async function hashFile(path: string, pace: DutyCycleThrottle): Promise<string> {
  const sum = createHash('sha256');
  for await (const chunk of createReadStream(path, { highWaterMark: HASH_CHUNK_BYTES })) {
    sum.update(chunk);
    pace.pause();
  }
  return sum.digest('hex');
}

const DISK_FULL_CODES: ReadonlySet<string> = new Set(['SQLITE_FULL', 'ENOSPC', 'EDQUOT']);

function describeError({ source, directory }: SnapshotTask, error: unknown): string {
  if (error instanceof UsageSourceError || error instanceof NoSpaceError) return error.message;
  if (error instanceof DamagedCopyError) {
    return `the snapshot of "${source.databasePath}" is not kept: ${error.message}`;
  }
  if (!(error instanceof Error)) return `the snapshot failed: ${String(error)}`;
  if (DISK_FULL_CODES.has(errorCode(error))) {
    return `the disk of "${directory}" became full while a snapshot was written to it: make room there`;
  }
  return `can't write a snapshot to "${directory}": ${error.message}`;
}
