import { open } from 'node:fs/promises';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { isSqlite, quickCheck } from '../../usage/sqlite-file.ts';
import { readSnapshotFiles } from './snapshot-files.ts';

/**
 * Larger files are not read again: SQLite's check reads about 800 MB a second from a warm cache, and whoever asks has
 * two seconds. Such a file has passed the check when it was made.
 */
const MAX_FULL_CHECK_BYTES = 256 * 2 ** 20;

/** Where the header has the size of a page and the number of pages, and how long it is. */
const PAGE_BYTES_OFFSET = 16;
const PAGE_COUNT_OFFSET = 28;
const HEADER_BYTES = 100;

/** What the header says for pages of 64 KiB, which its two bytes can't hold. */
const LARGEST_PAGE_CODE = 1;
const LARGEST_PAGE_BYTES = 65_536;

const DURATION_UNITS = [
  ['d', 86_400_000],
  ['h', 3_600_000],
  ['min', 60_000],
  ['s', 1000],
] as const;

/**
 * Null when the newest snapshot is no older than `maxAgeMs` and is what it was when it was taken; else one line that
 * says what is wrong.
 *
 * @param now milliseconds since the epoch
 */
export async function checkNewestSnapshot(
  directory: string,
  maxAgeMs: number,
  now: number,
): Promise<string | null> {
  try {
    const newest = (await readSnapshotFiles(directory))[0];
    if (newest === undefined) return `there is no snapshot in "${directory}" yet`;
    const { name, snapshot } = newest;
    if (snapshot === null) return `the newest snapshot "${name}" does not fit the description beside it`;
    const ageMs = now - Date.parse(snapshot.time);
    if (ageMs > maxAgeMs) {
      return `the newest snapshot "${name}" is ${formatDuration(ageMs)} old, and should be no older than ${formatDuration(maxAgeMs)}`;
    }
    const fault = await findDamage(join(directory, name), snapshot.bytes);
    return fault === null ? null : `the newest snapshot "${name}" is damaged: ${fault}`;
  } catch (error) {
    return `can't look for snapshots in "${directory}": ${error instanceof Error ? error.message : String(error)}`;
  }
}

export interface SnapshotCheckTask {
  readonly directory: string;
  readonly maxAgeMs: number;
  readonly now: number;
}

/** The job of a process: `checkNewest`. */
export function runSnapshotCheck({ directory, maxAgeMs, now }: SnapshotCheckTask): Promise<string | null> {
  return checkNewestSnapshot(directory, maxAgeMs, now);
}

async function findDamage(path: string, bytes: number): Promise<string | null> {
  const handle = await open(path);
  try {
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(HEADER_BYTES), 0, HEADER_BYTES, 0);
    if (bytesRead < HEADER_BYTES || !isSqlite(buffer)) {
      return 'it is not an SQLite database';
    }
    if (sizeFromHeader(buffer) !== bytes) return 'its header tells of another size';
  } finally {
    await handle.close();
  }
  return bytes > MAX_FULL_CHECK_BYTES ? null : findContentDamage(path);
}

function sizeFromHeader(header: Buffer): number {
  const code = header.readUInt16BE(PAGE_BYTES_OFFSET);
  const pageBytes = code === LARGEST_PAGE_CODE ? LARGEST_PAGE_BYTES : code;
  return pageBytes * header.readUInt32BE(PAGE_COUNT_OFFSET);
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

/** As `2 h` or `1.5 d`. */
function formatDuration(durationMs: number): string {
  for (const [unit, unitMs] of DURATION_UNITS) {
    if (durationMs >= unitMs) return `${Number((durationMs / unitMs).toFixed(1))} ${unit}`;
  }
  return `${durationMs} ms`;
}
