import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RenewalLoop } from '../../src/cluster/token-leases.ts';

/** What has been promised and is due runs. */
async function flushMicrotasks(): Promise<void> {
  for (let turn = 0; turn < 5; turn += 1) await new Promise((resolve) => setImmediate(resolve));
}

test('rounds begin no further apart than they should, however long one takes', async (context) => {
  const { timers } = context.mock;
  timers.enable({ apis: ['setTimeout', 'Date'] });
  const began: number[] = [];
  const rounds = new RenewalLoop(
    10_000,
    () => {
      began.push(Date.now());
      return new Promise((resolve) => setTimeout(resolve, 7000));
    },
    () => Date.now(),
  );
  for (let tick = 0; tick < 600; tick += 1) {
    timers.tick(100);
    await flushMicrotasks();
  }
  assert.ok(began.length >= 6, `${began.length} rounds in a minute`);
  for (const [index, at] of began.entries()) {
    const before = began[index - 1] ?? 0;
    assert.ok(at - before >= 8000 && at - before <= 10_200, `${at - before} ms from one to the next`);
  }
  const closed = rounds.close();
  timers.tick(7000);
  await closed;
});

test('a round that takes longer than that is followed by the next at once', async (context) => {
  const { timers } = context.mock;
  timers.enable({ apis: ['setTimeout', 'Date'] });
  let count = 0;
  const rounds = new RenewalLoop(
    1000,
    () => {
      count += 1;
      return new Promise((resolve) => setTimeout(resolve, 5000));
    },
    () => Date.now(),
  );
  for (let tick = 0; tick < 220; tick += 1) {
    timers.tick(100);
    await flushMicrotasks();
  }
  assert.ok(count >= 4, `${count} rounds`);
  const closed = rounds.close();
  timers.tick(5000);
  await closed;
});
