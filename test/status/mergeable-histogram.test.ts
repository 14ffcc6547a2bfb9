import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Histogram, Registry } from 'prom-client';
import { MergeableHistogram } from '../../src/status/histograms.ts';

const BOUNDS = [0.1, 1, 60, 1e12];

/** Values at, below and above each bound. */
const VALUES = [0, 0.1, 0.11, 0.9, 1, 1.5, 60, 61, 1e12, 2e12];

describe('a mergeable histogram', () => {
  test('renders the same text as a histogram of prom-client', async () => {
    const registry = new Registry();
    const expected = new Histogram({
      name: 'sizes',
      help: 'Of things.',
      buckets: BOUNDS,
      registers: [registry],
    });
    const ours = new MergeableHistogram('sizes', 'Of things.', BOUNDS);
    for (const value of [undefined, ...VALUES]) {
      if (value !== undefined) {
        expected.observe(value);
        ours.observe(value);
      }
      assert.equal(ours.render(), await registry.metrics());
    }
  });

  test('is the same whether it observes all values or adds another histogram', () => {
    const [all, some, others] = [1, 2, 3].map(() => new MergeableHistogram('sizes', 'Of things.', BOUNDS));
    assert.ok(all !== undefined && some !== undefined && others !== undefined);
    // Integers, because sums of fractions depend on their order.
    for (const [index, value] of VALUES.map(Math.ceil).entries()) {
      all.observe(value);
      (index % 3 === 0 ? some : others).observe(value);
    }
    some.add(others);
    assert.equal(some.render(), all.render());
  });
});
