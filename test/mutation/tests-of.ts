import { existsSync, globSync, readFileSync } from 'node:fs';
import { posix } from 'node:path';
import { importsOf } from '../unit/architecture/imports.ts';

/** Threads are started from the address of their file. */
const THREADS = /new URL\(\s*'(\.{1,2}\/[^']+\.ts|[\w-]+\.ts)'\s*,\s*import\.meta\.url/gu;

/** Finds the tests that load a source. */
export class TestsOf {
  /** By test: its distance to each file that it loads, in imports. */
  readonly #distances = new Map<string, ReadonlyMap<string, number>>();

  /** @param patterns of paths inside the current directory */
  constructor(patterns: readonly string[]) {
    const loadedBy = new Map<string, readonly string[]>();
    const imports = (file: string): readonly string[] => {
      const found = loadedBy.get(file) ?? loadedFiles(file);
      loadedBy.set(file, found);
      return found;
    };
    for (const pattern of patterns) {
      for (const test of globSync(pattern).toSorted())
        this.#distances.set(test, distancesFrom(test, imports));
    }
  }

  /**
   * The tests that load a source, nearest first: those of its name, then those that import it in fewer steps.
   * Tests of an earlier pattern come before others.
   */
  nearestFirst(source: string): string[] {
    const name = source.replace(/^src\//u, 'unit/').replace(/\.ts$/u, '');
    const rank = (test: string): number => {
      if (test.startsWith(`test/${name}`)) return 0;
      return (this.#distances.get(test)?.get(source) ?? 0) + (test.startsWith('test/unit/') ? 0 : 1000);
    };
    return [...this.#distances.keys()]
      .filter((test) => this.#distances.get(test)?.has(source))
      .toSorted((a, b) => rank(a) - rank(b));
  }
}

function loadedFiles(file: string): string[] {
  // The texts of some tests contain imports of files that do not exist.
  if (!file.endsWith('.ts') || !existsSync(file)) return [];
  const text = readFileSync(file, 'utf8');
  const specifiers = [
    ...importsOf(text).flatMap(({ specifier, kind }) => (kind === 'type' ? [] : [specifier])),
    ...[...text.matchAll(THREADS)].map(([, path]) => `./${path ?? ''}`),
  ];
  return specifiers
    .filter((specifier) => specifier.startsWith('.'))
    .map((specifier) => posix.join(posix.dirname(file), specifier));
}

function distancesFrom(test: string, imports: (file: string) => readonly string[]): Map<string, number> {
  const distances = new Map([[test, 0]]);
  // A map is iterated in the order of insertion, and includes what is added meanwhile.
  for (const [file, distance] of distances) {
    for (const imported of imports(file)) {
      if (!distances.has(imported)) distances.set(imported, distance + 1);
    }
  }
  return distances;
}
