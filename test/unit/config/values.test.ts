import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import * as fc from 'fast-check';
import { parseEndpoints } from '../../../src/config/endpoint.ts';
import { InvalidValue } from '../../../src/config/environment.ts';
import {
  COUNT_RATE_GRAMMAR,
  DURATION_GRAMMAR,
  QUOTA_GRAMMAR,
  RATE_GRAMMAR,
  parseCountRate,
  parseDurationMs,
  parseQuota,
  parseRateBytesPerSecond,
  parseSizeBytes,
  toBlurSeconds,
  toCount,
  toCountRate,
  toDayOfMonth,
  toInternalEndpoints,
  toPositiveSizeBytes,
  toQuota,
  toRateBytesPerSecond,
} from '../../../src/config/values.ts';

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

describe('an invalid duration', () => {
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
    test(`is ${JSON.stringify(text)}`, () => assert.equal(parseDurationMs(text), null));
  }
});

test('a duration beyond the limit of setTimeout is rejected', () => {
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

test('any text is parsed to whole milliseconds for a timer, or rejected', () => {
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

describe('the blur interval', () => {
  const cases: readonly (readonly [text: string, seconds: number])[] = [
    ['0', 0],
    ['0s', 0],
    ['3600', 3600],
    ['1h', 3600],
    ['1.5h', 5400],
    ['2000ms', 2],
    ['30d', 30 * 86_400],
    ['999999999', 999_999_999],
  ];
  for (const [text, seconds] of cases) {
    test(`of "${text}" is ${seconds} s`, () => assert.equal(toBlurSeconds(text), seconds));
  }

  test('has whole seconds', () => {
    for (const text of ['0.5', '1500ms', '1000000000', '-1', 'much', '1e3'])
      assert.throws(() => toBlurSeconds(text), InvalidValue, text);
  });
});

describe('a size', () => {
  const cases: readonly (readonly [text: string, bytes: number | null])[] = [
    ['0', 0],
    ['1500', null],
    ['1.5', null],
    ['00', null],
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
    test(`of "${text}" is ${bytes ?? 'invalid'}`, () => assert.equal(parseSizeBytes(text), bytes));
  }
});

describe('a rate', () => {
  const cases: readonly (readonly [text: string, bytesPerSecond: number | null])[] = [
    ['20MB/s', 20_000_000],
    ['500KiB/s', 512_000],
    ['1500 B/s', 1500],
    ['100Mbit/s', 12_500_000],
    ['1Gbit/s', 125_000_000],
    ['2.5 Gbit/s', 312_500_000],
    ['64kbit/s', 8000],
    ['8bit/s', 1],
    ['3bit/s', null],
    ['0MB/s', null],
    ['0.4B/s', null],
    ['20MB', null],
    ['20/s', null],
    ['20', null],
    ['', null],
    ['/s', null],
    ['MB/s', null],
    ['-1MB/s', null],
    ['20MB/min', null],
    ['20MB/s ', null],
    ['20MB/s/s', null],
    ['20mb/s', null],
    ['20Mb/s', null],
    ['100mbit/s', null],
    ['100Mibit/s', null],
    ['100Mbps', null],
    ['999999999999999Gbit/s', null],
    ['999999999999999TB/s', null],
  ];
  for (const [text, rate] of cases) {
    test(`of "${text}" is ${rate ?? 'invalid'}`, () => assert.equal(parseRateBytesPerSecond(text), rate));
  }
});

describe('a count per time', () => {
  const cases: readonly (readonly [text: string, rate: readonly [count: number, perMs: number] | null])[] = [
    ['60/min', [60, 60_000]],
    ['5/s', [5, 1000]],
    ['1 / h', [1, 3_600_000]],
    ['0/min', null],
    ['1.5/s', null],
    ['-1/s', null],
    ['60', null],
    ['60/', null],
    ['/min', null],
    ['60/m', null],
    ['60/day', null],
    ['60/min/s', null],
    ['9999999999/s', null],
    ['', null],
  ];
  for (const [text, rate] of cases) {
    const expected = rate === null ? null : { count: rate[0], perMs: rate[1] };
    test(`of "${text}" is ${rate?.join(' in ') ?? 'invalid'}`, () =>
      assert.deepEqual(parseCountRate(text), expected));
  }
});

describe('a quota', () => {
  const cases: readonly (readonly [text: string, quota: readonly [number, 'month' | 'day'] | null])[] = [
    ['5TB/month', [5e12, 'month']],
    ['100GB/day', [1e11, 'day']],
    ['5 TB / month', [5e12, 'month']],
    ['1.5TiB/month', [1.5 * 2 ** 40, 'month']],
    ['1.5TiB', null],
    ['5TB', null],
    ['5/month', null],
    ['0TB/month', null],
    ['0', null],
    ['5TB/', null],
    ['/month', null],
    ['5TB/year', null],
    ['5TB/Month', null],
    ['5TB/month/day', null],
    ['5tb/month', null],
    ['5TB/s', null],
    ['', null],
  ];
  for (const [text, quota] of cases) {
    const expected = quota === null ? null : { bytes: quota[0], period: quota[1] };
    test(`of "${text}" is ${quota?.join(' a ') ?? 'invalid'}`, () =>
      assert.deepEqual(parseQuota(text), expected));
  }
});

describe('the values of limits', () => {
  const cases: readonly (readonly [
    name: string,
    read: (text: string) => unknown,
    right: readonly (readonly [text: string, value: unknown])[],
    wrong: readonly string[],
    accepted: RegExp,
  ])[] = [
    [
      'rate',
      toRateBytesPerSecond,
      [['20MB/s', 20_000_000]],
      ['20MB', '0B/s', '0'],
      /^a rate like .*; empty for no limit$/u,
    ],
    [
      'count per time',
      toCountRate,
      [['60/min', { count: 60, perMs: 60_000 }]],
      ['60', '0/s'],
      /^a whole number per s, min or h.*; empty for no limit$/u,
    ],
    [
      'quota',
      toQuota,
      [['5TB/month', { bytes: 5e12, period: 'month' }]],
      ['0', '5TB', '5TB/year'],
      /^a size per day or month.*; empty for no limit$/u,
    ],
    [
      'count',
      toCount,
      [
        ['1', 1],
        ['999999999', 999_999_999],
      ],
      ['0', '-1', '1.5', '1e3', '1000000000', 'x', ' '],
      /^a whole number from 1 to 999999999; empty for no limit$/u,
    ],
    ['size', toPositiveSizeBytes, [['2GB', 2e9]], ['0', '0.4B', '2gb'], /^a size like .*, above 0; empty/u],
    [
      'day of the month',
      toDayOfMonth,
      [
        ['1', 1],
        ['31', 31],
        ['07', 7],
      ],
      ['0', '32', '-1', '1.5', 'last', '001'],
      /^a day of the month from 1 to 31; /u,
    ],
  ];
  for (const [name, read, right, wrong, accepted] of cases) {
    test(`are parsed, or rejected with the accepted form: a ${name}`, () => {
      for (const [text, value] of right) assert.deepEqual(read(text), value, text);
      for (const text of wrong) {
        assert.throws(
          () => read(text),
          (error) => error instanceof InvalidValue && accepted.test(error.accepted),
          text,
        );
      }
    });
  }

  test('have valid examples in their grammars', () => {
    const grammars = [
      [RATE_GRAMMAR, parseRateBytesPerSecond, 4],
      [COUNT_RATE_GRAMMAR, parseCountRate, 3],
      [QUOTA_GRAMMAR, parseQuota, 2],
    ] as const;
    for (const [grammar, read, count] of grammars) {
      const examples = grammar.match(/\d+[A-Za-z]*\/[a-z]+/gu) ?? [];
      assert.equal(examples.length, count, grammar);
      for (const example of examples) assert.notEqual(read(example), null, example);
    }
  });
});

/** The problem of an invalid endpoint. */
function refusalOf(read: () => unknown): string {
  let problem = '';
  assert.throws(read, (error) => {
    assert.ok(error instanceof InvalidValue);
    assert.match(error.accepted, /^endpoints like tcp:4003,/u);
    problem = error.problem ?? '';
    return true;
  });
  return problem;
}

const PLAIN = 'tcp:4003:interface=127.0.0.1 unix:/run/status.sock:mode=660';

describe('endpoints for operators', () => {
  test('accept plain TCP and Unix endpoints', () => {
    assert.deepEqual(toInternalEndpoints(PLAIN), parseEndpoints(PLAIN));
  });

  test('reject TLS', () => {
    const problem = refusalOf(() => toInternalEndpoints(`${PLAIN} ssl:443:privateKey=/k`));
    assert.match(problem, /TLS is not supported here/u);
  });

  test('reject sockets from systemd', () => {
    const problem = refusalOf(() => toInternalEndpoints(`${PLAIN} systemd:domain=INET:index=0`));
    assert.match(problem, /sockets from systemd are not supported here/u);
  });

  test('report grammar errors', () => {
    assert.match(
      refusalOf(() => toInternalEndpoints('tcp:99999')),
      /"99999" is not a port/u,
    );
  });
});
