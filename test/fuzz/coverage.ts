import { Session } from 'node:inspector';
import type { Profiler } from 'node:inspector';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

/** Start of a block: the index of its file, and its offset in there. */
type Point = string;

const SRC = join(import.meta.dirname, '..', '..', 'src');

/** The URL by which V8 knows a file inside src. */
export function addressOf(source: string): string {
  return pathToFileURL(join(SRC, source)).href;
}

/**
 * Counts which blocks of some files have run, with V8's own counters over the inspector. It must start before
 * the files are loaded.
 */
export class Coverage implements Disposable {
  readonly #session = new Session();
  readonly #addresses: readonly string[];
  /** Every known block, and whether it ever ran. */
  readonly #points = new Map<Point, boolean>();

  constructor(addresses: readonly string[]) {
    this.#addresses = addresses;
    this.#session.connect();
    this.#session.post('Profiler.enable');
    this.#session.post('Profiler.startPreciseCoverage', { callCount: true, detailed: true });
  }

  get blocks(): number {
    return this.#points.size;
  }

  get coveredBlocks(): number {
    return [...this.#points.values()].filter(Boolean).length;
  }

  /** The blocks that ran since the last call, each with an approximate count. */
  take(): string[] {
    const features: string[] = [];
    for (const { url, functions } of this.#read()) {
      const file = this.#addresses.indexOf(url);
      if (file < 0) continue;
      for (const { ranges } of functions) this.#addFeatures(file, ranges, features);
    }
    return features;
  }

  /** V8 omits a block that ran as often as its parent, so each known block is looked up. */
  #addFeatures(file: number, ranges: readonly Profiler.CoverageRange[], features: string[]): void {
    const [functionRange] = ranges;
    if (functionRange === undefined) return;
    const offsets = this.#offsetsIn(file, functionRange);
    for (const { startOffset } of ranges) offsets.add(startOffset);
    for (const offset of offsets) {
      // Ranges are nested, outermost first: the last one that contains an offset is the innermost.
      const { count = 0 } =
        ranges.findLast(({ startOffset, endOffset }) => startOffset <= offset && offset < endOffset) ?? {};
      const point = `${file}:${offset}`;
      this.#points.set(point, count > 0 || this.#points.get(point) === true);
      if (count > 0) features.push(`${point}x${bucketOf(count)}`);
    }
  }

  readonly #offsets = new Map<string, Set<number>>();

  /** The known offsets in a function. */
  #offsetsIn(file: number, { startOffset, endOffset }: Profiler.CoverageRange): Set<number> {
    const name = `${file}:${startOffset}-${endOffset}`;
    const offsets = this.#offsets.get(name) ?? new Set();
    this.#offsets.set(name, offsets);
    return offsets;
  }

  #read(): readonly Profiler.ScriptCoverage[] {
    let result: readonly Profiler.ScriptCoverage[] = [];
    // Within one process the response arrives before this returns.
    this.#session.post('Profiler.takePreciseCoverage', (error, coverage) => {
      if (error !== null) throw error;
      result = coverage.result;
    });
    return result;
  }

  [Symbol.dispose](): void {
    this.#session.disconnect();
  }
}

/** Distinguished counts: 1, 2, 3, 4 to 7, 8 to 15, and so on. */
function bucketOf(count: number): number {
  return count < 4 ? count : Math.min(9, Math.floor(Math.log2(count)) + 2);
}
