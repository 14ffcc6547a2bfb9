import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import * as fc from 'fast-check';
import { blurRecord, blurBytes, blurCounterBytes } from '../../../src/usage/record.ts';
import type { UsageRecord } from '../../../src/usage/record.ts';

const RECORD: UsageRecord = {
  started: 1_700_003_599.75,
  total_time: 12.5,
  waiting_time: 0.5,
  total_bytes: 123_456,
  mood: 'happy',
};

describe('bytes', () => {
  const cases: readonly (readonly [exact: number, blurred: number])[] = [
    [0, 0],
    [1, 10_000],
    [9_999, 10_000],
    [10_000, 10_000],
    [10_001, 20_000],
    [123_456, 130_000],
    [990_000, 990_000],
    [990_001, 1_000_000],
    [999_999, 1_000_000],
    [1_000_000, 1_000_000],
    [1_000_001, 2_000_000],
    [1_999_999, 2_000_000],
    [2_000_000, 2_000_000],
    [2_000_001, 3_000_000],
    [999_000_000, 999_000_000],
    [999_000_001, 1_000_000_000],
    [999_999_999, 1_000_000_000],
    [1_000_000_000, 1_000_000_000],
    [1_000_000_001, 1_100_000_000],
    [1_099_999_999, 1_100_000_000],
    [1_100_000_000, 1_100_000_000],
    [1_100_000_001, 1_200_000_000],
    [5_000_000_000_001, 5_000_100_000_000],
  ];
  for (const [exact, blurred] of cases) {
    test(`of ${exact} become ${blurred}`, () => {
      assert.equal(blurBytes(exact), blurred);
      assert.equal(blurRecord({ ...RECORD, total_bytes: exact }, 1).total_bytes, blurred);
    });
  }

  test('are blurred in the same way for every granularity except 0', () => {
    for (const seconds of [1, 60, 3600, 86_400])
      assert.equal(blurRecord(RECORD, seconds).total_bytes, 130_000);
  });
});

test('a counter grows in steps of 10 kB at any size', () => {
  for (const [exact, blurred] of [
    [0, 0],
    [1, 10_000],
    [10_000, 10_000],
    [10_001, 20_000],
    [1_000_001, 1_010_000],
    [5_000_000_000_001, 5_000_000_010_000],
  ] as const) {
    assert.equal(blurCounterBytes(exact), blurred);
  }
});

describe('the start', () => {
  const cases: readonly (readonly [exact: number, seconds: number, blurred: number])[] = [
    [0, 60, 0],
    [59.999, 60, 0],
    [60, 60, 60],
    [60.001, 60, 60],
    [119.999, 60, 60],
    [1_700_003_599.75, 1, 1_700_003_599],
    [1_700_003_599.75, 3600, 1_700_002_800],
    [1_700_002_800, 3600, 1_700_002_800],
    [1_700_002_799.999, 3600, 1_699_999_200],
    [1_700_003_599.75, 86_400, 1_699_920_000],
    [100, 7, 98],
  ];
  for (const [exact, seconds, blurred] of cases) {
    test(`${exact} becomes ${blurred} with ${seconds} s`, () => {
      assert.equal(blurRecord({ ...RECORD, started: exact }, seconds).started, blurred);
    });
  }
});

describe('durations', () => {
  const cases: readonly (readonly [exact: number, seconds: number, blurred: number])[] = [
    [0, 3600, 0],
    [0.000_001, 3600, 10],
    [9.999, 3600, 10],
    [10, 3600, 10],
    [10.001, 3600, 20],
    [50.001, 3600, 60],
    [59.999, 3600, 60],
    [60, 3600, 60],
    [60.001, 3600, 120],
    [3599.999, 3600, 3600],
    [3600, 3600, 3600],
    [3600.001, 3600, 4200],
    [100_000, 3600, 100_200],
    // A granularity below the step is the step.
    [0.5, 1, 1],
    [61.5, 1, 62],
    [3600.5, 1, 3601],
    [12, 5, 15],
    [61, 30, 90],
    [3601, 300, 3900],
    [3600, 500, 4000],
  ];
  for (const [exact, seconds, blurred] of cases) {
    test(`of ${exact} s become ${blurred} s with ${seconds} s`, () => {
      const record = blurRecord({ ...RECORD, total_time: exact, waiting_time: exact }, seconds);
      assert.equal(record.total_time, blurred);
      assert.equal(record.waiting_time, blurred);
    });
  }

  test('stay unknown if they are unknown', () => {
    assert.equal(blurRecord({ ...RECORD, waiting_time: null, mood: 'lonely' }, 60).waiting_time, null);
  });
});

