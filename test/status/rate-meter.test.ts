import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { RateMeter } from '../../src/status/rate-meter.ts';

/** A meter of which a test is both the counter and the clock. */
function meterOf(context: TestContext, count: number, clock: number): { meter: RateMeter; now: State } {
  const now: State = { count, clock };
  const byteMeter = new RateMeter(
    () => now.count,
    () => now.clock,
  );
  context.after(() => byteMeter.close());
  return { meter: byteMeter, now };
}

interface State {
  count: number;
  /** Milliseconds. */
  clock: number;
}

describe('the rate of a counter', () => {
  test('is nothing before the first look, whatever was counted before', (context) => {
    const { meter: byteMeter, now } = meterOf(context, 5000, 123_456);
    assert.equal(byteMeter.perSecond, 0);
    now.clock += 1000;
    byteMeter.sample();
    assert.equal(byteMeter.perSecond, 0);
  });

  test('is what was counted since the last look, for a second', (context) => {
    const { meter: byteMeter, now } = meterOf(context, 5000, 123_456);
    now.count += 300;
    now.clock += 1000;
    byteMeter.sample();
    assert.equal(byteMeter.perSecond, 300);
    now.count += 300;
    now.clock += 1500;
    byteMeter.sample();
    assert.equal(byteMeter.perSecond, 200);
    now.count += 300;
    now.clock += 250;
    byteMeter.sample();
    assert.equal(byteMeter.perSecond, 1200);
  });

  test('falls to nothing with the first look that finds nothing new', (context) => {
    const { meter: byteMeter, now } = meterOf(context, 0, 0);
    now.count = 1e9;
    now.clock = 1000;
    byteMeter.sample();
    assert.equal(byteMeter.perSecond, 1e9);
    now.clock = 2000;
    byteMeter.sample();
    assert.equal(byteMeter.perSecond, 0);
  });

  test('stays where the clock has not moved, and misses nothing', (context) => {
    const { meter: byteMeter, now } = meterOf(context, 0, 0);
    now.count = 100;
    now.clock = 1000;
    byteMeter.sample();
    now.count = 150;
    byteMeter.sample();
    assert.equal(byteMeter.perSecond, 100);
    now.clock = 2000;
    byteMeter.sample();
    assert.equal(byteMeter.perSecond, 50);
  });

  test('is looked at once a second until the meter is closed', (context) => {
    context.mock.timers.enable({ apis: ['setInterval'] });
    const { meter: byteMeter, now } = meterOf(context, 0, 0);
    now.count = 7;
    now.clock = 1000;
    context.mock.timers.tick(999);
    assert.equal(byteMeter.perSecond, 0);
    context.mock.timers.tick(1);
    assert.equal(byteMeter.perSecond, 7);
    byteMeter.close();
    now.clock = 2000;
    context.mock.timers.tick(5000);
    assert.equal(byteMeter.perSecond, 7);
  });
});
