import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import * as fc from 'fast-check';
import type { UsageRow, WaitingBucket } from '../../../../src/sidecar/api.ts';
import {
  USAGE_PERIODS,
  sum,
  toPeriodRange,
  toSeries,
  toWaitingBars,
  visibleMoods,
  waitingSummary,
} from '../../../../src/sidecar/dashboard/usage-series.ts';

const NOW_MS = Date.UTC(2026, 1, 28, 23, 59, 59);

/** Edge cases of months, days and hours, and ordinary times. */
const anyTimeMs = fc.integer({ min: Date.UTC(2020, 0), max: Date.UTC(2040, 0) });

function row(start: string, mood: string, records: number, bytes = 0): UsageRow {
  return { start, mood, records, total_bytes: bytes, total_time: 0, waiting_time: 0 };
}

function steps(...records: readonly number[]): WaitingBucket[] {
  const bounds = [1, 5, 30, 120, 600, 3600, null];
  return bounds.map((bound, index) => ({ at_most_seconds: bound, records: records[index] ?? 0 }));
}

function plain(text: string): string {
  return text.replaceAll('\u00a0', ' ');
}

describe('the periods of the dashboard', () => {
  test('are 24 hours, 7 days and 12 months, including the current one', () => {
    for (const [view, count, by] of [
      ['day', 24, 'hour'],
      ['week', 7, 'day'],
      ['year', 12, 'month'],
    ] as const) {
      const range = toPeriodRange(view, NOW_MS);
      assert.equal(range.by, by);
      assert.equal(range.buckets.length, count);
      assert.ok(range.buckets.at(-1)?.title.endsWith(', so far'));
    }
  });

  test('begin and end at hours, days and months in UTC', () => {
    const startsOf = (view: 'day' | 'week' | 'year'): string[] => {
      const { fromMs, toMs } = toPeriodRange(view, NOW_MS);
      return [fromMs, toMs].map((timeMs) => new Date(timeMs).toISOString());
    };
    assert.deepEqual(startsOf('day'), ['2026-02-28T00:00:00.000Z', '2026-03-01T00:00:00.000Z']);
    assert.deepEqual(startsOf('week'), ['2026-02-22T00:00:00.000Z', '2026-03-01T00:00:00.000Z']);
    assert.deepEqual(startsOf('year'), ['2025-03-01T00:00:00.000Z', '2026-03-01T00:00:00.000Z']);
  });

  test('have readable names', () => {
    const first = (view: 'day' | 'week' | 'year'): string[] => {
      const [bucket] = toPeriodRange(view, NOW_MS).buckets;
      return [bucket?.label ?? '', bucket?.title ?? ''];
    };
    assert.deepEqual(first('day'), ['00:00', '28 Feb, 00:00–01:00']);
    assert.deepEqual(first('week'), ['Sun 22', 'Sunday 22 February']);
    assert.deepEqual(first('year'), ['Mar', 'March 2025']);
  });

  test('have no gaps and contain the present at any time', () => {
    fc.assert(
      fc.property(fc.constantFrom(...USAGE_PERIODS), anyTimeMs, (view, nowMs) => {
        const { buckets, fromMs, toMs } = toPeriodRange(view, nowMs);
        assert.equal(buckets[0]?.startMs, fromMs);
        assert.ok((buckets.at(-1)?.startMs ?? Infinity) <= nowMs && nowMs < toMs);
        const starts = buckets.map((bucket) => bucket.startMs);
        assert.deepEqual(
          starts,
          [...new Set(starts)].toSorted((one, other) => one - other),
        );
      }),
    );
  });
});

describe('the bars of the dashboard', () => {
  const range = toPeriodRange('day', NOW_MS);

  test('are complete for all moods, with zeros for empty periods', () => {
    const series = toSeries(range, [row('2026-02-28T03:00:00.000Z', 'lonely', 2)]);
    assert.equal(series.moods.length, 7);
    for (const { mood, records, bytes } of series.moods) {
      const expected = range.buckets.map((_, bar) => (mood.name === 'lonely' && bar === 3 ? 2 : 0));
      assert.deepEqual([records, bytes], [expected, range.buckets.map(() => 0)]);
    }
  });

  test('group unknown moods', () => {
    const rows = ['jubilant', 'unknown', 'happy'].map((mood) => row('2026-02-28T00:00:00.000Z', mood, 1, 10));
    const series = toSeries(range, rows);
    const totals = visibleMoods(series).map(({ mood, totalRecords }) => [mood.name, totalRecords]);
    assert.deepEqual(totals, [
      ['happy', 1],
      ['other', 2],
    ]);
    assert.deepEqual([series.transfers, series.totalRecords, series.totalBytes], [1, 3, 30]);
  });

  test('show transfers even if there are none', () => {
    assert.deepEqual(
      visibleMoods(toSeries(range, [])).map(({ mood }) => mood.name),
      ['happy'],
    );
  });

  test('count each record in the range once, and none outside', () => {
    const anyRow = fc.record({
      startMs: fc.integer({ min: NOW_MS - 500 * 86_400_000, max: NOW_MS + 86_400_000 }),
      mood: fc.constantFrom('happy', 'lonely', 'errory', 'else'),
      records: fc.nat(1000),
      bytes: fc.nat(1e9),
    });
    fc.assert(
      fc.property(fc.constantFrom(...USAGE_PERIODS), fc.array(anyRow), (view, drawn) => {
        const asked = toPeriodRange(view, NOW_MS);
        const inside = drawn.filter(({ startMs }) => startMs >= asked.fromMs && startMs < asked.toMs);
        const rows = drawn.map(({ startMs, mood, records, bytes }) =>
          row(new Date(startMs).toISOString(), mood, records, bytes),
        );
        const series = toSeries(asked, rows);
        assert.equal(series.totalRecords, sum(inside.map(({ records }) => records)));
        assert.equal(sum(series.bytes), sum(inside.map(({ bytes }) => bytes)));
        assert.equal(series.totalBytes, sum(series.bytes));
      }),
    );
  });
});

describe('the waiting times on the dashboard', () => {
  test('have labels for their buckets', () => {
    const bars = toWaitingBars(steps(3, 1, 0, 0, 0, 0, 4));
    assert.deepEqual(
      bars.map(({ label }) => plain(label)),
      [
        'up to 1 s',
        '1 s to 5 s',
        '5 s to 30 s',
        '30 s to 2 min',
        '2 min to 10 min',
        '10 min to 1 h',
        'over 1 h',
      ],
    );
    assert.deepEqual(
      bars.map(({ share }) => share),
      [0.375, 0.125, 0, 0, 0, 0, 0.5],
    );
  });

  const sentences: readonly (readonly [records: readonly number[], sentence: string])[] = [
    [[], 'There were no transfers in this period.'],
    [[5, 5], '50 % waited at most 1 s for their partner.'],
    [[10, 73, 17], '83 % waited at most 5 s for their partner.'],
    [[0, 0, 0, 0, 0, 1, 2], '67 % waited longer than 1 h for their partner.'],
  ];
  for (const [records, sentence] of sentences) {
    test(`of ${JSON.stringify(records)} is: ${sentence}`, () => {
      assert.equal(plain(waitingSummary(steps(...records))), sentence);
    });
  }

  test('have no shares without transfers', () => {
    assert.ok(toWaitingBars(steps()).every(({ share }) => share === 0));
  });
});
