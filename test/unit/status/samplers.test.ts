import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { EventLoopDelay, RateMeter } from '../../../src/status/samplers.ts';

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
  test('is 0 before the first sample, for any value of the counter', (context) => {
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

/** A delay sampler with its clock and the observed delays, both in milliseconds. */
function open() {
  const time = { now: 0 };
  const observed: number[] = [];
  const delay = new EventLoopDelay(
    () => time.now,
    (seconds) => observed.push(Math.round(seconds * 1e6) / 1000),
  );
  return { time, observed, sample: () => delay.sample(), close: () => delay.close() };
}

describe('the delay of the event loop', () => {
  test('is the time by which a sample is late', (context) => {
    const { time, observed, sample, close } = open();
    context.after(close);
    for (const [now, expected] of [
      [100, 0],
      [205, 5],
      // Due 100 ms after the previous sample.
      [300, 0],
      [412.5, 12.5],
      [520, 7.5],
    ] as const) {
      time.now = now;
      sample();
      assert.equal(observed.at(-1), expected);
    }
    assert.equal(observed.length, 5);
  });

  test('of one second also counts for the samples it delayed', (context) => {
    const { time, observed, sample, close } = open();
    context.after(close);
    time.now = 1150;
    sample();
    time.now = 1250;
    sample();
    assert.equal(observed.pop(), 0);
    assert.deepEqual(observed, [1050, 950, 850, 750, 650, 550, 450, 350, 250, 150, 50]);
  });

  test('of one day does not count for a million samples', (context) => {
    const { time, observed, sample, close } = open();
    context.after(close);
    time.now = 86_400_000;
    sample();
    assert.equal(observed.length, 101);
    assert.equal(observed[0], 86_399_900);
  });

  test('is sampled by a timer, which a busy loop delays', async (context) => {
    const late = new Promise<number>((resolve) => {
      const delay = new EventLoopDelay(
        () => performance.now(),
        (seconds) => {
          if (seconds > 0.3) resolve(seconds);
        },
      );
      context.after(() => delay.close());
    });
    const until = performance.now() + 500;
    while (performance.now() < until);
    // The timer of the sampler does not keep the process alive.
    const keepAlive = setTimeout(() => undefined, 10_000);
    assert.ok((await late) < 5);
    clearTimeout(keepAlive);
  });
});
