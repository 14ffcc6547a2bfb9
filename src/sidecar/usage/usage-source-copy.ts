import { spawnSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { chmodSync, existsSync, mkdirSync, readdirSync, renameSync, rmSync, statSync } from 'node:fs';
import type { BigIntStats } from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { fsyncPathSync } from '../../process/durable-file.ts';
import { FILE_SUFFIXES, SQLITE_HEADER_BYTES, journalKindOf } from '../../usage/sqlite-file.ts';
import type { JournalKind } from '../../usage/sqlite-file.ts';
import { describeSpaceShortage } from '../disk-space.ts';

/** Output limit of `head` and `cp`: a header or an error message. */
const MAX_OUTPUT_BYTES = 65_536;

/** The files of one database at one moment; null for missing files. */
export interface DatabaseFiles {
  readonly main: BigIntStats | null;
  readonly wal: BigIntStats | null;
  readonly shm: BigIntStats | null;
  readonly journal: BigIntStats | null;
}

/** @throws the file system's error if it denies access */
export function statDatabaseFiles(path: string): DatabaseFiles {
  const [main = null, wal = null, shm = null, journal = null] = FILE_SUFFIXES.map((suffix) =>
    statSync(`${path}${suffix}`, { bigint: true, throwIfNoEntry: false }),
  );
  return { main, wal, shm, journal };
}

/** Two fingerprints are equal only if nothing was written between them. */
function fingerprint(files: DatabaseFiles): string {
  return [files.main, files.wal, files.journal]
    .map((state) => (state === null ? '0' : `${state.dev}.${state.ino}.${state.size}.${state.mtimeNs}`))
    .join('-');
}

/**
 * Reads the header with another program. A process that closes a file loses all its locks on that file,
 * including those of a SQLite connection to the same database.
 *
 * @throws if the file can't be read
 */
export function readJournalKind(path: string): JournalKind {
  return journalKindOf(runProgram('head', ['-c', String(SQLITE_HEADER_BYTES), path]));
}

function runProgram(program: string, args: readonly string[]): Buffer {
  const { error, status, stdout, stderr } = spawnSync(program, args, { maxBuffer: MAX_OUTPUT_BYTES });
  if (error !== undefined) throw error;
  if (status !== 0) throw new Error(stderr.toString().trim() || `${program} was interrupted`);
  return stdout;
}

/** There can be no copy. The message is a sentence for the operator. */
export class CopyError extends Error {}

/** The database was written while it was copied. The caller retries. */
export class SourceChangedError extends Error {}

const COPY_PREFIX = 'usage-copy-';
const UNFINISHED_SUFFIX = '.unfinished';

/** An unfinished copy without writes for this long is left over from a dead process, in milliseconds. */
const ABANDONED_AFTER_MS = 600_000;

/** The path of the copy of exactly this state, or null if there is none. */
export function findCopy(directory: string, files: DatabaseFiles): string | null {
  const path = copyPath(directory, files);
  return existsSync(path) ? path : null;
}

/**
 * Copies a database that no program has open, with the log or journal that a killed writer has left, and
 * turns the copy into a single file. Several processes may do that at once. Copies of earlier states are
 * removed.
 *
 * @returns the path of the copy
 * @throws CopyError if there is no space for it
 * @throws SourceChangedError if a program has started to write
 * @throws SqliteError if the database is damaged
 */
export function createCopy(path: string, files: DatabaseFiles, directory: string): string {
  try {
    mkdirSync(directory, { recursive: true });
    const shortage = describeSpaceShortage(
      directory,
      totalBytes(files),
      'a private copy of the usage database',
    );
    if (shortage !== null) throw new CopyError(shortage);
    const copy = copyAtomically(path, files, directory);
    removeCopies(directory, copy);
    return copy;
  } catch (error) {
    throw toCopyError(directory, error);
  }
}

/** Renames the copy to its final path when it is finished. Leaves nothing behind on errors. */
function copyAtomically(path: string, files: DatabaseFiles, directory: string): string {
  const copy = copyPath(directory, files);
  const unfinished = join(directory, `${COPY_PREFIX}${randomUUID()}${UNFINISHED_SUFFIX}`);
  try {
    copyFiles(path, files, unfinished);
    convertToSingleFile(unfinished);
    renameSync(unfinished, copy);
    return copy;
  } finally {
    for (const side of FILE_SUFFIXES) rmSync(`${unfinished}${side}`, { force: true });
  }
}

function toCopyError(directory: string, error: unknown): unknown {
  if (error instanceof CopyError || error instanceof SourceChangedError) return error;
  const isOfTheDatabase = error instanceof Database.SqliteError && error.code !== 'SQLITE_FULL';
  if (isOfTheDatabase || !(error instanceof Error)) return error;
  return new CopyError(`can't keep a private copy of the usage database in "${directory}": ${error.message}`);
}

/** Removes all copies but one. Processes that have a copy open can still read it. */
export function removeCopies(directory: string, keep: string | null): void {
  if (!existsSync(directory)) return;
  for (const name of readdirSync(directory)) {
    const path = join(directory, name);
    if (name.startsWith(COPY_PREFIX) && path !== keep && !isBeingWritten(path)) rmSync(path, { force: true });
  }
}

function isBeingWritten(path: string): boolean {
  if (!path.includes(UNFINISHED_SUFFIX)) return false;
  const state = statSync(path, { throwIfNoEntry: false });
  return state !== undefined && Date.now() - state.mtimeMs < ABANDONED_AFTER_MS;
}

function copyPath(directory: string, files: DatabaseFiles): string {
  return join(directory, `${COPY_PREFIX}${fingerprint(files)}.sqlite`);
}

function totalBytes(files: DatabaseFiles): number {
  return [files.main, files.wal, files.journal].reduce((sum, state) => sum + Number(state?.size ?? 0), 0);
}

/** Copies with another program, for the same reason as in `readJournalKind`. */
function copyFiles(path: string, files: DatabaseFiles, copy: string): void {
  try {
    runProgram('cp', [path, copy]);
    if (files.wal !== null) runProgram('cp', [`${path}-wal`, `${copy}-wal`]);
    if (files.journal !== null) runProgram('cp', [`${path}-journal`, `${copy}-journal`]);
  } finally {
    // If a writer has just started, or a file was just replaced, this error is thrown instead of that of `cp`.
    rejectChanges(path, files);
  }
}

/** @throws SourceChangedError if the database was written since `files` were read */
function rejectChanges(path: string, files: DatabaseFiles): void {
  if (fingerprint(statDatabaseFiles(path)) !== fingerprint(files))
    throw new SourceChangedError('the database was written during the copy');
}

/** Writes the content of the log or journal into the database file and removes it. */
function convertToSingleFile(copy: string): void {
  // The copy has the mode of the original, which may be read-only.
  chmodSync(copy, 0o600);
  const database = new Database(copy, { fileMustExist: true });
  try {
    database.pragma('journal_mode = DELETE');
  } finally {
    database.close();
  }
  // Before the rename: a power cut must not leave the final name with an incomplete file.
  fsyncPathSync(copy);
}
