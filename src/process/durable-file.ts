import { closeSync, fsyncSync, openSync } from 'node:fs';
import { open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';

/** Flushes a file, or the names in a directory, to disk, so that it survives a power cut. */
export async function fsyncPath(path: string): Promise<void> {
  const handle = await open(path, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** The same for programs that may block. */
export function fsyncPathSync(path: string): void {
  const descriptor = openSync(path, 'r');
  try {
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

/**
 * Creates a file whose content is on disk when this resolves. Rename it and call `fsyncPath` for its
 * directory afterwards: in the other order, a power cut may leave the new name with an empty file.
 *
 * @param mode of the file, regardless of the umask; null: 0644, restricted by the umask
 * @throws EEXIST if the path exists
 */
export async function writeDurably(path: string, text: string, mode: number | null = null): Promise<void> {
  const handle = await open(path, 'wx', mode ?? 0o644);
  try {
    if (mode !== null) await handle.chmod(mode);
    await handle.writeFile(text);
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Suffix of a file while `replaceDurably` writes it. */
export const UNFINISHED_SUFFIX = '.unfinished';

/**
 * Creates or replaces a file. After a crash or a power cut it has either the old or the new content. Only one
 * call at a time is allowed for each path.
 *
 * @param mode as for `writeDurably`
 */
export async function replaceDurably(path: string, text: string, mode: number | null = null): Promise<void> {
  const unfinished = path + UNFINISHED_SUFFIX;
  try {
    await rm(unfinished, { force: true });
    await writeDurably(unfinished, text, mode);
    await rename(unfinished, path);
  } catch (error) {
    // Frees space on a full disk. The first error is the one to report.
    await rm(unfinished, { force: true }).catch(() => null);
    throw error;
  }
  await fsyncPath(dirname(path));
}
