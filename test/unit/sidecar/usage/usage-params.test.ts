import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import * as fc from 'fast-check';
import { GRANULARITIES } from '../../../../src/sidecar/api.ts';
import {
  CSV_GRANULARITIES,
  InvalidParamError,
  endOfCurrentSecond,
  parseUsageParams,
} from '../../../../src/sidecar/usage/usage-params.ts';
import type { UsageRange } from '../../../../src/sidecar/usage/usage-params.ts';
import type { CsvGranularity } from '../../../../src/sidecar/usage/usage-job.ts';

const NOW_MS = Date.parse('2026-11-23T05:30:15.700Z');

const at = (time: string): number => Date.parse(time) / 1000;

type Query = Readonly<Record<string, unknown>>;

function rangeOf(
  query: Query,
  bys: readonly CsvGranularity[] = CSV_GRANULARITIES,
): UsageRange<CsvGranularity> {
  return parseUsageParams(query, bys, NOW_MS);
}

function problemOf(query: Query, bys: readonly CsvGranularity[] = CSV_GRANULARITIES): string {
  try {
    return assert.fail(JSON.stringify(parseUsageParams(query, bys, NOW_MS)));
  } catch (error) {
    if (error instanceof InvalidParamError) return error.message;
    throw error;
  }
}

describe('without parameters', () => {
  const defaults: readonly (readonly [by: CsvGranularity, from: string])[] = [
    ['hour', '2026-11-22T05:00:00Z'],
    ['day', '2026-10-24T00:00:00Z'],
    ['month', '2025-11-01T00:00:00Z'],
    ['record', '2026-10-24T00:00:00Z'],
  ];
  for (const [by, from] of defaults) {
    test(`a range by ${by} begins at ${from} and ends now`, () => {
      assert.deepEqual(rangeOf({ by }), { by, from: at(from), to: null });
    });
  }

  test('the granularity is one day', () => {
    assert.deepEqual(rangeOf({}), rangeOf({ by: 'day' }));
  });

  test('a given end has the same length of range', () => {
    assert.equal(rangeOf({ by: 'month', to: '2024-02-29' }).from, at('2023-02-01'));
    assert.equal(rangeOf({ by: 'hour', to: '2024-03-01' }).from, at('2024-02-29'));
    assert.equal(rangeOf({ by: 'month', to: '0000-05-01' }).from, at('0000-01-01'));
  });
});

describe('a time', () => {
  const times: readonly (readonly [text: string, time: string])[] = [
    ['2024-02-29', '2024-02-29T00:00:00Z'],
    ['2026-11-22T05:00Z', '2026-11-22T05:00:00Z'],
    ['2026-11-22T05:06:07.125Z', '2026-11-22T05:06:07.125Z'],
    ['2026-11-22T05:00:00+05:30', '2026-11-21T23:30:00Z'],
    ['2026-11-22T05:00:00-01:00', '2026-11-22T06:00:00Z'],
    ['2026-11-22T05:00:00 02:00', '2026-11-22T03:00:00Z'],
    ['1700000000', '2023-11-14T22:13:20Z'],
    ['1700000000.25', '2023-11-14T22:13:20.250Z'],
    ['0', '1970-01-01T00:00:00Z'],
    ['0099-07-01', '0099-07-01T00:00:00Z'],
  ];
  for (const [text, time] of times) {
    test(`can be ${text}`, () => {
      assert.equal(rangeOf({ from: text }).from, at(time));
    });
  }

  const nonsense = [
    '',
    'yesterday',
    '2026-02-30',
    '2023-02-29',
    '2026-13-01',
    '2026-11-22T05:00',
    '2026-11-22T25:00Z',
    '2026-11-22T05:00:00+25:00',
    '2026-11',
    '-1',
    '1e9',
    '1700000000000',
    '999999999999',
    ' 0',
    '0000-01-01T00:00+01:00',
  ];
  for (const text of nonsense) {
    test(`cannot be ${JSON.stringify(text)}`, () => {
      const problem = problemOf({ to: text });
      assert.ok(
        problem.startsWith(`"to" is ${JSON.stringify(text)}, which is not a time: use a date`),
        problem,
      );
    });
  }

  test('is parsed to the formatted time', () => {
    const ms = fc.integer({ min: 0, max: NOW_MS });
    fc.assert(
      fc.property(ms, (timeMs) => {
        assert.equal(rangeOf({ from: new Date(timeMs).toISOString() }).from, timeMs / 1000);
        assert.equal(rangeOf({ from: String(timeMs / 1000) }).from, timeMs / 1000);
      }),
    );
  });
});

describe('an end', () => {
  test('in the future or within this second is now', () => {
    for (const to of ['2030-01-01', '2026-11-23T05:30:16Z', '2026-11-23T05:30:15.1Z', '2026-11-23T05:30:15Z'])
      assert.equal(rangeOf({ from: '2026-11-01', to }).to, null, to);
    assert.equal(rangeOf({ to: '2030-01-01' }).from, rangeOf({}).from);
  });

  test('in the past stays', () => {
    assert.equal(rangeOf({ to: '2026-11-23T05:30:14.9Z' }).to, at('2026-11-23T05:30:14.9Z'));
  });

  test('after a start in the future stays', () => {
    const range = { by: 'day', from: at('2030-01-01'), to: at('2031-01-01') };
    assert.deepEqual(rangeOf({ from: '2030-01-01', to: '2031-01-01' }), range);
  });

  test('must be after the start', () => {
    assert.equal(
      problemOf({ from: '2026-11-02', to: '2026-11-02' }),
      '"from" (2026-11-02T00:00:00.000Z) must be before "to" (2026-11-02T00:00:00.000Z)',
    );
    assert.match(problemOf({ from: '2026-11-03', to: '2026-11-02' }), /must be before/u);
    assert.equal(
      problemOf({ from: '2030-01-01' }),
      '"from" (2030-01-01T00:00:00.000Z) must be before "to" (2026-11-23T05:30:16.000Z)',
    );
  });

  test('of now includes records that started in this second', () => {
    assert.equal(endOfCurrentSecond(NOW_MS), at('2026-11-23T05:30:16Z'));
    assert.equal(endOfCurrentSecond(1000), 2);
  });
});

describe('an error', () => {
  test('names the accepted values of `by` for each route', () => {
    assert.equal(problemOf({ by: 'week' }), '"by" is "week": use one of hour, day, month, record');
    assert.equal(problemOf({ by: 'record' }, GRANULARITIES), '"by" is "record": use one of hour, day, month');
    assert.equal(problemOf({ by: '' }), '"by" is "": use one of hour, day, month, record');
  });

  test('is a repeated or unknown parameter', () => {
    assert.equal(problemOf({ by: ['day', 'day'] }), '"by" is given more than once');
    assert.equal(problemOf({ from: { a: '1' } }), '"from" is given more than once');
    assert.equal(problemOf({ form: '0' }), 'unknown parameter "form": use by, from and to');
    assert.equal(
      problemOf(JSON.parse('{"__proto__":"1"}')),
      'unknown parameter "__proto__": use by, from and to',
    );
  });

  test('quotes little of a value, without control characters', () => {
    for (const query of [
      { by: 'x\n\u001b'.repeat(1e5) },
      { from: '9'.repeat(1e5) },
      { ['y\n'.repeat(1e5)]: '' },
    ]) {
      const problem = problemOf(query);
      assert.ok(problem.length < 700, `${problem.length}`);
      assert.doesNotMatch(problem, /\p{Cc}/u);
    }
  });
});
