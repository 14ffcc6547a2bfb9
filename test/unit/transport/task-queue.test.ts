import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { TaskQueue } from '../../../src/transport/task-queue.ts';

/** Keeps the processor busy. */
function work(ms: number): void {
  const end = performance.now() + ms;
  while (performance.now() < end);
}

describe('a task queue', () => {
  test('runs a few tasks immediately, and the others later in order', async () => {
    const queue = new TaskQueue();
    const done: number[] = [];
    for (let task = 0; task < 100; task += 1) queue.runOrDefer(() => done.push(task));
    assert.deepEqual([done.length, queue.isBusy], [32, true]);
    while (queue.isBusy) await nextTurn();
    assert.deepEqual(
      done,
      Array.from({ length: 100 }, (_, task) => task),
    );
    let isDone = false;
    queue.runOrDefer(() => {
      isDone = true;
    });
    assert.ok(isDone, 'the next tick starts with a full budget');
  });

  test('runs a task after those that are queued', async () => {
    const queue = new TaskQueue();
    const done: string[] = [];
    queue.defer(() => done.push('deferred'));
    queue.runOrDefer(() => done.push('run'));
    assert.deepEqual(done, []);
    while (queue.isBusy) await nextTurn();
    assert.deepEqual(done, ['deferred', 'run']);
  });

  test('lets other events run between slices', async () => {
    const queue = new TaskQueue();
    let done = 0;
    for (let task = 0; task < 50; task += 1) {
      queue.defer(() => {
        work(1);
        done += 1;
      });
    }
    const atTimers: number[] = [];
    const timer = setInterval(() => atTimers.push(done), 1);
    while (queue.isBusy) await nextTurn();
    clearInterval(timer);
    assert.equal(done, 50);
    assert.ok(atTimers.length >= 5, `${atTimers.length} timers`);
  });

  test('calls an action for each item in slices, and resolves after the last one', async () => {
    const queue = new TaskQueue();
    const items = Array.from({ length: 20 }, (_, value) => ({ value }));
    const seen: number[] = [];
    const all = queue.forEach(items, ({ value }) => {
      work(0.5);
      seen.push(value);
    });
    assert.ok(seen.length > 0 && seen.length < 20, `${seen.length} immediately`);
    await all;
    assert.deepEqual(
      seen,
      items.map(({ value }) => value),
    );
    await queue.forEach([], () => assert.fail('no item'));
  });
});
