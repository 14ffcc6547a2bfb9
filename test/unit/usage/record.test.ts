import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import * as fc from 'fast-check';
import { MOODS } from '../../../src/protocol/messages.ts';
import { toJsonLine } from '../../../src/usage/record.ts';
import type { UsageRecord } from '../../../src/usage/record.ts';

describe('a JSON line', () => {
  test('has its keys in the order of the reference', () => {
    assert.equal(
      toJsonLine({
        started: 1_700_000_000.25,
        total_time: 12.5,
        waiting_time: 0.5,
        total_bytes: 1000,
        mood: 'happy',
      }),
      '{"started":1700000000.25,"total_time":12.5,"waiting_time":0.5,"total_bytes":1000,"mood":"happy"}\n',
    );
  });

  test('has this order regardless of the property order of the record', () => {
    const record: UsageRecord = {
      mood: 'lonely',
      total_bytes: 0,
      waiting_time: null,
      total_time: 3,
      started: 1,
    };
    assert.equal(
      toJsonLine(record),
      '{"started":1,"total_time":3,"waiting_time":null,"total_bytes":0,"mood":"lonely"}\n',
    );
  });

  test('leaves out additional properties of a record', () => {
    const record = {
      started: 1,
      total_time: 2,
      waiting_time: null,
      total_bytes: 0,
      mood: 'empty',
      token: 'a secret',
    } as const;
    assert.ok(!toJsonLine(record).includes('secret'));
  });

  test('is one line that parses to the same record', () => {
    const seconds = fc.double({ min: 0, max: 4e9, noNaN: true }).map((value) => value + 0);
    const record: fc.Arbitrary<UsageRecord> = fc.record({
      started: seconds,
      total_time: seconds,
      waiting_time: fc.option(seconds),
      total_bytes: fc.nat({ max: Number.MAX_SAFE_INTEGER }),
      mood: fc.constantFrom(...MOODS),
    });
    fc.assert(
      fc.property(record, (one) => {
        const line = toJsonLine(one);
        assert.equal(line.indexOf('\n'), line.length - 1);
        const back: unknown = JSON.parse(line);
        assert.deepEqual(back, { ...one });
      }),
    );
  });
});

test('the moods are those of the reference', () => {
  assert.deepEqual(MOODS.toSorted(), ['empty', 'errory', 'happy', 'impatient', 'lonely', 'redundant']);
});
