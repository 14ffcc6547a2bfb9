import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { RateMeter } from '../../src/status/rate-meter.ts';

/** A meter whose counter and clock are set by the test. */
function meterOf(context: TestContext, count: number, clock: number): { meter: RateMeter; now: State } {
  const now: State = { count, clock };
  const meter = new RateMeter(
    () => now.count,
    () => now.clock,
  );
  context.after(() => meter.close());
  return { meter, now };
}

interface State {
  count: number;
  /** Milliseconds. */
  clock: number;
}

describe('the rate of a counter', () => {
  test('is 0 before the first sample, whatever the counter was', (context) => {
    const { meter, now } = meterOf(context, 5000, 123_456);
    assert.equal(meter.perSecond, 0);
    now.clock += 1000;
    meter.sample();
    assert.equal(meter.perSecond, 0);
  });

  test('is the growth since the last sample, per second', (context) => {
    const { meter, now } = meterOf(context, 5000, 123_456);
    now.count += 300;
    now.clock += 1000;
    meter.sample();
    assert.equal(meter.perSecond, 300);
    now.count += 300;
    now.clock += 1500;
    meter.sample();
    assert.equal(meter.perSecond, 200);
    now.count += 300;
    now.clock += 250;
    meter.sample();
    assert.equal(meter.perSecond, 1200);
  });

  test('falls to 0 with the first sample without growth', (context) => {
    const { meter, now } = meterOf(context, 0, 0);
    now.count = 1e9;
    now.clock = 1000;
    meter.sample();
    assert.equal(meter.perSecond, 1e9);
    now.clock = 2000;
    meter.sample();
    assert.equal(meter.perSecond, 0);
  });

  test('keeps its value if the clock has not moved, and loses no growth', (context) => {
    const { meter, now } = meterOf(context, 0, 0);
    now.count = 100;
    now.clock = 1000;
    meter.sample();
    now.count = 150;
    meter.sample();
    assert.equal(meter.perSecond, 100);
    now.clock = 2000;
    meter.sample();
    assert.equal(meter.perSecond, 50);
  });

  test('is sampled once per second until the meter is closed', (context) => {
    context.mock.timers.enable({ apis: ['setInterval'] });
    const { meter, now } = meterOf(context, 0, 0);
    now.count = 7;
    now.clock = 1000;
    context.mock.timers.tick(999);
    assert.equal(meter.perSecond, 0);
    context.mock.timers.tick(1);
    assert.equal(meter.perSecond, 7);
    meter.close();
    now.clock = 2000;
    context.mock.timers.tick(5000);
    assert.equal(meter.perSecond, 7);
  });
});
