import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import * as fc from 'fast-check';
import { InvalidValue } from '../../../src/config/environment.ts';
import {
  toCountRate,
  toDurationMs,
  toLogLevel,
  toPositiveSizeBytes,
  toQuota,
  toRateBytesPerSecond,
  toRetentionMs,
} from '../../../src/config/values.ts';

type Cases = readonly (readonly [text: string, problem: string | null])[];

/** The problem of an invalid value. */
function problemOf(parse: (text: string) => unknown, text: string): string | null {
  try {
    parse(text);
  } catch (error) {
    if (error instanceof InvalidValue) return error.problem;
    throw error;
  }
  return 'it is valid';
}

const KINDS: readonly (readonly [name: string, parse: (text: string) => unknown, cases: Cases])[] = [
  [
    'size',
    toPositiveSizeBytes,
    [
      ['50', 'it has no unit: write 50MB or 50B'],
      ['1.5', 'it has no unit: write 1.5MB or 1.5B'],
      ['100000', 'it has no unit: write 100000MB or 100000B'],
      ['100001', 'it has no unit: write 100001B'],
      ['50000000000', 'it has no unit: write 50000000000B'],
      ['50mb', 'write 50MB'],
      ['50 M', 'write 50MB'],
      ['50G', 'write 50GB'],
      ['64Mi', 'write 64MiB'],
      ['64mib', 'write 64MiB'],
      ['64KB', 'write 64kB'],
      ['2 gigabytes', null],
      ['lots', null],
      ['', null],
      ['-5', null],
    ],
  ],
  [
    'rate',
    toRateBytesPerSecond,
    [
      ['20', 'it has no unit: write 20MB/s or 20Mbit/s'],
      ['20/s', 'it has no unit: write 20MB/s or 20Mbit/s'],
      ['20MB', 'write 20MB/s'],
      ['20MiB', 'write 20MiB/s'],
      ['20MBps', 'write 20MB/s'],
      ['100Mbit', 'write 100Mbit/s'],
      ['100 mbit/s', 'write 100Mbit/s'],
      ['100Mbps', 'it means bytes or bits: write 100MB/s or 100Mbit/s'],
      ['20mb/s', 'it means bytes or bits: write 20MB/s or 20Mbit/s'],
      ['20M', 'it means bytes or bits: write 20MB/s or 20Mbit/s'],
      ['fast', null],
      ['20MB/min', null],
    ],
  ],
  [
    'quota',
    toQuota,
    [
      ['5TB', 'it has no period: write 5TB/month or 5TB/day'],
      ['5tb', 'it has no period: write 5TB/month or 5TB/day'],
      ['5', 'it has no unit: write 5GB/month'],
      ['5/day', 'it has no unit: write 5GB/day'],
      ['5tb/month', 'write 5TB/month'],
      ['5TB/Month', 'write 5TB/month'],
      ['5TB per month', 'write 5TB/month'],
      ['20GB/daily', 'write 20GB/day'],
      ['5TB/year', null],
      ['much', null],
    ],
  ],
  [
    'number per time',
    toCountRate,
    [
      ['60', 'it has no period: write 60/min or 60/s or 60/h'],
      ['60/minute', 'write 60/min'],
      ['60/m', 'write 60/min'],
      ['60/hour', 'write 60/h'],
      ['60/sec', 'write 60/s'],
      ['60/day', null],
      ['0', 'it has no period'],
    ],
  ],
  [
    'duration',
    toDurationMs,
    [
      ['5 minutes', 'write 5m'],
      ['1H', 'write 1h'],
      ['30sec', 'write 30s'],
      ['2hrs', 'write 2h'],
      ['1h30m', 'write 90m'],
      ['1d 12h', 'write 36h'],
      ['1m30s', 'write 90s'],
      ['2w', null],
      // It is too long.
      ['25d', null],
      ['30 days', null],
      ['soon', null],
      ['', null],
    ],
  ],
  [
    'log level',
    toLogLevel,
    [
      ['warning', 'write warn'],
      ['OFF', 'write silent'],
      ['loud', null],
    ],
  ],
  [
    'retention time',
    toRetentionMs,
    [
      ['400', 'it has no unit: write 400d'],
      ['2 weeks', 'write 14d'],
      ['6 months', 'write 180d'],
      ['1y', 'write 365d'],
      ['90days', 'write 90d'],
      ['400D', 'write 400d'],
      ['1h', 'it is valid'],
      ['0', 'it has no unit'],
      ['30 minutes', null],
      ['forever', null],
    ],
  ],
];

for (const [name, parse, cases] of KINDS) {
  describe(`the problem of a ${name}`, () => {
    for (const [text, problem] of cases)
      test(`"${text}" is ${problem ?? 'not explained'}`, () => assert.equal(problemOf(parse, text), problem));

    test('is found for any text, and names valid values only', () => {
      const characters = [
        '0',
        '1',
        '5',
        '.',
        '/',
        ' ',
        'k',
        'm',
        'M',
        'i',
        'b',
        'B',
        't',
        'p',
        's',
        'd',
        'h',
      ];
      const text = fc.string({ unit: fc.constantFrom(...characters), maxLength: 10 });
      fc.assert(
        fc.property(text, (one) => {
          const [, values] = /write (.*)$/u.exec(problemOf(parse, one) ?? '') ?? [];
          for (const value of values?.split(' or ') ?? [])
            assert.equal(problemOf(parse, value), 'it is valid');
        }),
        { numRuns: 2000 },
      );
    });
  });
}
