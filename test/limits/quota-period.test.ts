import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import * as fc from 'fast-check';
import { periodEnd, periodStart } from '../../src/limits/quota.ts';

describe('a quota period', () => {
  const months: readonly (readonly [resetDay: number, time: string, start: string, end: string])[] = [
    [1, '2026-01-01T00:00:00.000Z', '2026-01-01', '2026-02-01'],
    [1, '2026-01-31T23:59:59.999Z', '2026-01-01', '2026-02-01'],
    [15, '2026-01-14T23:59:59.999Z', '2025-12-15', '2026-01-15'],
    [15, '2026-01-15T00:00:00.000Z', '2026-01-15', '2026-02-15'],
    [31, '2026-01-30T12:00:00.000Z', '2025-12-31', '2026-01-31'],
    [31, '2026-02-27T12:00:00.000Z', '2026-01-31', '2026-02-28'],
    [31, '2026-02-28T00:00:00.000Z', '2026-02-28', '2026-03-31'],
    [31, '2026-03-30T00:00:00.000Z', '2026-02-28', '2026-03-31'],
    [30, '2028-02-28T23:00:00.000Z', '2028-01-30', '2028-02-29'],
    [29, '2028-02-29T00:00:00.000Z', '2028-02-29', '2028-03-29'],
    [31, '2026-12-31T00:00:00.000Z', '2026-12-31', '2027-01-31'],
  ];
  for (const [resetDay, time, start, end] of months) {
    test(`that starts on day ${resetDay} lasts from ${start} to ${end} at ${time}`, () => {
      const when = { period: 'month', resetDay } as const;
      const at = Date.parse(time);
      const found = [periodStart(at, when), periodEnd(at, when)].map((ms) => new Date(ms).toISOString());
      assert.deepEqual(found, [`${start}T00:00:00.000Z`, `${end}T00:00:00.000Z`]);
    });
  }

  test('of a day lasts from midnight to midnight', () => {
    const when = { period: 'day', resetDay: 15 } as const;
    for (const time of ['2026-03-29T00:00:00.000Z', '2026-03-29T23:59:59.999Z']) {
      const at = Date.parse(time);
      assert.equal(periodStart(at, when), Date.parse('2026-03-29'));
      assert.equal(periodEnd(at, when), Date.parse('2026-03-30'));
    }
  });

  test('has no gap to the next one, and starts at midnight', () => {
    const times = fc.integer({ min: Date.parse('1970-01-02'), max: Date.parse('2200-01-01') });
    const whens = fc.record({
      period: fc.constantFrom('month', 'day'),
      resetDay: fc.integer({ min: 1, max: 31 }),
    });
    fc.assert(
      fc.property(times, whens, (time, when) => {
        const [start, end] = [periodStart(time, when), periodEnd(time, when)];
        assert.ok(start <= time && time < end);
        assert.equal(periodStart(end, when), end);
        assert.equal(periodStart(end - 1, when), start);
        assert.ok(Number.isInteger(start / 86_400_000));
      }),
      { numRuns: 1000 },
    );
  });
});
