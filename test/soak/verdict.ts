/** Resources of a relay without clients. */
export interface IdleSample {
  readonly residentMiB: number;
  /** On V8's heap and in buffers outside of it, after a garbage collection. */
  readonly heapMiB: number;
  readonly fdCount: number;
  /** Timers, sockets and other resources that keep an event loop alive, by Node's names. */
  readonly resources: Readonly<Record<string, number>>;
}

/** Pages that the kernel and the allocators keep for reuse; their number depends on the preceding load. */
const RESIDENT_MARGIN_MIB = 24;

/** Optimised code, and maps that have grown and are empty again. */
const HEAP_MARGIN_MIB = 1;

/**
 * Returns one message per leak. File descriptors and resources must be back after each round. Memory is
 * compared by medians, of the first and the last third of the samples.
 *
 * @param samples in order, at least three; the first one is the baseline
 */
export function findLeaks(samples: readonly IdleSample[]): string[] {
  const [first] = samples;
  if (first === undefined || samples.length < 3) throw new Error('too few samples to see a trend');
  const leaks: string[] = [];
  const fdCounts = samples.map(({ fdCount }) => fdCount);
  if (fdCounts.some((count) => count !== first.fdCount)) {
    leaks.push(`descriptors: ${fdCounts.join(', ')}`);
  }
  for (const name of new Set(samples.flatMap(({ resources }) => Object.keys(resources)))) {
    const counts = samples.map(({ resources }) => resources[name] ?? 0);
    if (counts.some((count) => count > (counts[0] ?? 0))) leaks.push(`${name}: ${counts.join(', ')}`);
  }
  const memory = [
    ['heap', HEAP_MARGIN_MIB, samples.map(({ heapMiB }) => heapMiB)],
    ['RSS', RESIDENT_MARGIN_MIB, samples.map(({ residentMiB }) => residentMiB)],
  ] as const;
  for (const [name, margin, values] of memory) {
    const third = Math.ceil(values.length / 3);
    const [before, after] = [median(values.slice(0, third)), median(values.slice(-third))];
    if (after - before > margin) leaks.push(`${name}: from ${before.toFixed(1)} to ${after.toFixed(1)} MiB`);
  }
  return leaks;
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((one, other) => one - other);
  const half = sorted.length / 2;
  return ((sorted[Math.ceil(half) - 1] ?? NaN) + (sorted[Math.floor(half)] ?? NaN)) / 2;
}
