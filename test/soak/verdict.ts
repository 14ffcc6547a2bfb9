/** What a relay held at a moment when nobody was there. */
export interface IdleSample {
  readonly residentMiB: number;
  /** On V8's heap and in buffers outside of it, once garbage is collected. */
  readonly heapMiB: number;
  readonly fdCount: number;
  /** Timers, sockets and whatever else keeps an event loop, by Node's name for them. */
  readonly resources: Readonly<Record<string, number>>;
}

/** The kernel and the allocators keep pages for next time, and how many depends on what was going on before. */
const RESIDENT_MARGIN_MIB = 24;

/** Code that became hot, and maps that have grown and are empty again. */
const HEAP_MARGIN_MIB = 1;

/**
 * Says what leaks, a sentence for each thing; nothing when nothing does. Descriptors and resources must be back each time.
 * Memory is compared by medians, of the first third of the samples and of the last.
 *
 * @param samples in the order they were taken, three at least; the first one is what everything has to come back to
 */
export function findLeaks(samples: readonly IdleSample[]): string[] {
  const [first] = samples;
  if (first === undefined || samples.length < 3) throw new Error('too few samples to see a trend');
  const leaks: string[] = [];
  const extremes = samples.map(({ fdCount }) => fdCount);
  if (extremes.some((count) => count !== first.fdCount)) {
    leaks.push(`descriptors: ${extremes.join(', ')}`);
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
