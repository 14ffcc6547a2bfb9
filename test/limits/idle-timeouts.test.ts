import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { IdleTimeouts } from '../../src/limits/idle-timeouts.ts';

describe('the watch over idle pairs', () => {
  test('finds what has moved nothing for the timeout, from when it was first seen', () => {
    let now = 0;
    const watch = new IdleTimeouts<string>(100, () => now);
    assert.deepEqual(watch.check([['a', 5]]), []);
    now = 99;
    assert.deepEqual(
      watch.check([
        ['a', 5],
        ['b', 0],
      ]),
      [],
    );
    now = 100;
    assert.deepEqual(
      watch.check([
        ['a', 5],
        ['b', 0],
      ]),
      ['a'],
    );
  });

  test('begins anew with each byte', () => {
    let now = 0;
    const watch = new IdleTimeouts<string>(100, () => now);
    for (let bytes = 0; bytes < 10; bytes += 1) {
      assert.deepEqual(watch.check([['a', bytes]]), []);
      now += 90;
    }
    now += 10;
    assert.deepEqual(watch.check([['a', 9]]), ['a']);
  });

  test('forgets what is gone', () => {
    let now = 0;
    const watch = new IdleTimeouts<string>(100, () => now);
    watch.check([['a', 5]]);
    now = 50;
    watch.check([]);
    now = 100;
    assert.deepEqual(watch.check([['a', 5]]), []);
  });

  test('looks often enough to be at most a twentieth too late, and seldom enough to cost nothing', () => {
    const everyMs = (timeoutMs: number): number => new IdleTimeouts(timeoutMs, () => 0).checkIntervalMs;
    assert.deepEqual([everyMs(10_000), everyMs(86_400_000), everyMs(1)], [500, 60_000, 50]);
  });
});
