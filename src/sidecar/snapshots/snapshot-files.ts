import { randomUUID } from 'node:crypto';
import { readFile, readdir, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { fsyncPath, writeDurably } from '../../process/durable-file.ts';
import { errorCode } from '../../process/errors.ts';
import type { Snapshot } from '../api.ts';

/**
 * Prefix of unfinished files in a snapshot directory: work in progress, or left over from a killed process.
 */
const UNFINISHED_PREFIX = '.unfinished-';

const METADATA_SUFFIX = '.json';

const SNAPSHOT_NAME = /^usage-\d{8}T\d{6}Z\.sqlite$/u;

/** Readable by all users: access is controlled by the directory's mode. */
export const SNAPSHOT_FILE_MODE = 0o644;

/** A file with the name of a snapshot. */
export interface SnapshotFile {
  readonly name: string;
  /** Null if the metadata is missing or describes another file. Such a file is not a valid snapshot. */
  readonly snapshot: Snapshot | null;
}

/** @param time milliseconds since the epoch; the name contains it in seconds */
export function snapshotName(time: number): string {
  const second = new Date(time).toISOString().slice(0, 19);
  return `usage-${second.replaceAll(/[-:]/gu, '')}Z.sqlite`;
}

/** A path for an unfinished file. It is removed the next time the directory is opened, if not before. */
export function unfinishedPath(directory: string): string {
  return join(directory, `${UNFINISHED_PREFIX}${randomUUID()}.sqlite`);
}

/** All files with the name of a snapshot, newest first. */
export async function readSnapshotFiles(directory: string): Promise<SnapshotFile[]> {
  const names = (await readdir(directory)).filter((name) => SNAPSHOT_NAME.test(name));
  const files = await Promise.all(names.map((name) => readSnapshotFile(directory, name)));
  return files.filter((file) => file !== null).toSorted((a, b) => (a.name < b.name ? 1 : -1));
}

/** The valid snapshots, newest first. */
export async function readSnapshots(directory: string): Promise<Snapshot[]> {
  const files = await readSnapshotFiles(directory);
  return files.map(({ snapshot }) => snapshot).filter((snapshot) => snapshot !== null);
}

/**
 * Turns a finished file into a snapshot. When this resolves, the snapshot is valid and on disk. If it fails,
 * no new snapshot is valid.
 */
export async function publishSnapshot(
  directory: string,
  finished: string,
  snapshot: Snapshot,
): Promise<void> {
  const unfinished = unfinishedPath(directory);
  try {
    await writeDurably(unfinished, `${JSON.stringify(snapshot)}\n`, SNAPSHOT_FILE_MODE);
    // The metadata file comes first: without its snapshot it is small, has no effect, and is clearly ours.
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

/** Removes what a killed process has left: unfinished files, and metadata of files that no longer exist. */
export async function removeLeftovers(directory: string): Promise<void> {
  const names = await readdir(directory);
  const present = new Set(names);
  const isLeftover = (name: string): boolean => {
    if (name.startsWith(UNFINISHED_PREFIX)) return true;
    const described = name.slice(0, -METADATA_SUFFIX.length);
    return name.endsWith(METADATA_SUFFIX) && SNAPSHOT_NAME.test(described) && !present.has(described);
  };
  await Promise.all(names.filter(isLeftover).map((name) => rm(join(directory, name), { force: true })));
}

async function readSnapshotFile(directory: string, name: string): Promise<SnapshotFile | null> {
  const path = join(directory, name);
  const bytes = await nullIfMissing(async () => (await stat(path)).size);
  if (bytes === null) return null;
  const text = await nullIfMissing(() => readFile(`${path}${METADATA_SUFFIX}`, 'utf8'));
  const snapshot = text === null ? null : parseMetadata(text);
  const fits = snapshot !== null && snapshot.name === name && snapshot.bytes === bytes;
  return { name, snapshot: fits ? snapshot : null };
}

/** Null for a missing file: another process may remove one at any time. */
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
