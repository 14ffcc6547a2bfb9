import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { readCorpus } from './corpus.ts';
import { reasonAgainst } from './search.ts';
import { TARGETS, TARGET_NAMES } from './targets.ts';

describe('the stored inputs of the fuzzer', () => {
  for (const name of TARGET_NAMES) {
    test(`for ${name} are handled correctly`, () => {
      const target = TARGETS[name];
      const inputs = readCorpus(name);
      assert.ok(inputs.length > 10, 'there are inputs');
      for (const input of inputs) {
        const reason = reasonAgainst(target, input);
        assert.equal(reason, null, `${JSON.stringify(input.toString('latin1'))}: ${reason}`);
      }
    });
  }
});
