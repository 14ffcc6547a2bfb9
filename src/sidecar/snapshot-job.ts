import { createHash } from 'node:crypto';
import { createReadStream, existsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import Database from 'better-sqlite3';
import { errorCode } from '../error-code.ts';
import type { Snapshot } from './api.ts';
import { BadCopyError, copyPaced, finishCopy, sizeOfCopy } from './snapshot-copy.ts';
import {
  publish,
  readSnapshots,
  removeSnapshot,
  snapshotName,
  sync,
  unfinishedPath,
} from './snapshot-files.ts';
import { Pace } from './snapshot-pace.ts';
import { lackOfRoom, missingBytes } from './snapshot-room.ts';
import { FILE_SUFFIXES } from './sqlite-file.ts';
import { UsageSourceError, openUsage, toUsageSourceError } from './usage-source.ts';
import type { UsageSource } from './usage-source.ts';

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
class NoRoomError extends Error {}

/** The job of a process: takes one snapshot, checks it, publishes it, and removes those that are too many. */
export async function takeSnapshot(task: SnapshotTask): Promise<SnapshotOutcome> {
  try {
    return { kind: 'taken', snapshot: await take(task) };
  } catch (error) {
    return { kind: 'failed', problem: describe(task, error) };
  }
}

async function take({ source, directory, keep }: SnapshotTask): Promise<Snapshot> {
  const pace = new Pace();
  const unfinished = unfinishedPath(directory);
  try {
    const { time, name, bytes } = await copy(source, directory, unfinished, pace);
    const rows = finishCopy(unfinished, bytes);
    pace.pause();
    const sha256 = await hash(unfinished, pace);
    await sync(unfinished);
    const snapshot = { name, time: new Date(time).toISOString(), bytes, sha256, rows };
    await publish(directory, unfinished, snapshot);
    await removeSurplus(directory, keep, name);
    return snapshot;
  } finally {
    for (const side of FILE_SUFFIXES) await rm(`${unfinished}${side}`, { force: true });
  }
}

/** Copies the database, and lets go of it: what follows needs the copy alone. */
async function copy(
  source: UsageSource,
  directory: string,
  unfinished: string,
  pace: Pace,
): Promise<{ readonly time: number; readonly name: string; readonly bytes: number }> {
  const { time, name } = await freeName(directory);
  const opened = openUsage(source);
  try {
    const bytes = beginReading(source, opened.database);
    await makeRoom(directory, bytes);
    await copyPaced(opened, unfinished, pace);
    return { time, name, bytes };
  } catch (error) {
    const isOfTheSource = error instanceof Database.SqliteError && SOURCE_FAULTS.has(error.code);
    throw isOfTheSource ? toUsageSourceError(source.databasePath, error) : error;
  } finally {
    opened.close();
  }
}

/** What only the database that is copied can be the reason of: nobody else knows the copy. */
const SOURCE_FAULTS: ReadonlySet<string> = new Set(['SQLITE_BUSY', 'SQLITE_CORRUPT', 'SQLITE_NOTADB']);

/** Begins the transaction that the whole copy is made in. Returns the bytes it will have. */
function beginReading(source: UsageSource, database: Database.Database): number {
  try {
    database.exec('BEGIN');
    // Only a read makes the transaction begin.
    return sizeOfCopy(database);
  } catch (error) {
    throw toUsageSourceError(source.databasePath, error);
  }
}

/** A second that no snapshot is named after: this one, or the next. */
async function freeName(directory: string): Promise<{ readonly time: number; readonly name: string }> {
  for (;;) {
    const time = Date.now();
    const name = snapshotName(time);
    if (!existsSync(join(directory, name))) return { time, name };
    await sleep(1000 - (time % 1000));
  }
}

/** Removes old snapshots where that, and nothing less, makes room; the newest one stays whatever comes. */
async function makeRoom(directory: string, bytes: number): Promise<void> {
  const lack = lackOfRoom(directory, bytes, 'a snapshot');
  if (lack === null) return;
  const removable = (await readSnapshots(directory)).slice(1);
  const removableBytes = removable.reduce((sum, snapshot) => sum + snapshot.bytes, 0);
  // What would be lost for nothing stays.
  if (removableBytes < missingBytes(directory, bytes)) throw new NoRoomError(lack);
  for (const { name } of removable.toReversed()) {
    await removeSnapshot(directory, name);
    if (missingBytes(directory, bytes) <= 0) return;
  }
  throw new NoRoomError(lackOfRoom(directory, bytes, 'a snapshot') ?? lack);
}

/** The one that was just taken stays, also where the clock was put back and others seem newer. */
async function removeSurplus(directory: string, keep: number, justTaken: string): Promise<void> {
  const others = (await readSnapshots(directory)).filter(({ name }) => name !== justTaken);
  for (const { name } of others.slice(keep - 1)) await removeSnapshot(directory, name);
}

async function hash(path: string, pace: Pace): Promise<string> {
  const sum = createHash('sha256');
  for await (const chunk of createReadStream(path, { highWaterMark: HASH_CHUNK_BYTES })) {
    sum.update(chunk);
    pace.pause();
  }
  return sum.digest('hex');
}

const FULL: ReadonlySet<string> = new Set(['SQLITE_FULL', 'ENOSPC', 'EDQUOT']);

function describe({ source, directory }: SnapshotTask, error: unknown): string {
  if (error instanceof UsageSourceError || error instanceof NoRoomError) return error.message;
  if (error instanceof BadCopyError) {
    return `the snapshot of "${source.databasePath}" is not kept: ${error.message}`;
  }
  if (!(error instanceof Error)) return `the snapshot failed: ${String(error)}`;
  if (FULL.has(errorCode(error))) {
    return `the disk of "${directory}" became full while a snapshot was written to it: make room there`;
  }
  return `can't write a snapshot to "${directory}": ${error.message}`;
}