test('a granularity of 0 leaves a record exact', () => {
  assert.deepEqual(blurRecord(RECORD, 0), RECORD);
});

test('the mood stays', () => {
  assert.equal(blurRecord({ ...RECORD, mood: 'redundant' }, 60).mood, 'redundant');
});

/**
 * Seconds to the microsecond, like clocks have them. Tiny values near 0 would be lost in sums and
 * differences.
 */
const upTo = (max: number): fc.Arbitrary<number> =>
  fc.double({ min: 0, max, noNaN: true }).map((value) => Math.round(value * 1e6) / 1e6);

describe('any record', () => {
  const bytes = fc.oneof(fc.nat({ max: 2_000_000 }), fc.nat({ max: 2_000_000_000 }), fc.nat({ max: 1e13 }));
  const duration = fc.oneof(upTo(120), upTo(7200), upTo(1e7), fc.nat({ max: 7200 }));
  const record: fc.Arbitrary<UsageRecord> = fc.record({
    started: fc.oneof(upTo(4e9), fc.nat({ max: 4e9 })),
    total_time: duration,
    waiting_time: fc.option(duration),
    total_bytes: bytes,
    mood: fc.constant('happy' as const),
  });
  const seconds = fc.oneof(fc.integer({ min: 1, max: 1000 }), fc.integer({ min: 1, max: 999_999_999 }));

  test('starts earlier by less than the granularity, at a multiple of it', () => {
    fc.assert(
      fc.property(record, seconds, (exact, granularity) => {
        const { started } = blurRecord(exact, granularity);
        assert.ok(started <= exact.started && exact.started - started < granularity);
        assert.equal(started % granularity, 0);
      }),
      { numRuns: 1000 },
    );
  });

  test('has at least as many bytes, at a multiple of the reference’s step', () => {
    fc.assert(
      fc.property(bytes, (exact) => {
        const blurred = blurBytes(exact);
        let step = 100_000_000;
        if (exact < 1_000_000) step = 10_000;
        else if (exact < 1_000_000_000) step = 1_000_000;
        assert.ok(blurred >= exact && blurred - exact < step);
        assert.equal(blurred % step, 0);
      }),
      { numRuns: 1000 },
    );
  });

  test('has durations that are longer by less than 10 minutes and less than the granularity', () => {
    fc.assert(
      fc.property(record, seconds, (exact, granularity) => {
        const blurred = blurRecord(exact, granularity);
        const limit = Math.min(600, granularity);
        assert.ok(blurred.total_time >= exact.total_time && blurred.total_time - exact.total_time < limit);
        assert.equal(blurred.waiting_time === null, exact.waiting_time === null);
        const [waited, blurredWaited] = [exact.waiting_time ?? 0, blurred.waiting_time ?? 0];
        assert.ok(blurredWaited >= waited && blurredWaited - waited < limit);
      }),
      { numRuns: 1000 },
    );
  });

  test('with a longer duration is never shorter after blurring', () => {
    fc.assert(
      fc.property(duration, duration, seconds, (one, other, granularity) => {
        const [short, long] = one < other ? [one, other] : [other, one];
        const blurred = (total_time: number): number =>
          blurRecord({ ...RECORD, total_time }, granularity).total_time;
        assert.ok(blurred(short) <= blurred(long));
      }),
      { numRuns: 1000 },
    );
  });

  test('keeps its start and bytes when it is blurred twice', () => {
    fc.assert(
      fc.property(record, seconds, (exact, granularity) => {
        const once = blurRecord(exact, granularity);
        const twice = blurRecord(once, granularity);
        assert.equal(twice.started, once.started);
        assert.equal(twice.total_bytes, once.total_bytes);
      }),
      { numRuns: 1000 },
    );
  });

  // This does not hold for a granularity like 45 s: 59 s become 60 s, then 90 s, because 45 s does not divide
  // a minute.
  test('keeps its durations when it is blurred twice, if the granularity and the steps divide each other', () => {
    const even = fc.oneof(
      fc.integer({ min: 1, max: 10 }),
      fc.constantFrom(12, 15, 20, 30, 60, 120, 300),
      fc.integer({ min: 600, max: 999_999_999 }),
    );
    fc.assert(
      fc.property(record, even, (exact, granularity) => {
        const once = blurRecord(exact, granularity);
        assert.deepEqual(blurRecord(once, granularity), once);
      }),
      { numRuns: 1000 },
    );
  });
});
