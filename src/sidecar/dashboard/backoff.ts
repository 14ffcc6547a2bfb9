/** Waits after the first, second, … failure in a row, in milliseconds. The last one repeats. */
const BACKOFF_MS = [1000, 2000, 4000, 8000, 15_000, 30_000] as const;

/** How long to wait after so many failures in a row, in milliseconds. */
export function backoffMs(failuresInARow: number): number {
  return BACKOFF_MS[Math.min(failuresInARow, BACKOFF_MS.length) - 1] ?? BACKOFF_MS[0];
}
