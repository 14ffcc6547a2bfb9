import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, mock, test } from 'node:test';
import { IdleTimeouts, TimeoutQueue } from '../../../src/limits/timeouts.ts';

const DAY_MS = 86_400_000;

describe('a timeout queue', () => {
  let now = 0;
  let expired: string[] = [];
  beforeEach(() => {
    now = 0;
    expired = [];
    mock.timers.enable({ apis: ['setTimeout'] });
  });
  afterEach(() => mock.timers.reset());

  const of = (timeoutMs: number | null): TimeoutQueue<string> =>
    new TimeoutQueue(
      timeoutMs,
      () => now,
      (thing) => expired.push(thing),
    );

  function pass(ms: number): void {
    now += ms;
    mock.timers.tick(ms);
  }

  test('reports each entry once, when it is due and not earlier', () => {
    const queue = of(100);
    queue.start('a');
    pass(60);
    queue.start('b');
    pass(39);
    assert.deepEqual(expired, []);
    pass(1);
    assert.deepEqual(expired, ['a']);
    pass(60);
    assert.deepEqual(expired, ['a', 'b']);
    pass(1000);
    assert.deepEqual([expired.length, queue.size], [2, 0]);
  });

  test('reports thousands that are due at once in slices', () => {
    const notifications: number[] = [];
    const queue = new TimeoutQueue<number>(
      100,
      () => now,
      (thing) => {
        // Each report takes 1 ms.
        now += 1;
        notifications.push(thing);
      },
    );
    for (let thing = 0; thing < 10; thing += 1) queue.start(thing);
    pass(100);
    assert.equal(notifications.length, 4);
    pass(1);
    assert.equal(notifications.length, 8);
    pass(1);
    assert.deepEqual([notifications.length, queue.size], [10, 0]);
  });

  test('forgets stopped timeouts, and can start another one for the same thing', () => {
    const queue = of(100);
    const [first, second] = ['a', 'b', 'c'].map((thing) => queue.start(thing));
    second?.stop();
    second?.stop();
    pass(50);
    first?.stop();
    queue.start('a');
    pass(50);
    assert.deepEqual(expired, ['c']);
    pass(50);
    assert.deepEqual(expired, ['c', 'a']);
    first?.stop();
    assert.equal(queue.size, 0);
  });

  test('works again after it was empty', () => {
    const queue = of(100);
    queue.start('a')?.stop();
    pass(1000);
    queue.start('b');
    pass(100);
    assert.deepEqual(expired, ['b']);
  });

  test('can have a timeout longer than that of a timer', () => {
    const queue = of(60 * DAY_MS);
    queue.start('a');
    for (let day = 0; day < 59; day += 1) pass(DAY_MS);
    assert.deepEqual(expired, []);
    pass(DAY_MS);
    assert.deepEqual(expired, ['a']);
  });

  test('sets no timer that is too long', async (context) => {
    mock.timers.reset();
    const warnings: string[] = [];
    const onWarning = ({ name }: Error): void => void warnings.push(name);
    process.on('warning', onWarning);
    context.after(() => process.off('warning', onWarning));
    const queue = of(60 * DAY_MS);
    context.after(() => queue.close());
    queue.start('a');
    // Node.js warns in the next turn, and such a timer would fire at once, again and again.
    await new Promise((resolve) => setImmediate(resolve));
    await new Promise((resolve) => setTimeout(resolve, 5));
    assert.deepEqual(warnings, []);
  });

  test('reports entries while others are stopped and started at the same moment', () => {
    const queue: TimeoutQueue<string> = new TimeoutQueue(
      100,
      () => now,
      (thing) => {
        expired.push(thing);
        if (thing !== 'a') return;
        second?.stop();
        queue.start('d');
      },
    );
    const [, second] = ['a', 'b', 'c'].map((thing) => queue.start(thing));
    pass(100);
    assert.deepEqual(expired, ['a', 'c']);
    pass(100);
    assert.deepEqual(expired, ['a', 'c', 'd']);
  });

  test('reports nothing without a timeout, or after it is closed', () => {
    const unlimited = of(null);
    unlimited.start('a');
    const closed = of(100);
    closed.start('b');
    closed.close();
    pass(DAY_MS);
    assert.deepEqual([expired, unlimited.size, closed.size], [[], 0, 0]);
  });
});

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
