import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import * as fc from 'fast-check';
import { DURATION_GRAMMAR, parseDurationMs, parseSizeBytes } from '../../src/config/units.ts';

const DAY_MS = 24 * 60 * 60 * 1000;

describe('a duration', () => {
  const cases: readonly (readonly [text: string, ms: number])[] = [
    ['500ms', 500],
    ['90s', 90_000],
    ['5m', 300_000],
    ['5min', 300_000],
    ['1h', 3_600_000],
    ['2d', 2 * DAY_MS],
    ['24d', 24 * DAY_MS],
    ['0', 0],
    ['0s', 0],
    ['0d', 0],
    ['10', 10_000],
    ['1.5', 1500],
    ['1.5h', 5_400_000],
    ['0.25s', 250],
    ['0.001s', 1],
    ['1.5ms', 2],
    ['0.4ms', 0],
    ['007s', 7000],
    ['10 s', 10_000],
    ['2073600', 24 * DAY_MS],
    ['2073600000ms', 24 * DAY_MS],
  ];
  for (const [text, ms] of cases) {
    test(`of "${text}" is ${ms} ms`, () => assert.equal(parseDurationMs(text), ms));
  }
});

describe('nonsense', () => {
  const cases = [
    '',
    ' ',
    's',
    'ms',
    '-1s',
    '+1s',
    '1e3',
    '0x10',
    '1,5s',
    '.5s',
    '5.',
    '1w',
    '1S',
    '1H',
    '1mn',
  ];
  const more = ['10 s ', ' 10s', '10s10s', '1h30m', '1..5s', 'Infinity', 'NaN', '٣s', '5sec', '1.1234567s'];
  for (const text of [...cases, ...more]) {
    test(`like ${JSON.stringify(text)} is no duration`, () => assert.equal(parseDurationMs(text), null));
  }
});

test('a duration that setTimeout would cut short is none', () => {
  assert.equal(parseDurationMs('24.1d'), null);
  assert.equal(parseDurationMs('25d'), null);
  assert.equal(parseDurationMs('2073600001ms'), null);
  assert.equal(parseDurationMs('2073601'), null);
  assert.equal(parseDurationMs('999999999999'), null);
});

test('the examples of the grammar are durations', () => {
  const examples = DURATION_GRAMMAR.match(/\d+[a-z]+/gu) ?? [];
  assert.deepEqual(examples, ['500ms', '90s', '5m', '1h', '2d', '24d']);
  for (const example of examples) assert.notEqual(parseDurationMs(example), null, example);
});

test('any text is whole milliseconds that a timer takes, or none', () => {
  const text = fc.oneof(
    fc.string(),
    fc.string({ unit: fc.constantFrom('1', '9', '0', '.', 'm', 's', 'h', 'd', ' '), maxLength: 14 }),
  );
  fc.assert(
    fc.property(text, (one) => {
      const ms = parseDurationMs(one);
      assert.ok(ms === null || (Number.isInteger(ms) && ms >= 0 && ms <= 2 ** 31 - 1), `${one}: ${ms}`);
    }),
    { numRuns: 1000 },
  );
});

describe('a size', () => {
  const cases: readonly (readonly [text: string, bytes: number | null])[] = [
    ['0', 0],
    ['1500', 1500],
    ['1500B', 1500],
    ['64MiB', 67_108_864],
    ['64 MiB', 67_108_864],
    ['500kB', 500_000],
    ['1.5GB', 1_500_000_000],
    ['5TB', 5_000_000_000_000],
    ['1TiB', 2 ** 40],
    ['', null],
    ['MB', null],
    ['-1MB', null],
    ['5mb', null],
    ['5 M B', null],
    ['99999999TiB', null],
  ];
  for (const [text, bytes] of cases) {
    test(`of "${text}" is ${bytes ?? 'nonsense'}`, () => assert.equal(parseSizeBytes(text), bytes));
  }
});
