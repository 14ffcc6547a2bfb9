import { closeSync, fsyncSync, openSync } from 'node:fs';
import { open } from 'node:fs/promises';

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
