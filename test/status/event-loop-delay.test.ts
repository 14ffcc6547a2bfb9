import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { EventLoopDelay } from '../../src/status/event-loop-delay.ts';

/** Its clock in milliseconds, and what it has found, in milliseconds. */
function open() {
  const time = { now: 0 };
  const found: number[] = [];
  const delay = new EventLoopDelay(
    () => time.now,
    (seconds) => found.push(Math.round(seconds * 1e6) / 1000),
  );
  return { time, found, look: () => delay.sample(), close: () => delay.close() };
}

describe('the delay of the event loop', () => {
  test('is what a look comes too late', (context) => {
    const { time, found, look, close } = open();
    context.after(close);
    for (const [now, expected] of [
      [100, 0],
      [205, 5],
      // Due 100 ms after the last look, and not before.
      [300, 0],
      [412.5, 12.5],
      [520, 7.5],
    ] as const) {
      time.now = now;
      look();
      assert.equal(found.at(-1), expected);
    }
    assert.equal(found.length, 5);
  });

  test('of a second counts for all looks that it has swallowed', (context) => {
    const { time, found, look, close } = open();
    context.after(close);
    time.now = 1150;
    look();
    time.now = 1250;
    look();
    assert.equal(found.pop(), 0);
    assert.deepEqual(found, [1050, 950, 850, 750, 650, 550, 450, 350, 250, 150, 50]);
  });

  test('of a day does not count for a million looks', (context) => {
    const { time, found, look, close } = open();
    context.after(close);
    time.now = 86_400_000;
    look();
    assert.equal(found.length, 101);
    assert.equal(found[0], 86_399_900);
  });

  test('is looked at by a timer, which a busy loop keeps waiting', async (context) => {
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
    // The timer does not keep the process.
    const keeper = setTimeout(() => undefined, 10_000);
    assert.ok((await late) < 5);
    clearTimeout(keeper);
  });
});
