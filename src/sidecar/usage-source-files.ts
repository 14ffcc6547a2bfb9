import { spawnSync } from 'node:child_process';
import { statSync } from 'node:fs';
import { isSqlite } from './sqlite-file.ts';

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
export interface SourceFiles {
  readonly main: FileState | null;
  readonly wal: FileState | null;
  readonly shm: FileState | null;
  readonly journal: FileState | null;
}

/** @throws the file system's error where it does not let us look */
export function lookAt(path: string): SourceFiles {
  return {
    main: stateOf(path),
    wal: stateOf(`${path}-wal`),
    shm: stateOf(`${path}-shm`),
    journal: stateOf(`${path}-journal`),
  };
}

/** One line that two looks share only when nothing was written between them. */
export function fingerprint(files: SourceFiles): string {
  return [files.main, files.wal, files.journal]
    .map((state) => (state === null ? '0' : `${state.dev}.${state.ino}.${state.size}.${state.mtimeNs}`))
    .join('-');
}

/** What the header of a file says. */
export type Header = 'no database' | 'rollback journal' | 'write-ahead log';

/**
 * Reads the header. Another process does it, since a process that closes a file loses all its locks on that
 * file: a caller that has the same database open in SQLite would be without.
 *
 * @throws when the file can't be read
 */
export function readHeader(path: string): Header {
  const header = run('head', ['-c', String(HEADER_BYTES), path]);
  if (!isSqlite(header)) return 'no database';
  const versions = header.subarray(VERSIONS_OFFSET, HEADER_BYTES);
  return versions.includes(WAL_VERSION) ? 'write-ahead log' : 'rollback journal';
}

/** Copies a file as it is. Another process does it, for the same reason. @throws when that fails */
export function copyRaw(from: string, to: string): void {
  run('cp', [from, to]);
}

function run(program: string, args: readonly string[]): Buffer {
  const { error, status, stdout, stderr } = spawnSync(program, args, { maxBuffer: MAX_OUTPUT_BYTES });
  if (error !== undefined) throw error;
  if (status !== 0) throw new Error(stderr.toString().trim() || `${program} was broken off`);
  return stdout;
}

function stateOf(path: string): FileState | null {
  const state = statSync(path, { bigint: true, throwIfNoEntry: false });
  if (state === undefined) return null;
  const { dev, ino, size, mtimeNs } = state;
  return { dev, ino, size, mtimeNs, isFile: state.isFile() };
}
