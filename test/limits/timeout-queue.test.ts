import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, mock, test } from 'node:test';
import { TimeoutQueue } from '../../src/limits/timeout-queue.ts';

const DAY_MS = 86_400_000;

describe('deadlines', () => {
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

  test('tell of each thing once, when its time is over and not before', () => {
    const deadlines = of(100);
    deadlines.start('a');
    pass(60);
    deadlines.start('b');
    pass(39);
    assert.deepEqual(expired, []);
    pass(1);
    assert.deepEqual(expired, ['a']);
    pass(60);
    assert.deepEqual(expired, ['a', 'b']);
    pass(1000);
    assert.deepEqual([expired.length, deadlines.size], [2, 0]);
  });

  test('tell of thousands that are due at once in slices', () => {
    const notifications: number[] = [];
    const deadlines = new TimeoutQueue<number>(
      100,
      () => now,
      (thing) => {
        // Each takes 1 ms.
        now += 1;
        notifications.push(thing);
      },
    );
    for (let thing = 0; thing < 10; thing += 1) deadlines.start(thing);
    pass(100);
    assert.equal(notifications.length, 4);
    pass(1);
    assert.equal(notifications.length, 8);
    pass(1);
    assert.deepEqual([notifications.length, deadlines.size], [10, 0]);
  });

  test('forget what is done, and what has started anew starts anew', () => {
    const deadlines = of(100);
    for (const thing of ['a', 'b', 'c']) deadlines.start(thing);
    deadlines.stop('b');
    deadlines.stop('never there');
    pass(50);
    deadlines.start('a');
    pass(50);
    assert.deepEqual(expired, ['c']);
    pass(50);
    assert.deepEqual(expired, ['c', 'a']);
  });

  test('go on after a time in which there was nothing', () => {
    const deadlines = of(100);
    deadlines.start('a');
    deadlines.stop('a');
    pass(1000);
    deadlines.start('b');
    pass(100);
    assert.deepEqual(expired, ['b']);
  });

  test('may be longer than a timer can be', () => {
    const deadlines = of(60 * DAY_MS);
    deadlines.start('a');
    for (let day = 0; day < 59; day += 1) pass(DAY_MS);
    assert.deepEqual(expired, []);
    pass(DAY_MS);
    assert.deepEqual(expired, ['a']);
  });

  test('that are longer than a timer can be ask for none that long', async (context) => {
    mock.timers.reset();
    const warnings: string[] = [];
    const onWarning = ({ name }: Error): void => void warnings.push(name);
    process.on('warning', onWarning);
    context.after(() => process.off('warning', onWarning));
    const deadlines = of(60 * DAY_MS);
    context.after(() => deadlines.close());
    deadlines.start('a');
    // Node warns in the next turn, and would look at once then, and always again.
    await new Promise((resolve) => setImmediate(resolve));
    await new Promise((resolve) => setTimeout(resolve, 5));
    assert.deepEqual(warnings, []);
  });

  test('are told of while others are stopped and started in the same moment', () => {
    const deadlines: TimeoutQueue<string> = new TimeoutQueue(
      100,
      () => now,
      (thing) => {
        expired.push(thing);
        if (thing !== 'a') return;
        deadlines.stop('b');
        deadlines.start('d');
      },
    );
    for (const thing of ['a', 'b', 'c']) deadlines.start(thing);
    pass(100);
    assert.deepEqual(expired, ['a', 'c']);
    pass(100);
    assert.deepEqual(expired, ['a', 'c', 'd']);
  });

  test('are never due where there is no limit, or everything has ended', () => {
    const unlimited = of(null);
    unlimited.start('a');
    const closed = of(100);
    closed.start('b');
    closed.close();
    pass(DAY_MS);
    assert.deepEqual([expired, unlimited.size, closed.size], [[], 0, 0]);
  });
});
