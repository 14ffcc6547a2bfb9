import { statfsSync } from 'node:fs';

/** Space that always stays free for other programs: the larger of these two. */
const RESERVE_BYTES = 64 * 2 ** 20;
const RESERVE_SHARE = 0.05;

const MEGABYTE = 1e6;

/**
 * How many bytes the file system of `directory` lacks to store `bytes` more and keep its reserve free; 0 or
 * less if they fit.
 *
 * @throws the file system's error if it denies access
 */
export function missingBytes(directory: string, bytes: number): number {
  const { availableBytes, reserveBytes } = readDiskSpace(directory);
  return bytes + reserveBytes - availableBytes;
}

/**
 * A sentence with figures if `bytes` more do not fit into the file system of `directory`; null if they fit.
 */
export function describeSpaceShortage(directory: string, bytes: number, what: string): string | null {
  const { availableBytes, reserveBytes } = readDiskSpace(directory);
  if (availableBytes >= bytes + reserveBytes) return null;
  return (
    `the disk of "${directory}" has ${formatMegabytes(availableBytes)} free, but ${what} takes ${formatMegabytes(bytes)} ` +
    `and ${formatMegabytes(reserveBytes)} must stay free: free some space there`
  );
}

function readDiskSpace(directory: string): {
  readonly availableBytes: number;
  readonly reserveBytes: number;
} {
  const { bavail, blocks, bsize } = statfsSync(directory);
  return {
    availableBytes: bavail * bsize,
    reserveBytes: Math.max(RESERVE_BYTES, RESERVE_SHARE * blocks * bsize),
  };
}

function formatMegabytes(bytes: number): string {
  return `${(bytes / MEGABYTE).toFixed(1)} MB`;
}
