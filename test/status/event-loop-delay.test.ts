import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { EventLoopDelay } from '../../src/status/event-loop-delay.ts';

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
