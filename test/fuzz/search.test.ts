import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Dice } from '../support/dice.ts';
import { reasonAgainst, search } from './search.ts';
import { shrink } from './shrink.ts';
import { MAX_INPUT_BYTES, splitsOf } from './target.ts';
import type { Target } from './target.ts';

const LINE: Target = { dictionary: ['please ', 'relay '], make: () => 'please relay 1', check: () => {} };

/** Enough for any of these findings; the search ends with the finding. */
const SECONDS = 30;

describe('the search', () => {
  test('finds an input that breaks a target, and minimises it', () => {
    const check = (input: Buffer): void => {
      if (input.includes('relay 2')) throw new Error('the wrong number');
    };
    const { finding, executions } = search({ ...LINE, check }, { stored: [], seconds: SECONDS, seed: 1 });
    assert.equal(Buffer.from(finding?.input ?? []).toString(), 'relay 2');
    assert.match(finding?.reason ?? '', /the wrong number/u);
    assert.ok(executions > 1);
  });

  test('runs the stored inputs first, and edits them', () => {
    const inputs: string[] = [];
    const check = (input: Buffer): void => {
      inputs.push(input.toString());
      if (/^stored .*please /u.test(input.toString())) throw new Error('an edit');
    };
    const stored = [Buffer.from('stored 1'), Buffer.from('stored 2')];
    const { finding } = search({ ...LINE, check }, { stored, seconds: SECONDS, seed: 1 });
    assert.deepEqual(inputs.slice(0, 2), ['stored 1', 'stored 2']);
    assert.equal(Buffer.from(finding?.input ?? []).toString(), 'stored please ');
  });

  test('gives the same inputs for the same seed, none of them too long', () => {
    const run = (seed: number): string[] => {
      const inputs: string[] = [];
      const check = (input: Buffer): void => {
        inputs.push(input.toString('latin1'));
        assert.ok(input.length <= MAX_INPUT_BYTES);
        if (inputs.length > 100) throw new Error('enough');
      };
      search({ ...LINE, check }, { stored: [], seconds: SECONDS, seed });
      return inputs.slice(0, 100);
    };
    assert.deepEqual(run(1), run(1));
    assert.notDeepEqual(run(1), run(2));
  });

  test('ends without a finding when its time is up', () => {
    const { finding, executions } = search(LINE, { stored: [], seconds: 0.1, seed: 1 });
    assert.equal(finding, null);
    assert.ok(executions > 0);
  });

  test('gives the same result for the same input', () => {
    const numbers: number[] = [];
    const check = (_: Buffer, random: Dice): void => {
      numbers.push(random.roll());
      throw new Error('always');
    };
    for (const text of ['a', 'b', 'a'])
      assert.match(reasonAgainst({ ...LINE, check }, Buffer.from(text)) ?? '', /always/u);
    assert.equal(numbers[0], numbers[2]);
    assert.notEqual(numbers[0], numbers[1]);
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
