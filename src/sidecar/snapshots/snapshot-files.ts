import { randomUUID } from 'node:crypto';
import { open, readFile, readdir, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { errorCode } from '../../process/error-code.ts';
import type { Snapshot } from '../api.ts';

/** What may be in a directory of snapshots without being one: work that is not finished, or never will be. */
export const UNFINISHED_PREFIX = '.unfinished-';

const METADATA_SUFFIX = '.json';

const SNAPSHOT_NAME = /^usage-\d{8}T\d{6}Z\.sqlite$/u;

/** For everybody: whoever may enter the directory may read what is in it. */
export const SNAPSHOT_FILE_MODE = 0o644;

/** A file that is named like a snapshot. */
export interface SnapshotFile {
  readonly name: string;
  readonly bytes: number;
  /** Null when its metadata is missing or tells of another file: it does not count. */
  readonly snapshot: Snapshot | null;
}

/** @param time milliseconds since the epoch; the name says the second */
export function snapshotName(time: number): string {
  const second = new Date(time).toISOString().slice(0, 19);
  return `usage-${second.replaceAll(/[-:]/gu, '')}Z.sqlite`;
}

/** A path for work that is not finished. It is removed when the directory is next opened, if not sooner. */
export function unfinishedPath(directory: string): string {
  return join(directory, `${UNFINISHED_PREFIX}${randomUUID()}.sqlite`);
}

/** All files that are named like snapshots, by name from the newest to the oldest. */
export async function readSnapshotFiles(directory: string): Promise<SnapshotFile[]> {
  const names = (await readdir(directory)).filter((name) => SNAPSHOT_NAME.test(name));
  const files = await Promise.all(names.map((name) => readSnapshotFile(directory, name)));
  return files.filter((file) => file !== null).toSorted((a, b) => (a.name < b.name ? 1 : -1));
}

/** The snapshots that count, newest first. */
export async function readSnapshots(directory: string): Promise<Snapshot[]> {
  const files = await readSnapshotFiles(directory);
  return files.map(({ snapshot }) => snapshot).filter((snapshot) => snapshot !== null);
}

/**
 * Makes a snapshot of a finished file: when this resolves, it counts and is on disk; when it does not come to that,
 * nothing counts that did not before.
 */
export async function publishSnapshot(
  directory: string,
  finished: string,
  snapshot: Snapshot,
): Promise<void> {
  const unfinished = unfinishedPath(directory);
  try {
    await writeDurably(unfinished, `${JSON.stringify(snapshot)}\n`);
    // The metadata come first: alone they are small, do not count, and can be told from an operator's file.
    await rename(unfinished, join(directory, `${snapshot.name}${METADATA_SUFFIX}`));
    await rename(finished, join(directory, snapshot.name));
    await fsyncPath(directory);
  } finally {
    await rm(unfinished, { force: true });
  }
}

export async function removeSnapshot(directory: string, name: string): Promise<void> {
  await rm(join(directory, name), { force: true });
  await rm(join(directory, `${name}${METADATA_SUFFIX}`), { force: true });
}

/** Removes what a process that was killed has left: unfinished files, and metadata of files that are gone. */
export async function removeLeftovers(directory: string): Promise<void> {
  const names = await readdir(directory);
  const present = new Set(names);
  const isRemains = (name: string): boolean => {
    if (name.startsWith(UNFINISHED_PREFIX)) return true;
    const described = name.slice(0, -METADATA_SUFFIX.length);
    return name.endsWith(METADATA_SUFFIX) && SNAPSHOT_NAME.test(described) && !present.has(described);
  };
  await Promise.all(names.filter(isRemains).map((name) => rm(join(directory, name), { force: true })));
}

/** Makes sure that a file, or the names in a directory, survive a power cut. */
export async function fsyncPath(path: string): Promise<void> {
  const handle = await open(path, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

async function writeDurably(path: string, text: string): Promise<void> {
  const handle = await open(path, 'wx', SNAPSHOT_FILE_MODE);
  try {
    // The mode above is subject to the umask.
    await handle.chmod(SNAPSHOT_FILE_MODE);
    await handle.writeFile(text);
    await handle.sync();
  } finally {
    await handle.close();
  }
}

async function readSnapshotFile(directory: string, name: string): Promise<SnapshotFile | null> {
  const path = join(directory, name);
  const bytes = await nullIfMissing(async () => (await stat(path)).size);
  if (bytes === null) return null;
  const text = await nullIfMissing(() => readFile(`${path}${METADATA_SUFFIX}`, 'utf8'));
  const snapshot = text === null ? null : parseMetadata(text);
  const fits = snapshot !== null && snapshot.name === name && snapshot.bytes === bytes;
  return { name, bytes, snapshot: fits ? snapshot : null };
}

/** Null for a file that has gone, as another process may remove one at any time. */
async function nullIfMissing<T>(read: () => Promise<T>): Promise<T | null> {
  try {
    return await read();
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return null;
    throw error;
  }
}

function parseMetadata(text: string): Snapshot | null {
  try {
    const value: unknown = JSON.parse(text);
    return isSnapshot(value) ? value : null;
  } catch (error) {
    if (error instanceof SyntaxError) return null;
    throw error;
  }
}

function isSnapshot(value: unknown): value is Snapshot {
  if (typeof value !== 'object' || value === null) return false;
  if (!('name' in value && 'time' in value && 'bytes' in value && 'sha256' in value && 'rows' in value))
    return false;
  const { name, time, bytes, sha256, rows } = value;
  return (
    typeof name === 'string' &&
    typeof time === 'string' &&
    !Number.isNaN(Date.parse(time)) &&
    Number.isSafeInteger(bytes) &&
    typeof sha256 === 'string' &&
    /^[\da-f]{64}$/u.test(sha256) &&
    Number.isSafeInteger(rows)
  );
}
