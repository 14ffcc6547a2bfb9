import { statSync, statfsSync } from 'node:fs';

/** In bytes. */
export interface DiskUse {
  /** The database with its write-ahead log; 0 if there is none. */
  readonly databaseBytes: number;
  /** Free space of its file system, for programs without special rights. */
  readonly freeBytes: number;
}

/** Null if the file system denies access. May wait for the disk. */
export function readDiskUse(databasePath: string): DiskUse | null {
  const sizeOf = (path: string): number => statSync(path, { throwIfNoEntry: false })?.size ?? 0;
  try {
    const databaseBytes = sizeOf(databasePath) + sizeOf(`${databasePath}-wal`);
    const { bavail, bsize } = statfsSync(databasePath);
    return { databaseBytes, freeBytes: bavail * bsize };
  } catch {
    return null;
  }
}
