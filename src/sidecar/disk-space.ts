import { statfsSync } from 'node:fs';

/** What always stays free for everybody else on the file system: the larger of these two. */
const RESERVE_BYTES = 64 * 2 ** 20;
const RESERVE_SHARE = 0.05;

const MEGABYTE = 1e6;

/**
 * How many bytes are missing so that `bytes` more fit into the file system of `directory` and its reserve
 * stays free: 0 or less when they fit.
 *
 * @throws the file system's error where it does not let us look
 */
export function missingBytes(directory: string, bytes: number): number {
  const { availableBytes, reserveBytes } = readDiskSpace(directory);
  return bytes + reserveBytes - availableBytes;
}

/** A sentence that says, with figures, why `bytes` more do not fit beside `directory`; null when they do. */
export function describeSpaceShortage(directory: string, bytes: number, what: string): string | null {
  const { availableBytes, reserveBytes } = readDiskSpace(directory);
  if (availableBytes >= bytes + reserveBytes) return null;
  return (
    `the disk of "${directory}" has ${formatMegabytes(availableBytes)} free, and ${what} takes ${formatMegabytes(bytes)} ` +
    `while ${formatMegabytes(reserveBytes)} have to stay free: make room there`
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
