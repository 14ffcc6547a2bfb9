import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { StallTimer } from '../../src/sessions/splice.ts';

test('adds up simultaneous pauses until now', () => {
  let now = 5000;
  const timer = new StallTimer(() => now);
  now = 6000;
  assert.equal(timer.seconds, 0);
  timer.begin(1);
  now = 7000;
  assert.equal(timer.seconds, 1);
  timer.begin(2);
  now = 8500;
  assert.equal(timer.seconds, 1 + 3 * 1.5);
  timer.end(2);
  now = 9500;
  timer.end(1);
  now = 20_000;
  assert.equal(timer.seconds, 6.5);
});

test('never decreases, and is the sum of all pauses, however they overlap and however often it is read', () => {
  const step = fc.record({
    afterMs: fc.double({ min: 0, max: 1e6, noNaN: true }),
    action: fc.constantFrom('begin', 'end', 'read'),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 100 }), (steps) => {
      let now = 1e9;
      const timer = new StallTimer(() => now);
      const startTimes: number[] = [];
      let expectedMs = 0;
      let before = 0;
      for (const { afterMs, action } of steps) {
        now += afterMs;
        if (action === 'begin') {
          timer.begin(1);
          startTimes.push(now);
        } else if (action === 'end' && startTimes.length > 0) {
          timer.end(1);
          expectedMs += now - (startTimes.pop() ?? now);
        }
        const { seconds } = timer;
        assert.ok(seconds >= before);
        before = seconds;
      }
      for (const startTime of startTimes) expectedMs += now - startTime;
      assert.ok(Math.abs(before * 1000 - expectedMs) < 1, `${before * 1000} ms and not ${expectedMs}`);
    }),
    { numRuns: 500 },
  );
});
