import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Histogram, Registry } from 'prom-client';
import { MergeableHistogram, RecordHistograms } from '../../../src/status/histograms.ts';
import { UsageRecorder } from '../../../src/usage/record.ts';
import type { UsageRecord } from '../../../src/usage/record.ts';
import { parseMetrics } from '../../support/metrics.ts';

const BOUNDS = [0.1, 1, 60, 1e12];

/** Values at, below and above each bound. */
const VALUES = [0, 0.1, 0.11, 0.9, 1, 1.5, 60, 61, 1e12, 2e12];

describe('a mergeable histogram', () => {
  test('renders the same text as a histogram of prom-client', async () => {
    const registry = new Registry();
    const expected = new Histogram({
      name: 'sizes',
      help: 'Of things.',
      buckets: BOUNDS,
      registers: [registry],
    });
    const ours = new MergeableHistogram('sizes', 'Of things.', BOUNDS);
    for (const value of [undefined, ...VALUES]) {
      if (value !== undefined) {
        expected.observe(value);
        ours.observe(value);
      }
      assert.equal(ours.render(), await registry.metrics());
    }
  });

  test('is the same whether it observes all values or adds another histogram', () => {
    const [all, some, others] = [1, 2, 3].map(() => new MergeableHistogram('sizes', 'Of things.', BOUNDS));
    assert.ok(all !== undefined && some !== undefined && others !== undefined);
    // Integers, because sums of fractions depend on their order.
    for (const [index, value] of VALUES.map(Math.ceil).entries()) {
      all.observe(value);
      (index % 3 === 0 ? some : others).observe(value);
    }
    some.add(others);
    assert.equal(some.render(), all.render());
  });
});

const PAIR: UsageRecord = {
  started: 1_795_409_558.979,
  total_time: 95.25,
  waiting_time: 33.5,
  total_bytes: 1_234_567,
  mood: 'happy',
};

/** A multiple of all blur intervals used here. */
const START = 1_795_410_000;

/** Histograms as the sink of a recorder, with a wall clock in seconds. */
function open(blurSeconds: number) {
  const time = { seconds: START };
  const histograms = new RecordHistograms(blurSeconds, () => time.seconds * 1000);
  const recorder = new UsageRecorder(blurSeconds);
  recorder.addSink(histograms);
  const metric = (name: string): number | undefined =>
    parseMetrics(histograms.render()).get(`transit_relay_${name}`);
  return { time, recorder, metric };
}

describe('histograms of records', () => {
  test('exist before the first record', () => {
    const { metric } = open(0);
    for (const name of ['waiting_seconds', 'pair_duration_seconds', 'pair_size_bytes']) {
      for (const suffix of ['_sum', '_count', '_bucket{le="+Inf"}']) assert.equal(metric(name + suffix), 0);
    }
  });

  test('contain the waiting time, duration and size of a pair', () => {
    const { recorder, metric } = open(0);
    recorder.record(PAIR);
    assert.equal(metric('waiting_seconds_sum'), 33.5);
    assert.equal(metric('waiting_seconds_bucket{le="30"}'), 0);
    assert.equal(metric('waiting_seconds_bucket{le="60"}'), 1);
    assert.equal(metric('pair_duration_seconds_sum'), 61.75);
    assert.equal(metric('pair_duration_seconds_bucket{le="60"}'), 0);
    assert.equal(metric('pair_duration_seconds_bucket{le="300"}'), 1);
    assert.equal(metric('pair_size_bytes_sum'), 1_234_567);
    assert.equal(metric('pair_size_bytes_bucket{le="1000000"}'), 0);
    assert.equal(metric('pair_size_bytes_bucket{le="10000000"}'), 1);
  });

  test('ignore records without a partner', () => {
    const { recorder, metric } = open(0);
    recorder.record({ ...PAIR, waiting_time: null, total_bytes: 0, mood: 'lonely' });
    for (const name of ['waiting_seconds', 'pair_duration_seconds', 'pair_size_bytes'])
      assert.equal(metric(`${name}_count`), 0);
  });
});

describe('histograms of blurred records', () => {
  test('sum the blurred values of records', () => {
    const { time, recorder, metric } = open(3600);
    recorder.record(PAIR);
    time.seconds += 3600;
    // The blurred record: waited 40 s, took 2 minutes, relayed 2 MB.
    assert.equal(metric('waiting_seconds_sum'), 40);
    assert.equal(metric('pair_duration_seconds_sum'), 80);
    assert.equal(metric('pair_size_bytes_sum'), 2_000_000);
  });

  test('only change at multiples of the blur interval, however often they are rendered', () => {
    const { time, recorder, metric } = open(3600);
    const changes: number[] = [];
    for (let before = 0; time.seconds < START + 4 * 3600; time.seconds += 60) {
      if (time.seconds < START + 3600) recorder.record({ ...PAIR, started: time.seconds - PAIR.total_time });
      const count = metric('pair_size_bytes_count') ?? Number.NaN;
      if (count !== before) changes.push(time.seconds - START, count);
      before = count;
    }
    // First two pairs that had started an hour earlier, then those that started in the first hour.
    assert.deepEqual(changes, [3600, 2, 7200, 60]);
  });

  test('publish two pairs with equal records at the same time, even if one ended an hour later', () => {
    const starts = [START + 1, START + 3599.5];
    for (const started of starts) {
      const { time, recorder, metric } = open(3600);
      time.seconds = started + 9;
      recorder.record({ ...PAIR, started, total_time: 9, waiting_time: 1 });
      for (time.seconds = START + 3610; time.seconds < START + 7200; time.seconds += 10)
        assert.equal(metric('pair_size_bytes_count'), 0);
      time.seconds = START + 7200;
      assert.equal(metric('pair_size_bytes_count'), 1);
    }
  });

  test('publish overdue pairs at the next multiple after a clock jump', () => {
    const { time, recorder, metric } = open(3600);
    time.seconds = START + 600;
    recorder.record({ ...PAIR, started: START - 86_400 });
    time.seconds = START + 3599;
    assert.equal(metric('pair_size_bytes_count'), 0);
    time.seconds = START + 3600;
    assert.equal(metric('pair_size_bytes_count'), 1);
  });

  test('publish due pairs even if they were not rendered in between', () => {
    const { time, recorder, metric } = open(3600);
    const endPair = (): void => recorder.record({ ...PAIR, started: time.seconds - PAIR.total_time });
    time.seconds = START + 1800;
    endPair();
    time.seconds += 7200;
    endPair();
    time.seconds += 600;
    assert.equal(metric('pair_size_bytes_count'), 1);
    time.seconds += 7200;
    assert.equal(metric('pair_size_bytes_count'), 2);
  });

  test('never decrease and lose no pair, for any changes of the clock', () => {
    const { time, recorder, metric } = open(300);
    let before = 0;
    for (const jump of [10, 300, -86_400, 20, 86_400, -1, 299, -300, 600]) {
      recorder.record({ ...PAIR, started: time.seconds - PAIR.total_time });
      const count = metric('pair_size_bytes_count') ?? Number.NaN;
      assert.equal(count, before, 'nothing is published immediately');
      time.seconds += jump;
      const later = metric('pair_size_bytes_count') ?? Number.NaN;
      assert.ok(later >= count);
      before = later;
    }
    time.seconds += 600;
    assert.equal(metric('pair_size_bytes_count'), 9);
  });
});
