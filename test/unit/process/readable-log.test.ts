import { equal } from 'node:assert/strict';
import { describe, test } from 'node:test';
import { formatReadable } from '../../../src/process/readable-log.ts';

function line(fields: object): string {
  return `${JSON.stringify({ level: 'info', time: '2026-11-30T16:05:34.123Z', ...fields })}\n`;
}

describe('a readable log line', () => {
  test('has the time, the level, the message and the fields, without the event', () => {
    const json = line({
      event: 'listening',
      role: 'raw',
      endpoint: 'tcp:4001:interface=\\:\\:',
      msg: 'listening',
    });
    equal(formatReadable(json), '16:05:34 INFO  listening  role=raw endpoint=tcp:4001:interface=\\:\\:\n');
  });

  test('quotes blanks and control characters', () => {
    const json = line({ event: 'x', msg: 'failed', code: null, problem: 'two words', bad: '\u001B[31m' });
    equal(formatReadable(json), '16:05:34 INFO  failed  code=null problem="two words" bad="\\u001b[31m"\n');
  });

  test('shows the fields of objects with their path', () => {
    const json = line({ event: 'x', msg: 'm', settings: { RELAY_QUOTA: '5TB/month' }, empty: {} });
    equal(formatReadable(json), '16:05:34 INFO  m  settings.RELAY_QUOTA=5TB/month\n');
  });

  test('shows each reason of a failed start in a line of its own', () => {
    const json = line({
      level: 'fatal',
      exit_code: 78,
      reasons: ['a is wrong', 'b is wrong'],
      msg: 'invalid',
    });
    equal(formatReadable(json), '16:05:34 FATAL invalid  exit_code=78\n  a is wrong\n  b is wrong\n');
  });

  test('leaves text that is not JSON', () => {
    equal(formatReadable('plain\n'), 'plain\n');
  });
});
