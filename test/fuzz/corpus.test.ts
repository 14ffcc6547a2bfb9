import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { readCorpus } from './corpus.ts';
import { reasonAgainst } from './fuzzer.ts';
import { TARGET_NAMES, loadTarget } from './targets.ts';

describe('the stored inputs of the fuzzer', () => {
  for (const name of TARGET_NAMES) {
    test(`for ${name} are handled correctly`, async () => {
      const target = await loadTarget(name);
      const inputs = readCorpus(name);
      assert.ok(inputs.length > 10, 'there are inputs');
      for (const input of inputs) {
        const reason = reasonAgainst(target, input);
        assert.equal(reason, null, `${JSON.stringify(input.toString('latin1'))}: ${reason}`);
      }
    });
  }
});
