import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/**
 * Stored inputs, one file each, named by a hash: `corpus/` covers all code that inputs can reach, and is
 * replaced by better inputs; `found/` has inputs that once showed a bug, and is permanent; `crashes/` has new
 * findings.
 */

const CORPUS = join(import.meta.dirname, 'corpus');
const FOUND = join(import.meta.dirname, 'found');
const CRASHES = join(import.meta.dirname, 'crashes');

/** Maximum size of a corpus: more inputs would take long to replay and add little. */
export const MAX_CORPUS_FILES = 100;

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

/** Replaces the corpus of a target. */
export function writeCorpus(target: string, inputs: readonly Uint8Array[]): void {
  const directory = join(CORPUS, target);
  mkdirSync(directory, { recursive: true });
  const names = new Map(inputs.map((input) => [nameOf(input), input]));
  for (const file of readdirSync(directory)) if (!names.has(file)) rmSync(join(directory, file));
  for (const [name, input] of names) writeFileSync(join(directory, name), input);
}

/** Writes an input that broke a target, with a description next to it. Returns the path of the input. */
export function writeCrash(target: string, input: Uint8Array, notes: (path: string) => string): string {
  mkdirSync(CRASHES, { recursive: true });
  const path = join(CRASHES, `${target}-${nameOf(input)}`);
  writeFileSync(path, input);
  writeFileSync(`${path}.txt`, notes(path));
  return path;
}
