import { deepEqual, equal, ok } from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Registry } from 'prom-client';
import { EventLoopLagSummary } from '../../../src/process/event-loop-lag.ts';

/** The summary of these samples, by name. */
async function summaryOf(samples: readonly number[]): Promise<Readonly<Record<string, number>>> {
  const registry = new Registry();
  const summary = new EventLoopLagSummary(registry);
  for (const seconds of samples) summary.observe(seconds);
  const lines = (await registry.metrics()).matchAll(/^nodejs_eventloop_lag_(\w+)_seconds (\S+)$/gmu);
  return Object.fromEntries([...lines].map(([, name = '', value]) => [name, Number(value)]));
}

describe('the summary of the lag of the event loop', () => {
  test('is 0 without samples', async () => {
    deepEqual(await summaryOf([]), { min: 0, max: 0, mean: 0, stddev: 0, p50: 0, p90: 0, p99: 0 });
  });

  test('has the distribution of the samples in any order', async () => {
    const samples = Array.from({ length: 101 }, (_, index) => ((index * 37) % 101) / 100);
    const { stddev = 0, mean = 0, ...others } = await summaryOf(samples);
    deepEqual(others, { min: 0, max: 1, p50: 0.5, p90: 0.9, p99: 0.99 });
    ok(Math.abs(mean - 0.5) < 1e-9, `${mean}`);
    ok(Math.abs(stddev - Math.sqrt((101 ** 2 - 1) / 12) / 100) < 1e-9, `${stddev}`);
  });

  test('forgets a sample after 600 others', async () => {
    const quick = Array.from({ length: 599 }, () => 0.001);
    equal((await summaryOf([7, ...quick]))['max'], 7);
    equal((await summaryOf([7, ...quick, 0.001]))['max'], 0.001);
  });
});
