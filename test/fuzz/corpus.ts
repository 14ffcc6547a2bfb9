import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/**
 * Inputs that are kept, a file each, named by what is in it: in `corpus/` those that together run what can be run, which
 * are replaced by better ones; in `found/` those that showed a mistake once, which stay; in `crashes/` what was found
 * just now.
 */

const CORPUS = join(import.meta.dirname, 'corpus');
const FOUND = join(import.meta.dirname, 'found');
const CRASHES = join(import.meta.dirname, 'crashes');

/** A corpus has no more: they would take long to replay, and add little. */
export const MAX_CORPUS_FILES = 100;

function nameOf(input: Uint8Array): string {
  return createHash('sha256').update(input).digest('hex').slice(0, 16);
}

/** The inputs kept for a target, always in the same order. */
export function readCorpus(target: string): Buffer[] {
  return [...readAll(join(CORPUS, target)), ...readAll(join(FOUND, target))];
}

function readAll(directory: string): Buffer[] {
  if (!existsSync(directory)) return [];
  return readdirSync(directory)
    .toSorted()
    .map((file) => readFileSync(join(directory, file)));
}

/** Puts these in the place of those that are there. */
export function writeCorpus(target: string, inputs: readonly Uint8Array[]): void {
  const directory = join(CORPUS, target);
  mkdirSync(directory, { recursive: true });
  const names = new Map(inputs.map((input) => [nameOf(input), input]));
  for (const file of readdirSync(directory)) if (!names.has(file)) rmSync(join(directory, file));
  for (const [name, input] of names) writeFileSync(join(directory, name), input);
}

/** Writes an input that broke a target, and what is to be known of it beside it. Returns the path of the input. */
export function writeCrash(target: string, input: Uint8Array, notes: (path: string) => string): string {
  mkdirSync(CRASHES, { recursive: true });
  const path = join(CRASHES, `${target}-${nameOf(input)}`);
  writeFileSync(path, input);
  writeFileSync(`${path}.txt`, notes(path));
  return path;
}
