import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import * as fc from 'fast-check';
import { periodEnd, periodStart } from '../../../../src/limits/quota.ts';
import { toPeriodRange } from '../../../../src/sidecar/dashboard/usage-periods.ts';
import type { BillingPeriod, UsagePeriodRange } from '../../../../src/sidecar/dashboard/usage-periods.ts';
import { ROLLING_PERIODS, rangeOf } from './period-ranges.ts';

const NOW_MS = Date.UTC(2026, 1, 28, 23, 59, 59);

/** Edge cases of months, days and hours, and ordinary times. */
const anyTimeMs = fc.integer({ min: Date.UTC(2020, 0), max: Date.UTC(2040, 0) });

function isoRange({ fromMs, toMs }: UsagePeriodRange): string[] {
  return [fromMs, toMs].map((timeMs) => new Date(timeMs).toISOString());
}

function assertContiguous({ buckets, fromMs, toMs }: UsagePeriodRange, nowMs: number): void {
  assert.equal(buckets[0]?.startMs, fromMs);
  assert.equal(buckets.at(-1)?.endMs, toMs);
  for (const [bar, { startMs, endMs }] of buckets.entries()) {
    assert.ok(startMs < endMs);
    assert.equal(buckets[bar + 1]?.startMs ?? toMs, endMs);
  }
  assert.ok(fromMs <= nowMs && nowMs < toMs);
  assert.equal(buckets.filter(({ title }) => title.endsWith(', so far')).length, 1);
}

describe('the periods of the dashboard', () => {
  test('are 24 hours, 7 days, 30 days and 12 months, including the current one', () => {
    for (const [view, count, by] of [
      ['day', 24, 'hour'],
      ['week', 7, 'day'],
      ['month', 30, 'day'],
      ['year', 12, 'month'],
    ] as const) {
      const range = rangeOf(view, NOW_MS);
      assert.equal(range.by, by);
      assert.equal(range.buckets.length, count);
      assert.ok(range.buckets.at(-1)?.title.endsWith(', so far'));
    }
  });

  test('begin and end at hours, days and months in UTC', () => {
    const startsOf = (view: (typeof ROLLING_PERIODS)[number]): string[] => isoRange(rangeOf(view, NOW_MS));
    assert.deepEqual(startsOf('day'), ['2026-02-28T00:00:00.000Z', '2026-03-01T00:00:00.000Z']);
    assert.deepEqual(startsOf('week'), ['2026-02-22T00:00:00.000Z', '2026-03-01T00:00:00.000Z']);
    assert.deepEqual(startsOf('month'), ['2026-01-30T00:00:00.000Z', '2026-03-01T00:00:00.000Z']);
    assert.deepEqual(startsOf('year'), ['2025-03-01T00:00:00.000Z', '2026-03-01T00:00:00.000Z']);
  });

  test('have readable names', () => {
    const first = (view: (typeof ROLLING_PERIODS)[number]): string[] => {
      const [bucket] = rangeOf(view, NOW_MS).buckets;
      return [bucket?.label ?? '', bucket?.group ?? '', bucket?.title ?? ''];
    };
    assert.deepEqual(first('day'), ['00:00', '28 Feb', '28 Feb, 00:00–01:00']);
    assert.deepEqual(first('week'), ['Sun 22', 'Feb', 'Sunday 22 February']);
    assert.deepEqual(first('month'), ['Fri 30', 'Jan', 'Friday 30 January']);
    assert.deepEqual(first('year'), ['Mar', '2025', 'March 2025']);
  });

  test('have labels at midnight, at the newest day and in January, however few there are', () => {
    const labelled = (view: (typeof ROLLING_PERIODS)[number], step: number): string[] =>
      rangeOf(view, NOW_MS + 5 * 3_600_000)
        .buckets.filter(({ ordinal }) => ordinal % step === 0)
        .map(({ label, group }) => `${label} ${group}`);
    assert.deepEqual(labelled('day', 12), ['12:00 28 Feb', '00:00 1 Mar']);
    assert.deepEqual(labelled('month', 14), ['Sun 1 Feb', 'Sun 15 Feb', 'Sun 1 Mar']);
    assert.deepEqual(labelled('year', 6), ['Jul 2025', 'Jan 2026']);
  });

  test('have no gaps and contain the present at any time', () => {
    fc.assert(
      fc.property(fc.constantFrom(...ROLLING_PERIODS), anyTimeMs, (view, nowMs) => {
        const range = rangeOf(view, nowMs);
        assertContiguous(range, nowMs);
        assert.ok((range.buckets.at(-1)?.startMs ?? Infinity) <= nowMs);
      }),
    );
  });
});

describe('the billing period', () => {
  const billing: BillingPeriod = { startMs: Date.UTC(2026, 1, 12), endMs: Date.UTC(2026, 2, 12) };

  test('does not exist without a quota', () => {
    assert.equal(toPeriodRange('billing', NOW_MS), null);
  });

  test('is shown as a whole, by day', () => {
    const range = rangeOf('billing', NOW_MS, billing);
    assert.deepEqual(isoRange(range), ['2026-02-12T00:00:00.000Z', '2026-03-12T00:00:00.000Z']);
    assert.deepEqual([range.by, range.buckets.length], ['day', 28]);
    assert.equal(range.buckets[16]?.title, 'Saturday 28 February, so far');
    assert.equal(range.buckets[17]?.title, 'Sunday 1 March');
  });

  test('of a day is shown by hour', () => {
    const day = { startMs: Date.UTC(2026, 1, 28), endMs: Date.UTC(2026, 2, 1) };
    const range = rangeOf('billing', NOW_MS, day);
    assert.deepEqual([range.by, range.buckets.length], ['hour', 24]);
  });

  test('has no gaps, for any quota of the relay', () => {
    const anyQuota = fc.record({
      period: fc.constantFrom('month' as const, 'day' as const),
      resetDay: fc.integer({ min: 1, max: 31 }),
    });
    fc.assert(
      fc.property(anyQuota, anyTimeMs, (quota, nowMs) => {
        const period = { startMs: periodStart(nowMs, quota), endMs: periodEnd(nowMs, quota) };
        assertContiguous(rangeOf('billing', nowMs, period), nowMs);
      }),
    );
  });
});
