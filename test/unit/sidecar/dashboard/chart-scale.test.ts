import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import * as fc from 'fast-check';
import { toBarScale } from '../../../../src/sidecar/dashboard/chart-scale.ts';

/** Bars that exceed the scale, by value. */
function clippedOf(totals: readonly number[]): number[] {
  const { top, isClipped } = toBarScale(totals);
  const clipped = totals.filter((total) => total > top);
  assert.equal(isClipped, clipped.length > 0);
  return clipped;
}

describe('the scale of a bar chart', () => {
  test('is never empty', () => {
    assert.deepEqual(toBarScale([]), { top: 1, isClipped: false });
    assert.deepEqual(toBarScale([0, 0]), { top: 1, isClipped: false });
  });

  for (const [what, totals, clipped] of [
    ['similar bars', [3, 5, 8, 0, 20], []],
    ['one large transfer', [3, 5, 8, 0, 2000], [2000]],
    ['one bar alone', [0, 0, 2000], []],
    ['two very different bars', [1, 2000], []],
    ['a bar that is eight times as high as the next one', [1, 1, 1, 8], []],
    ['a bar that is a little higher', [1, 1, 1, 8.1], [8.1]],
    ['two of four', [1, 1, 900, 1000], []],
    ['two of sixteen', [...Array.from({ length: 14 }, () => 1), 900, 1000], [900, 1000]],
    ['numbers beyond all limits', [1e300, 1, 1, 1], [1e300]],
  ] as const) {
    test(`clips ${clipped.length} of ${what}`, () => {
      assert.deepEqual(clippedOf(totals), clipped);
    });
  }

  test('keeps most bars whole, and the tallest whole one visible', () => {
    const anyTotals = fc.array(fc.double({ min: 0, max: 1e15, noNaN: true }), { maxLength: 40 });
    fc.assert(
      fc.property(anyTotals, (totals) => {
        const { top } = toBarScale(totals);
        const positive = totals.filter((total) => total > 0);
        assert.ok(clippedOf(totals).length <= Math.max(1, positive.length / 8));
        const tallest = Math.max(0, ...positive.filter((total) => total <= top));
        assert.ok(positive.length === 0 || tallest >= 0.79 * top);
      }),
    );
  });
});
