import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { IdleTimeouts } from '../../src/limits/timeouts.ts';

describe('idle timeouts', () => {
  test('report pairs that have transferred nothing for the timeout since they were first seen', () => {
    let now = 0;
    const timeouts = new IdleTimeouts<string>(100, () => now);
    assert.deepEqual(timeouts.check([['a', 5]]), []);
    now = 99;
    assert.deepEqual(
      timeouts.check([
        ['a', 5],
        ['b', 0],
      ]),
      [],
    );
    now = 100;
    assert.deepEqual(
      timeouts.check([
        ['a', 5],
        ['b', 0],
      ]),
      ['a'],
    );
  });

  test('restart with each byte', () => {
    let now = 0;
    const timeouts = new IdleTimeouts<string>(100, () => now);
    for (let bytes = 0; bytes < 10; bytes += 1) {
      assert.deepEqual(timeouts.check([['a', bytes]]), []);
      now += 90;
    }
    now += 10;
    assert.deepEqual(timeouts.check([['a', 9]]), ['a']);
  });

  test('forget pairs that have ended', () => {
    let now = 0;
    const timeouts = new IdleTimeouts<string>(100, () => now);
    timeouts.check([['a', 5]]);
    now = 50;
    timeouts.check([]);
    now = 100;
    assert.deepEqual(timeouts.check([['a', 5]]), []);
  });

  test('are checked often enough to be at most a twentieth late, and rarely enough to take no noticeable time', () => {
    const everyMs = (timeoutMs: number): number => new IdleTimeouts(timeoutMs, () => 0).checkIntervalMs;
    assert.deepEqual([everyMs(10_000), everyMs(86_400_000), everyMs(1)], [500, 60_000, 50]);
  });
});
