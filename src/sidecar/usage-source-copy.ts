import { randomUUID } from 'node:crypto';
import {
  chmodSync,
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
} from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { FILE_SUFFIXES } from './sqlite-file.ts';
import { lackOfRoom } from './snapshot-room.ts';
import { copyRaw, fingerprint, lookAt } from './usage-source-files.ts';
import type { SourceFiles } from './usage-source-files.ts';

/** Why there can be no copy, in a sentence for the operator. */
export class CopyError extends Error {}

/** The database was written while it was copied. Whoever asked looks again at what is there now. */
export class SourceChangedError extends Error {}

const PREFIX = 'usage-copy-';
const UNFINISHED = '.unfinished';

/** A copy that nobody has written to for so long is that of a process that is gone, in milliseconds. */
const ABANDONED_MS = 600_000;

/** The path of the copy of just this state, or null where there is none. */
export function findCopy(directory: string, files: SourceFiles): string | null {
  const path = pathOfCopy(directory, files);
  return existsSync(path) ? path : null;
}

/**
 * Copies a database that nobody has open, with the log or journal that a killed writer has left, and makes it
 * one file that needs no others. Several processes may do that at once; copies of earlier states go.
 *
 * @returns the path of the copy
 * @throws CopyError when there is no place for it
 * @throws SourceChangedError when somebody has begun to write
 * @throws SqliteError when it is no sound database
 */
export function makeCopy(path: string, files: SourceFiles, directory: string): string {
  try {
    mkdirSync(directory, { recursive: true });
    const lack = lackOfRoom(directory, sizeOf(files), 'a private copy of the usage database');
    if (lack !== null) throw new CopyError(lack);
    const copy = copyWhole(path, files, directory);
    dropCopies(directory, copy);
    return copy;
  } catch (error) {
    throw toCopyError(directory, error);
  }
}

/** Puts a copy in its place when it is finished, and leaves nothing when it can't be. */
function copyWhole(path: string, files: SourceFiles, directory: string): string {
  const copy = pathOfCopy(directory, files);
  const unfinished = join(directory, `${PREFIX}${randomUUID()}${UNFINISHED}`);
  try {
    copyFiles(path, files, unfinished);
    if (fingerprint(lookAt(path)) !== fingerprint(files)) throw new SourceChangedError('written meanwhile');
    simplify(unfinished);
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

/** Removes all copies but one. Those that are open somewhere stay readable there. */
export function dropCopies(directory: string, keep: string | null): void {
  if (!existsSync(directory)) return;
  for (const name of readdirSync(directory)) {
    const path = join(directory, name);
    if (name.startsWith(PREFIX) && path !== keep && !isBeingWritten(path)) rmSync(path, { force: true });
  }
}

function isBeingWritten(path: string): boolean {
  if (!path.includes(UNFINISHED)) return false;
  const state = statSync(path, { throwIfNoEntry: false });
  return state !== undefined && Date.now() - state.mtimeMs < ABANDONED_MS;
}

function pathOfCopy(directory: string, files: SourceFiles): string {
  return join(directory, `${PREFIX}${fingerprint(files)}.sqlite`);
}

function sizeOf(files: SourceFiles): number {
  return [files.main, files.wal, files.journal].reduce((sum, state) => sum + Number(state?.size ?? 0), 0);
}

function copyFiles(path: string, files: SourceFiles, copy: string): void {
  try {
    copyRaw(path, copy);
    if (files.wal !== null) copyRaw(`${path}-wal`, `${copy}-wal`);
    if (files.journal !== null) copyRaw(`${path}-journal`, `${copy}-journal`);
  } catch (error) {
    // A writer that has just begun, or a file that was just replaced, is no fault.
    if (fingerprint(lookAt(path)) !== fingerprint(files)) throw new SourceChangedError('written meanwhile');
    throw error;
  }
}

/** Takes in what the log or journal has, and ends the need for either. */
function simplify(copy: string): void {
  // The copy has the original's mode, which may be read-only.
  chmodSync(copy, 0o600);
  const database = new Database(copy, { fileMustExist: true });
  try {
    database.pragma('journal_mode = DELETE');
  } finally {
    database.close();
  }
  // After a power cut a name must not stand for less than the whole.
  const descriptor = openSync(copy, 'r');
  try {
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}
