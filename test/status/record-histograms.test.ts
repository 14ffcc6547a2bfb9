import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { RecordHistograms } from '../../src/status/record-histograms.ts';
import { Recorder } from '../../src/usage/recorder.ts';
import type { UsageRecord } from '../../src/usage/record.ts';
import { parseMetrics } from '../support/metrics.ts';

const PAIR: UsageRecord = {
  started: 1_795_409_558.979,
  total_time: 95.25,
  waiting_time: 33.5,
  total_bytes: 1_234_567,
  mood: 'happy',
};

/** Histograms behind a recorder, and a wall clock in seconds. */
function open(blurSeconds: number) {
  const time = { seconds: 1_795_410_000 };
  const histograms = new RecordHistograms(blurSeconds, () => time.seconds * 1000);
  const recorder = new Recorder(blurSeconds);
  recorder.addSink(histograms);
  const figure = async (name: string): Promise<number | undefined> =>
    parseMetrics(await histograms.text()).get(`transit_relay_${name}`);
  return { time, recorder, figure };
}

describe('histograms of records', () => {
  test('are all there before the first record', async () => {
    const { figure } = open(0);
    for (const name of ['waiting_seconds', 'pair_duration_seconds', 'pair_size_bytes']) {
      for (const suffix of ['_sum', '_count', '_bucket{le="+Inf"}'])
        assert.equal(await figure(name + suffix), 0);
    }
  });

  test('take from a pair how long it waited, how long it ran and what it moved', async () => {
    const { recorder, figure } = open(0);
    recorder.record(PAIR);
    assert.equal(await figure('waiting_seconds_sum'), 33.5);
    assert.equal(await figure('waiting_seconds_bucket{le="30"}'), 0);
    assert.equal(await figure('waiting_seconds_bucket{le="60"}'), 1);
    assert.equal(await figure('pair_duration_seconds_sum'), 61.75);
    assert.equal(await figure('pair_duration_seconds_bucket{le="60"}'), 0);
    assert.equal(await figure('pair_duration_seconds_bucket{le="300"}'), 1);
    assert.equal(await figure('pair_size_bytes_sum'), 1_234_567);
    assert.equal(await figure('pair_size_bytes_bucket{le="1000000"}'), 0);
    assert.equal(await figure('pair_size_bytes_bucket{le="10000000"}'), 1);
  });

  test('take nothing from a record without a partner', async () => {
    const { recorder, figure } = open(0);
    recorder.record({ ...PAIR, waiting_time: null, total_bytes: 0, mood: 'lonely' });
    for (const name of ['waiting_seconds', 'pair_duration_seconds', 'pair_size_bytes'])
      assert.equal(await figure(`${name}_count`), 0);
  });
});

describe('histograms of blurred records', () => {
  test('have sums of what the records say, and of nothing finer', async () => {
    const { time, recorder, figure } = open(3600);
    recorder.record(PAIR);
    time.seconds += 3600;
    // Its record: waited 40 s, took 2 minutes, moved 2 MB.
    assert.equal(await figure('waiting_seconds_sum'), 40);
    assert.equal(await figure('pair_duration_seconds_sum'), 80);
    assert.equal(await figure('pair_size_bytes_sum'), 2_000_000);
  });

  test('change at multiples of the blur alone, however often they are asked', async () => {
    const { time, recorder, figure } = open(3600);
    time.seconds = 3600 * 498_726;
    for (let minute = 0; minute < 60; minute += 1) {
      recorder.record(PAIR);
      assert.equal(await figure('pair_size_bytes_count'), 0);
      time.seconds += 60;
    }
    assert.equal(await figure('pair_size_bytes_count'), 60);
    recorder.record(PAIR);
    assert.equal(await figure('pair_size_bytes_count'), 60);
  });

  test('have what came before the last multiple, though nobody asked then', async () => {
    const { time, recorder, figure } = open(3600);
    time.seconds = 3600 * 498_726 + 1800;
    recorder.record(PAIR);
    time.seconds += 3600;
    recorder.record(PAIR);
    time.seconds += 600;
    assert.equal(await figure('pair_size_bytes_count'), 1);
    time.seconds += 7200;
    assert.equal(await figure('pair_size_bytes_count'), 2);
  });

  test('never go back, whatever the clock does', async () => {
    const { time, recorder, figure } = open(300);
    let before = 0;
    for (const jump of [10, 300, -86_400, 20, 86_400, -1, 299, -300, 600]) {
      recorder.record(PAIR);
      time.seconds += jump;
      const count = (await figure('pair_size_bytes_count')) ?? Number.NaN;
      assert.ok(count >= before);
      before = count;
    }
    assert.equal(before, 9);
  });
});
