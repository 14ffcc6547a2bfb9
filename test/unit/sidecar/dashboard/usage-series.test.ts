import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import * as fc from 'fast-check';
import type { UsageRow, WaitingBucket } from '../../../../src/sidecar/api.ts';
import {
  chartTitle,
  sum,
  toSeries,
  toWaitingBars,
  visibleMoods,
  waitingSummary,
} from '../../../../src/sidecar/dashboard/usage-series.ts';
import { rangeOf, ROLLING_PERIODS } from './period-ranges.ts';

const NOW_MS = Date.UTC(2026, 1, 28, 23, 59, 59);

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

describe('the bars of the dashboard', () => {
  const range = rangeOf('day', NOW_MS);

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

  test('have a title that says whether there are other outcomes than transfers', () => {
    const titleOf = (...moods: readonly string[]): string =>
      chartTitle(
        toSeries(
          range,
          moods.map((mood) => row('2026-02-28T00:00:00.000Z', mood, 1)),
        ),
      );
    assert.equal(titleOf(), 'Transfers');
    assert.equal(titleOf('happy'), 'Transfers');
    assert.equal(titleOf('happy', 'lonely'), 'Connections by outcome');
    assert.equal(titleOf('jubilant'), 'Connections by outcome');
  });

  test('have a different label and colour for each mood', () => {
    const moods = toSeries(range, []).moods.map(({ mood }) => mood);
    assert.equal(new Set(moods.map(({ label }) => label)).size, 7);
    assert.equal(new Set(moods.map(({ colour }) => colour)).size, 7);
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
      fc.property(fc.constantFrom(...ROLLING_PERIODS), fc.array(anyRow), (view, drawn) => {
        const asked = rangeOf(view, NOW_MS);
        const inside = drawn.filter(({ startMs }) => startMs >= asked.fromMs && startMs < asked.toMs);
        const rows = drawn.map(({ startMs, mood, records, bytes }) =>
          row(new Date(startMs).toISOString(), mood, records, bytes),
        );
        const series = toSeries(asked, rows);
        assert.equal(series.totalRecords, sum(inside.map(({ records }) => records)));
        assert.equal(sum(series.bytes), sum(inside.map(({ bytes }) => bytes)));
        assert.equal(series.totalBytes, sum(series.bytes));
        assert.equal(series.totalRecords, sum(series.records));
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
