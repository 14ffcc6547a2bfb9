import { open } from 'node:fs/promises';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { SQLITE_HEADER_BYTES, journalKindOf, quickCheck, sizeFromHeader } from '../../usage/sqlite-file.ts';
import { readSnapshotFiles } from './snapshot-files.ts';

/**
 * Larger files are not read again: SQLite's check reads about 800 MB/s from a warm cache, and the caller has
 * two seconds. Such a file passed the check when it was created.
 */
const MAX_FULL_CHECK_BYTES = 256 * 2 ** 20;

const DURATION_UNITS = [
  ['d', 86_400_000],
  ['h', 3_600_000],
  ['min', 60_000],
  ['s', 1000],
] as const;

export interface SnapshotCheckTask {
  readonly directory: string;
  readonly maxAgeMs: number;
  /** Milliseconds since the epoch. */
  readonly now: number;
}

/**
 * Checks the age and the content of the newest snapshot. It blocks, so call it only in processes that may
 * block.
 *
 * @returns the problem in one line; null if the snapshot is no older than `maxAgeMs` and undamaged
 */
export async function checkNewestSnapshot({
  directory,
  maxAgeMs,
  now,
}: SnapshotCheckTask): Promise<string | null> {
  try {
    const newest = (await readSnapshotFiles(directory))[0];
    if (newest === undefined) return `there is no snapshot in "${directory}" yet`;
    const { name, snapshot } = newest;
    if (snapshot === null) return `the newest snapshot "${name}" does not match its metadata file`;
    const ageMs = now - Date.parse(snapshot.time);
    if (ageMs > maxAgeMs) {
      return `the newest snapshot "${name}" is ${formatDuration(ageMs)} old; it should be at most ${formatDuration(maxAgeMs)}`;
    }
    const damage = await findDamage(join(directory, name), snapshot.bytes);
    return damage === null ? null : `the newest snapshot "${name}" is damaged: ${damage}`;
  } catch (error) {
    return `can't read snapshots in "${directory}": ${error instanceof Error ? error.message : String(error)}`;
  }
}

async function findDamage(path: string, bytes: number): Promise<string | null> {
  const handle = await open(path);
  try {
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(SQLITE_HEADER_BYTES));
    if (bytesRead < SQLITE_HEADER_BYTES || journalKindOf(buffer) === 'no database')
      return 'it is not an SQLite database';
    if (sizeFromHeader(buffer) !== bytes) return 'its header states another size';
  } finally {
    await handle.close();
  }
  return bytes > MAX_FULL_CHECK_BYTES ? null : findContentDamage(path);
}

function findContentDamage(path: string): string | null {
  try {
    const database = new Database(path, { readonly: true, fileMustExist: true });
    try {
      return quickCheck(database);
    } finally {
      database.close();
    }
  } catch (error) {
    if (error instanceof Database.SqliteError) return `SQLite says ${error.code}`;
    throw error;
  }
}

/** Formats a duration as `2 h` or `1.5 d`. */
function formatDuration(durationMs: number): string {
  for (const [unit, unitMs] of DURATION_UNITS) {
    if (durationMs >= unitMs) return `${Number((durationMs / unitMs).toFixed(1))} ${unit}`;
  }
  return `${durationMs} ms`;
}
