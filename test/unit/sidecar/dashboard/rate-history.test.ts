import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { LiveHistory } from '../../../../src/sidecar/api.ts';
import { HISTORY_S, RateHistory } from '../../../../src/sidecar/dashboard/rate-history.ts';

type Rates = readonly (number | null)[];

/** @param end of both series, in seconds since the epoch */
function toLiveHistory(end: number, tenSeconds: Rates, seconds: Rates): LiveHistory {
  const now = new Date(end * 1000).toISOString();
  const series = (step_seconds: 1 | 10, rates: Rates): LiveHistory['series'][number] => ({
    step_seconds,
    end: new Date(Math.floor(end / step_seconds) * step_seconds * 1000).toISOString(),
    bytes_per_second: rates,
    pairs: rates,
    waiting: rates,
    connections: rates,
    refused: rates,
  });
  return { now, series: [series(1, seconds), series(10, tenSeconds)] };
}

describe('the history of the rate', () => {
  test('has the mean of each ten seconds', () => {
    const history = new RateHistory();
    for (const [second, rate] of [
      [1, 10],
      [2, 20],
      [9, null],
      [10, 5],
    ] as const)
      history.add(second, rate);
    assert.deepEqual(
      [history.times, history.rates],
      [
        [0, 10],
        [15, 5],
      ],
    );
  });

  test('keeps an hour', () => {
    const history = new RateHistory();
    for (let second = 0; second <= 2 * HISTORY_S; second += 1) history.add(second, second);
    assert.equal(history.times[0], HISTORY_S);
    assert.equal(history.times.length, HISTORY_S / 10 + 1);
    assert.deepEqual(history.peak, { timeSeconds: 2 * HISTORY_S, rate: 2 * HISTORY_S });
  });

  test('has a gap where samples are missing, and where the rate is unknown', () => {
    const history = new RateHistory();
    for (const second of [1, 11, 61]) history.add(second, 5);
    history.add(71, null);
    history.add(81, 6);
    assert.deepEqual(history.times, [0, 10, 20, 60, 70, 80]);
    assert.deepEqual(history.rates, [5, 5, null, 5, null, 6]);
  });

  test('ignores repeated and earlier times', () => {
    const history = new RateHistory();
    for (const second of [5, 5, 4, 6]) history.add(second, second);
    assert.deepEqual(history.rates, [5.5]);
    assert.equal(history.latest, 6);
  });

  test('has no peak without a rate above 0', () => {
    const history = new RateHistory();
    history.add(1, null);
    assert.equal(history.peak, null);
    assert.equal(history.latestKnown, null);
    history.add(2, 0);
    assert.equal(history.peak, null);
    assert.equal(history.latestKnown, 2);
  });

  test('is loaded from the sidecar, and continued', () => {
    const history = new RateHistory();
    history.add(7, 99);
    history.load(toLiveHistory(1_000_004, [4, null, 8], [8, 8, 1, 2, 3, 6]));
    assert.deepEqual(history.times, [999_980, 999_990, 1_000_000]);
    // The current ten seconds have their coarse value and the four samples after it.
    assert.deepEqual(history.rates, [4, null, (8 + 1 + 2 + 3 + 6) / 5]);
    assert.equal(history.latestKnown, 1_000_004);
    history.add(1_000_011, 7);
    assert.deepEqual(history.times.slice(-1), [1_000_010]);
    assert.deepEqual(history.rates.slice(-1), [7]);
  });

  test('knows when the relay was last up', () => {
    const history = new RateHistory();
    history.load(toLiveHistory(1_000_000, [4, 5, null, null], [null, null, null]));
    assert.equal(history.latestKnown, 999_980);
  });
});
