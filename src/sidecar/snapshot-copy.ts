import { closeSync, fchmodSync, fdatasyncSync, openSync, statSync } from 'node:fs';
import Database from 'better-sqlite3';
import { FILE_MODE } from './snapshot-files.ts';
import type { Pace } from './snapshot-pace.ts';
import { quickCheck } from './sqlite-file.ts';
import type { OpenUsage } from './usage-source.ts';

/** Copied between two pauses: large enough to be read in one go, and a few milliseconds of work. */
const STEP_BYTES = 2 ** 20;

/** The disk is given this much at a time, so that its work is part of what the pauses are measured by. */
const SYNC_BYTES = 32 * 2 ** 20;

/** The relay's log can't begin anew while it is read. When it has grown by this, the rest is copied without pauses. */
const LOG_GROWTH_BYTES = 256 * 2 ** 20;

/** All pages that a database can have. */
const ALL_PAGES = 0x7fff_ffff;

/** The copy is not what it was copied from, in a sentence for the operator. */
export class BadCopyError extends Error {}

/** How large a copy of what is to be seen in this read transaction becomes, in bytes. */
export function sizeOfCopy(database: Database.Database): number {
  return Number(database.pragma('page_count', { simple: true })) * pageBytes(database);
}

function pageBytes(database: Database.Database): number {
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
export async function copyPaced(source: OpenUsage, path: string, pace: Pace): Promise<void> {
  const { database, blocksWriter } = source;
  const stepPages = Math.max(1, Math.floor(STEP_BYTES / pageBytes(database)));
  const syncPages = stepPages * Math.floor(SYNC_BYTES / STEP_BYTES);
  const hurryAboveBytes = logBytes(database) + LOG_GROWTH_BYTES;
  const descriptor = openSync(path, 'wx', FILE_MODE);
  try {
    // The mode above is subject to the umask.
    fchmodSync(descriptor, FILE_MODE);
    let syncAtRemaining = Number.POSITIVE_INFINITY;
    await database.backup(path, {
      progress: ({ totalPages, remainingPages }) => {
        if (blocksWriter) return ALL_PAGES;
        syncAtRemaining = Math.min(syncAtRemaining, totalPages - syncPages);
        if (remainingPages <= syncAtRemaining) {
          fdatasyncSync(descriptor);
          syncAtRemaining = remainingPages - syncPages;
        }
        if (logBytes(database) <= hurryAboveBytes) pace.pause();
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
export function finishCopy(path: string, bytes: number): number {
  const copy = new Database(path, { fileMustExist: true });
  try {
    copy.pragma('journal_mode = DELETE');
    const fault = quickCheck(copy);
    if (fault !== null) throw new BadCopyError(fault);
    if (sizeOfCopy(copy) !== bytes) throw new BadCopyError('the copy is not complete');
    return Number(copy.prepare('SELECT count(*) FROM usage').pluck().get());
  } finally {
    copy.close();
  }
}

function logBytes(database: Database.Database): number {
  return statSync(`${database.name}-wal`, { throwIfNoEntry: false })?.size ?? 0;
}
