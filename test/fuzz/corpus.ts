import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/**
 * Stored inputs, one file each, named by a hash: `corpus/` covers all code that inputs can reach; `found/` has
 * inputs that once showed a bug; `crashes/` has new findings.
 */

const CORPUS = join(import.meta.dirname, 'corpus');
const FOUND = join(import.meta.dirname, 'found');
const CRASHES = join(import.meta.dirname, 'crashes');

function nameOf(input: Uint8Array): string {
  return createHash('sha256').update(input).digest('hex').slice(0, 16);
}

/** The stored inputs of a target, always in the same order. */
export function readCorpus(target: string): Buffer[] {
  return [...readAll(join(CORPUS, target)), ...readAll(join(FOUND, target))];
}

function readAll(directory: string): Buffer[] {
  if (!existsSync(directory)) return [];
  return readdirSync(directory)
    .toSorted()
    .map((file) => readFileSync(join(directory, file)));
}

/** Writes an input that broke a target, with a description next to it. Returns the path of the input. */
export function writeCrash(target: string, input: Uint8Array, notes: (path: string) => string): string {
  mkdirSync(CRASHES, { recursive: true });
  const path = join(CRASHES, `${target}-${nameOf(input)}`);
  writeFileSync(path, input);
  writeFileSync(`${path}.txt`, notes(path));
  return path;
}
