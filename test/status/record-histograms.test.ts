import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { RecordHistograms } from '../../src/status/histograms.ts';
import { UsageRecorder } from '../../src/usage/record.ts';
import type { UsageRecord } from '../../src/usage/record.ts';
import { parseMetrics } from '../support/metrics.ts';

const PAIR: UsageRecord = {
  started: 1_795_409_558.979,
  total_time: 95.25,
  waiting_time: 33.5,
  total_bytes: 1_234_567,
  mood: 'happy',
};

/** A multiple of all blurs here. */
const START = 1_795_410_000;

/** Histograms behind a recorder, and a wall clock in seconds. */
function open(blurSeconds: number) {
  const time = { seconds: START };
  const histograms = new RecordHistograms(blurSeconds, () => time.seconds * 1000);
  const recorder = new UsageRecorder(blurSeconds);
  recorder.addSink(histograms);
  const figure = (name: string): number | undefined =>
    parseMetrics(histograms.render()).get(`transit_relay_${name}`);
  return { time, recorder, figure };
}

describe('histograms of records', () => {
  test('are all there before the first record', () => {
    const { figure } = open(0);
    for (const name of ['waiting_seconds', 'pair_duration_seconds', 'pair_size_bytes']) {
      for (const suffix of ['_sum', '_count', '_bucket{le="+Inf"}']) assert.equal(figure(name + suffix), 0);
    }
  });

  test('take from a pair how long it waited, how long it ran and what it moved', () => {
    const { recorder, figure } = open(0);
    recorder.record(PAIR);
    assert.equal(figure('waiting_seconds_sum'), 33.5);
    assert.equal(figure('waiting_seconds_bucket{le="30"}'), 0);
    assert.equal(figure('waiting_seconds_bucket{le="60"}'), 1);
    assert.equal(figure('pair_duration_seconds_sum'), 61.75);
    assert.equal(figure('pair_duration_seconds_bucket{le="60"}'), 0);
    assert.equal(figure('pair_duration_seconds_bucket{le="300"}'), 1);
    assert.equal(figure('pair_size_bytes_sum'), 1_234_567);
    assert.equal(figure('pair_size_bytes_bucket{le="1000000"}'), 0);
    assert.equal(figure('pair_size_bytes_bucket{le="10000000"}'), 1);
  });

  test('take nothing from a record without a partner', () => {
    const { recorder, figure } = open(0);
    recorder.record({ ...PAIR, waiting_time: null, total_bytes: 0, mood: 'lonely' });
    for (const name of ['waiting_seconds', 'pair_duration_seconds', 'pair_size_bytes'])
      assert.equal(figure(`${name}_count`), 0);
  });
});

describe('histograms of blurred records', () => {
  test('have sums of what the records say, and of nothing finer', () => {
    const { time, recorder, figure } = open(3600);
    recorder.record(PAIR);
    time.seconds += 3600;
    // Its record: waited 40 s, took 2 minutes, moved 2 MB.
    assert.equal(figure('waiting_seconds_sum'), 40);
    assert.equal(figure('pair_duration_seconds_sum'), 80);
    assert.equal(figure('pair_size_bytes_sum'), 2_000_000);
  });

  test('change at multiples of the blur alone, however often they are asked', () => {
    const { time, recorder, figure } = open(3600);
    const changes: number[] = [];
    for (let before = 0; time.seconds < START + 4 * 3600; time.seconds += 60) {
      if (time.seconds < START + 3600) recorder.record({ ...PAIR, started: time.seconds - PAIR.total_time });
      const count = figure('pair_size_bytes_count') ?? Number.NaN;
      if (count !== before) changes.push(time.seconds - START, count);
      before = count;
    }
    // Two that had begun an hour earlier, and those that began in the first hour.
    assert.deepEqual(changes, [3600, 2, 7200, 60]);
  });

  test('tell of two pairs at the same time whose records are the same, though one ended in the next hour', () => {
    const begun = [START + 1, START + 3599.5];
    for (const started of begun) {
      const { time, recorder, figure } = open(3600);
      time.seconds = started + 9;
      recorder.record({ ...PAIR, started, total_time: 9, waiting_time: 1 });
      for (time.seconds = START + 3610; time.seconds < START + 7200; time.seconds += 10)
        assert.equal(figure('pair_size_bytes_count'), 0);
      time.seconds = START + 7200;
      assert.equal(figure('pair_size_bytes_count'), 1);
    }
  });

  test('tell at the next multiple of what should have been told, had the clock not jumped', () => {
    const { time, recorder, figure } = open(3600);
    time.seconds = START + 600;
    recorder.record({ ...PAIR, started: START - 86_400 });
    time.seconds = START + 3599;
    assert.equal(figure('pair_size_bytes_count'), 0);
    time.seconds = START + 3600;
    assert.equal(figure('pair_size_bytes_count'), 1);
  });

  test('have what is due, though nobody asked then', () => {
    const { time, recorder, figure } = open(3600);
    const ends = (): void => recorder.record({ ...PAIR, started: time.seconds - PAIR.total_time });
    time.seconds = START + 1800;
    ends();
    time.seconds += 7200;
    ends();
    time.seconds += 600;
    assert.equal(figure('pair_size_bytes_count'), 1);
    time.seconds += 7200;
    assert.equal(figure('pair_size_bytes_count'), 2);
  });

  test('never go back and lose nothing, whatever the clock does', () => {
    const { time, recorder, figure } = open(300);
    let before = 0;
    for (const jump of [10, 300, -86_400, 20, 86_400, -1, 299, -300, 600]) {
      recorder.record({ ...PAIR, started: time.seconds - PAIR.total_time });
      const count = figure('pair_size_bytes_count') ?? Number.NaN;
      assert.equal(count, before, 'nothing is told at once');
      time.seconds += jump;
      const later = figure('pair_size_bytes_count') ?? Number.NaN;
      assert.ok(later >= count);
      before = later;
    }
    time.seconds += 600;
    assert.equal(figure('pair_size_bytes_count'), 9);
  });
});
