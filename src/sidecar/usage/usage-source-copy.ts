import { spawnSync } from 'node:child_process';
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
import { FILE_SUFFIXES, isSqlite } from '../../usage/sqlite-file.ts';
import { describeSpaceShortage } from '../disk-space.ts';

/** Bytes 18 and 19 of the header are the versions that writers and readers need; 2 means a write-ahead log. */
const VERSIONS_OFFSET = 18;
const WAL_VERSION = 2;

const HEADER_BYTES = 20;

/** Of a program that reads a header or says why it can't copy. */
const MAX_OUTPUT_BYTES = 65_536;

/** What identifies one state of a file: nothing is written without a change of it. */
export interface FileState {
  readonly dev: bigint;
  readonly ino: bigint;
  readonly size: bigint;
  readonly mtimeNs: bigint;
  readonly isFile: boolean;
}

/** The files of one database as they were at one moment; null for those that were not there. */
export interface DatabaseFiles {
  readonly main: FileState | null;
  readonly wal: FileState | null;
  readonly shm: FileState | null;
  readonly journal: FileState | null;
}

/** @throws the file system's error where it does not let us look */
export function statDatabaseFiles(path: string): DatabaseFiles {
  return {
    main: statFile(path),
    wal: statFile(`${path}-wal`),
    shm: statFile(`${path}-shm`),
    journal: statFile(`${path}-journal`),
  };
}

/** One line that two looks share only when nothing was written between them. */
export function fingerprint(files: DatabaseFiles): string {
  return [files.main, files.wal, files.journal]
    .map((state) => (state === null ? '0' : `${state.dev}.${state.ino}.${state.size}.${state.mtimeNs}`))
    .join('-');
}

/** What the header of a file says. */
export type JournalKind = 'no database' | 'rollback journal' | 'write-ahead log';

/**
 * Reads the header. Another process does it, since a process that closes a file loses all its locks on that
 * file: a caller that has the same database open in SQLite would be without.
 *
 * @throws when the file can't be read
 */
export function readJournalKind(path: string): JournalKind {
  const header = runProgram('head', ['-c', String(HEADER_BYTES), path]);
  if (!isSqlite(header)) return 'no database';
  const versions = header.subarray(VERSIONS_OFFSET, HEADER_BYTES);
  return versions.includes(WAL_VERSION) ? 'write-ahead log' : 'rollback journal';
}

/** Copies a file as it is. Another process does it, for the same reason. @throws when that fails */
export function copyFileWithCp(from: string, to: string): void {
  runProgram('cp', [from, to]);
}

function runProgram(program: string, args: readonly string[]): Buffer {
  const { error, status, stdout, stderr } = spawnSync(program, args, { maxBuffer: MAX_OUTPUT_BYTES });
  if (error !== undefined) throw error;
  if (status !== 0) throw new Error(stderr.toString().trim() || `${program} was broken off`);
  return stdout;
}

function statFile(path: string): FileState | null {
  const state = statSync(path, { bigint: true, throwIfNoEntry: false });
  if (state === undefined) return null;
  const { dev, ino, size, mtimeNs } = state;
  return { dev, ino, size, mtimeNs, isFile: state.isFile() };
}

/** Why there can be no copy, in a sentence for the operator. */
export class CopyError extends Error {}

/** The database was written while it was copied. Whoever asked looks again at what is there now. */
export class SourceChangedError extends Error {}

const COPY_PREFIX = 'usage-copy-';
const UNFINISHED_SUFFIX = '.unfinished';

/** A copy that nobody has written to for so long is that of a process that is gone, in milliseconds. */
const ABANDONED_AFTER_MS = 600_000;

/** The path of the copy of just this state, or null where there is none. */
export function findCopy(directory: string, files: DatabaseFiles): string | null {
  const path = copyPath(directory, files);
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
export function createCopy(path: string, files: DatabaseFiles, directory: string): string {
  try {
    mkdirSync(directory, { recursive: true });
    const lack = describeSpaceShortage(directory, totalBytes(files), 'a private copy of the usage database');
    if (lack !== null) throw new CopyError(lack);
    const copy = copyAtomically(path, files, directory);
    removeCopies(directory, copy);
    return copy;
  } catch (error) {
    throw toCopyError(directory, error);
  }
}

/** Puts a copy in its place when it is finished, and leaves nothing when it can't be. */
function copyAtomically(path: string, files: DatabaseFiles, directory: string): string {
  const copy = copyPath(directory, files);
  const unfinished = join(directory, `${COPY_PREFIX}${randomUUID()}${UNFINISHED_SUFFIX}`);
  try {
    copyFiles(path, files, unfinished);
    if (fingerprint(statDatabaseFiles(path)) !== fingerprint(files))
      throw new SourceChangedError('written meanwhile');
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

/** Removes all copies but one. Those that are open somewhere stay readable there. */
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

function copyFiles(path: string, files: DatabaseFiles, copy: string): void {
  try {
    copyFileWithCp(path, copy);
    if (files.wal !== null) copyFileWithCp(`${path}-wal`, `${copy}-wal`);
    if (files.journal !== null) copyFileWithCp(`${path}-journal`, `${copy}-journal`);
  } catch (error) {
    // A writer that has just begun, or a file that was just replaced, is no fault.
    if (fingerprint(statDatabaseFiles(path)) !== fingerprint(files))
      throw new SourceChangedError('written meanwhile');
    throw error;
  }
}

/** Takes in what the log or journal has, and ends the need for either. */
function convertToSingleFile(copy: string): void {
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
