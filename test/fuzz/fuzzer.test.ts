import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { Dice } from '../support/dice.ts';
import { Coverage } from './coverage.ts';
import { Fuzzer, reasonAgainst } from './fuzzer.ts';
import type { Finding } from './fuzzer.ts';
import { mutate } from './mutate.ts';
import { shrink } from './shrink.ts';
import { MAX_INPUT_BYTES, splitsOf } from './target.ts';
import type { Target } from './target.ts';

const LABYRINTH = pathToFileURL(join(import.meta.dirname, 'fixtures', 'labyrinth.ts')).href;

/** Maximum inputs for the labyrinth; with coverage it takes a few hundred. */
const MAX_STEPS = 20_000;

interface Exploration {
  readonly finding: Finding | null;
  readonly corpus: readonly string[];
}

/** Findings of a fuzzer with the coverage of these files. */
async function explore(addresses: readonly string[], steps: number): Promise<Exploration> {
  using coverage = new Coverage(addresses);
  // Loaded again for each test, because V8 counts only what was loaded afterwards.
  const { labyrinth }: { labyrinth: (bytes: Uint8Array) => void } = await import(
    `./fixtures/labyrinth.ts?${addresses.length}`
  );
  const target: Target = {
    dictionary: ['a', 'e', 'l', 'r', 'y', '-', ' ', '\n'],
    make: () => '',
    check: (input) => labyrinth(input),
  };
  const fuzzer = new Fuzzer(target, coverage, new Dice(1));
  let finding: Finding | null = null;
  for (let step = 0; step < steps && finding === null; step += 1) finding = fuzzer.step();
  return { finding, corpus: fuzzer.corpus.map((entry) => entry.toString('latin1')) };
}

describe('the fuzzer', () => {
  test('reaches the end of the labyrinth with coverage, and minimises the inputs that it keeps', async () => {
    const { finding, corpus } = await explore([`${LABYRINTH}?1`], MAX_STEPS);
    assert.equal(finding?.input.toString('latin1'), 'relay');
    assert.match(finding.reason, /the middle of the labyrinth/u);
    assert.deepEqual(corpus.toSorted(), ['', 'r', 're', 'rel', 'rela']);
  });

  test('does not reach the end of the labyrinth without coverage', async () => {
    const { finding, corpus } = await explore([], MAX_STEPS / 4);
    assert.equal(finding, null);
    assert.deepEqual(corpus, ['']);
  });

  test('keeps inputs with new behaviour, and not more than necessary', () => {
    using coverage = new Coverage([]);
    const target: Target = { dictionary: ['x'], make: () => 'x', check: () => {} };
    const fuzzer = new Fuzzer(target, coverage, new Dice(1));
    for (let step = 0; step < 100; step += 1) assert.equal(fuzzer.step(), null);
    assert.equal(fuzzer.corpus.length, 1, 'only the initial empty input');
    assert.deepEqual(fuzzer.distill(10), []);
  });

  test('gives the same result for the same input', () => {
    const numbers: number[] = [];
    const target: Target = {
      dictionary: ['x'],
      make: () => '',
      check: (_, random) => {
        numbers.push(random.roll());
        throw new Error('always');
      },
    };
    for (const text of ['a', 'b', 'a'])
      assert.match(reasonAgainst(target, Buffer.from(text)) ?? '', /always/u);
    assert.equal(numbers[0], numbers[2]);
    assert.notEqual(numbers[0], numbers[1]);
  });
});

describe('a mutation', () => {
  test('differs from its input and is not too long', () => {
    const random = new Dice(1);
    const input = Buffer.alloc(MAX_INPUT_BYTES - 10, 'please relay ');
    const seen = new Set<string>();
    for (let round = 0; round < 500; round += 1) {
      const mutated = mutate(input, random, { corpus: [input], dictionary: [Buffer.from('token')] });
      assert.ok(mutated.length <= MAX_INPUT_BYTES);
      seen.add(mutated.toString('latin1'));
    }
    assert.ok(seen.size > 400, `${seen.size} different ones`);
  });

  test('does not change its input', () => {
    const random = new Dice(1);
    const input = Buffer.from('please relay');
    for (let round = 0; round < 500; round += 1)
      mutate(input, random, { corpus: [input], dictionary: [input] });
    assert.equal(input.toString(), 'please relay');
  });
});

describe('a minimised input', () => {
  test('has the kept property and nothing else', () => {
    const input = Buffer.from('aaaaaaaaXbbbbbbbbbbbbbYcccccc');
    const keeps = (candidate: Buffer): boolean => candidate.includes('X') && candidate.includes('Y');
    assert.equal(shrink(input, keeps, 1000).toString(), 'XY');
    assert.equal(shrink(input, keeps, 0).toString(), input.toString());
    assert.equal(shrink(input, () => true, 1000).length, 0);
  });
});

describe('the splits of an input', () => {
  test('are the whole input, single bytes, and random pieces', () => {
    const input = Buffer.from('please relay');
    const splits = splitsOf(input, new Dice(1));
    for (const chunks of splits) assert.equal(Buffer.concat(chunks).toString(), 'please relay');
    assert.equal(splits[0]?.length, 1);
    assert.ok(splits[1]?.every((chunk) => chunk.length <= 1));
  });
});
