import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RenewalLoop } from '../../src/cluster/token-leases.ts';

/** Runs all promise callbacks that are due. */
async function flushMicrotasks(): Promise<void> {
  for (let turn = 0; turn < 5; turn += 1) await new Promise((resolve) => setImmediate(resolve));
}

test('renewals start at most one interval apart, however long each of them takes', async (context) => {
  const { timers } = context.mock;
  timers.enable({ apis: ['setTimeout', 'Date'] });
  const startTimes: number[] = [];
  const loop = new RenewalLoop(
    10_000,
    () => {
      startTimes.push(Date.now());
      return new Promise((resolve) => setTimeout(resolve, 7000));
    },
    () => Date.now(),
  );
  for (let tick = 0; tick < 600; tick += 1) {
    timers.tick(100);
    await flushMicrotasks();
  }
  assert.ok(startTimes.length >= 6, `${startTimes.length} renewals in a minute`);
  for (const [index, at] of startTimes.entries()) {
    const before = startTimes[index - 1] ?? 0;
    assert.ok(at - before >= 8000 && at - before <= 10_200, `${at - before} ms between two renewals`);
  }
  const closed = loop.close();
  timers.tick(7000);
  await closed;
});

test('a renewal that takes longer than the interval is followed by the next one immediately', async (context) => {
  const { timers } = context.mock;
  timers.enable({ apis: ['setTimeout', 'Date'] });
  let count = 0;
  const loop = new RenewalLoop(
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
  assert.ok(count >= 4, `${count} renewals`);
  const closed = loop.close();
  timers.tick(5000);
  await closed;
});
