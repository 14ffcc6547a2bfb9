import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import * as fc from 'fast-check';
import type { HistorySeries, RecordedTime } from '../../../../src/sidecar/api.ts';
import { LiveHistory } from '../../../../src/sidecar/live-history.ts';
import { toRelayStatus } from '../../../../src/sidecar/live-status.ts';
import {
  gapCaption,
  gapNotes,
  isInGap,
  toBands,
  toGaps,
  toObservation,
} from '../../../../src/sidecar/dashboard/usage-gaps.ts';
import type { Gap, Observation } from '../../../../src/sidecar/dashboard/usage-gaps.ts';
import type { TimeBucket } from '../../../../src/sidecar/dashboard/usage-periods.ts';
import { rangeOf } from './period-ranges.ts';

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;

const NOW_MS = Date.UTC(2026, 10, 23, 5, 30);
const GENERATED = new Date(NOW_MS).toISOString();

/** The fields of a relay's status that have no default. */
const BASE_STATUS = {
  draining: false,
  uptime_seconds: 1,
  pairs: 2,
  waiting: 0,
  relayed_bytes: 3,
  bytes_per_second: 4,
};

/** From 06:00 of the day before. */
const DAY = rangeOf('day', NOW_MS);

function ago(durationMs: number): string {
  return new Date(NOW_MS - durationMs).toISOString();
}

/** A relay that has run for years and wrote its database just now. */
const RUNNING: RecordedTime = { from: ago(900 * DAY_MS), to: ago(0), relay_started: ago(500 * DAY_MS) };

function gapsOf(
  recorded: Partial<RecordedTime> = {},
  { records = DAY.buckets.map(() => 0), observation = null as Observation | null } = {},
): Gap[] {
  return toGaps(DAY, { generated: GENERATED, recorded: { ...RUNNING, ...recorded } }, records, observation);
}

/** A gap as its reason, and hours before now. */
function described(gaps: readonly Gap[]): string[] {
  return gaps.map(
    ({ reason, fromMs, toMs }) =>
      `${reason} ${[fromMs, toMs].map((timeMs) => (NOW_MS - timeMs) / HOUR_MS).join(' to ')}`,
  );
}

function bucketAt(bar: number): TimeBucket {
  const bucket = DAY.buckets[bar];
  assert.ok(bucket !== undefined);
  return bucket;
}

function plain(text: string): string {
  return text.replaceAll('\u00a0', ' ');
}

describe('the gaps of a chart', () => {
  test('do not exist while the relay runs, even without records', () => {
    assert.deepEqual(gapsOf(), []);
  });

  test('are the time before the first record', () => {
    assert.deepEqual(described(gapsOf({ from: ago(2 * HOUR_MS) })), ['before 23.5 to 2']);
    assert.deepEqual(described(gapsOf({ from: null, to: null, relay_started: null })), ['before 23.5 to 0']);
  });

  test('are the time since the database was last written, but not the usual interval', () => {
    assert.deepEqual(gapsOf({ to: ago(5 * MINUTE_MS) }), []);
    assert.deepEqual(described(gapsOf({ to: ago(6 * HOUR_MS) })), ['stale 6 to 0']);
    assert.deepEqual(described(gapsOf({ to: ago(400 * DAY_MS) })), ['stale 23.5 to 0']);
  });

  test('are the outages that the sidecar saw, within the range', () => {
    const outages = [
      { fromMs: NOW_MS - 2 * DAY_MS, toMs: NOW_MS - 23 * HOUR_MS },
      { fromMs: NOW_MS - 3 * HOUR_MS, toMs: NOW_MS - 2 * HOUR_MS },
      { fromMs: NOW_MS - HOUR_MS, toMs: NOW_MS + HOUR_MS },
    ];
    const observation = { fromMs: 0, outages };
    assert.deepEqual(described(gapsOf({}, { observation })), [
      'down 23.5 to 23',
      'down 3 to 2',
      'down 1 to 0',
    ]);
  });

  describe('without a trace of the relay', () => {
    const busy = DAY.buckets.map((_, bar) => (bar === 3 || bar === 20 ? 0 : 10));
    const restarted = { relay_started: ago(12 * HOUR_MS) };

    test('are empty hours before its last start, if most hours have records', () => {
      assert.deepEqual(described(gapsOf(restarted, { records: busy })), ['silent 20.5 to 19.5']);
    });

    test('are not hours that the sidecar has watched', () => {
      const observation = { fromMs: NOW_MS - 22 * HOUR_MS, outages: [] };
      assert.deepEqual(gapsOf(restarted, { records: busy, observation }), []);
    });

    test('are not the empty hours of a quiet relay', () => {
      assert.deepEqual(gapsOf(restarted, { records: busy.map((records) => records / 2) }), []);
    });
  });

  test('are inside the range and not in the future, whatever the database says', () => {
    const anyTime = fc.option(
      fc.integer({ min: -2, max: 3 }).map((days) => ago(days * DAY_MS + days * MINUTE_MS)),
    );
    const anyRecorded = fc.record({ from: anyTime, to: anyTime, relay_started: anyTime });
    fc.assert(
      fc.property(anyRecorded, (recorded) => {
        for (const { fromMs, toMs } of gapsOf(recorded))
          assert.ok(DAY.fromMs <= fromMs && fromMs < toMs && toMs <= NOW_MS);
      }),
    );
  });
});

describe('the outages in the history of the sidecar', () => {
  type Points = readonly (number | null)[];

  /** The last step ends now. */
  const series = (step: 1 | 10, pairs: Points): HistorySeries => ({
    step_seconds: step,
    end: new Date(NOW_MS - step * 1000).toISOString(),
    bytes_per_second: pairs,
    pairs,
    waiting: pairs,
    connections: pairs,
    refused: pairs,
  });
  const observe = (pairs: Points, sidecarStartedMs = 0): Observation | null =>
    toObservation({ series: [series(10, pairs)] }, sidecarStartedMs);
  const points = (count: number, value: number | null): Points => Array.from({ length: count }, () => value);

  test('are times without an answer', () => {
    assert.deepEqual(observe([...points(5, 0), ...points(6, null), ...points(3, 1)]), {
      fromMs: NOW_MS - 140_000,
      outages: [{ fromMs: NOW_MS - 90_000, toMs: NOW_MS - 30_000 }],
    });
  });

  test('may last until now', () => {
    const outages = [{ fromMs: NOW_MS - 80_000, toMs: NOW_MS }];
    assert.deepEqual(observe([0, ...points(8, null)])?.outages, outages);
  });

  test('are not shorter than a minute', () => {
    assert.deepEqual(observe([0, ...points(5, null), 0])?.outages, []);
  });

  test('do not begin before the sidecar', () => {
    const pairs = [...points(30, null), 0];
    assert.deepEqual(observe(pairs, NOW_MS - 100_000), {
      fromMs: NOW_MS - 100_000,
      outages: [{ fromMs: NOW_MS - 100_000, toMs: NOW_MS - 10_000 }],
    });
    assert.deepEqual(observe(pairs, NOW_MS)?.outages, []);
  });

  test('come from the series with the longest steps', () => {
    const both = [series(1, points(300, null)), series(10, points(300, 0))];
    assert.deepEqual(toObservation({ series: both }, 0), { fromMs: NOW_MS - 3_000_000, outages: [] });
  });

  test('are those of the history that the sidecar keeps', () => {
    const history = new LiveHistory();
    const status = toRelayStatus({ ...BASE_STATUS, started: ago(DAY_MS) });
    assert.ok(status !== null);
    for (let second = 0; second < 600; second += 1) {
      const isDown = second >= 200 && second < 300;
      history.add(isDown ? { state: 'down', problem: 'no answer' } : status, second * 1000);
    }
    assert.deepEqual(toObservation(history.read(NOW_MS, 599_000, 86_400), NOW_MS - 599_000), {
      fromMs: NOW_MS - 599_000,
      outages: [{ fromMs: NOW_MS - 399_000, toMs: NOW_MS - 299_000 }],
    });
  });

  test('are unknown without a history', () => {
    assert.equal(toObservation({ series: [] }, 0), null);
    assert.equal(observe([]), null);
  });
});

describe('a gap on the page', () => {
  const gap = (reason: Gap['reason'], fromBar: number, toBar: number): Gap => ({
    reason,
    fromMs: DAY.fromMs + fromBar * HOUR_MS,
    toMs: DAY.fromMs + toBar * HOUR_MS,
  });

  test('is a band on the scale of the bars', () => {
    assert.deepEqual(toBands(DAY, []), []);
    assert.deepEqual(toBands(DAY, [gap('down', 20, 24), gap('before', 0, 2.5)]), [
      { from: 0, to: 2.5 },
      { from: 20, to: 24 },
    ]);
  });

  test('is merged with others that touch it', () => {
    const gaps = [gap('down', 3, 5), gap('stale', 4, 4.5), gap('silent', 5, 6), gap('down', 7, 8)];
    assert.deepEqual(toBands(DAY, gaps), [
      { from: 3, to: 6 },
      { from: 7, to: 8 },
    ]);
  });

  test('covers a bar only if nothing of its past is left', () => {
    const covers = (bar: number, ...gaps: readonly Gap[]): boolean => isInGap(bucketAt(bar), gaps, NOW_MS);
    assert.equal(covers(3, gap('down', 3, 4)), true);
    assert.equal(covers(3, gap('down', 3.5, 4), gap('before', 0, 3.5)), true);
    assert.equal(covers(3, gap('down', 3.6, 4), gap('before', 0, 3.5)), false);
    assert.equal(covers(3, gap('down', 3.1, 5)), false);
    assert.equal(covers(3), false);
    // The current hour is half over.
    assert.equal(covers(23, gap('stale', 20, 23.5)), true);
  });

  test('is explained in the tooltip of each bar that it touches', () => {
    const notes = (bar: number, ...gaps: readonly Gap[]): string[] =>
      gapNotes(bucketAt(bar), gaps).map(plain);
    assert.deepEqual(notes(5, gap('down', 6, 7), gap('stale', 3, 5)), []);
    assert.deepEqual(notes(5, gap('down', 5.25, 5.5), gap('down', 5.75, 9)), [
      'the relay did not answer for 30 min',
    ]);
    assert.deepEqual(notes(5, gap('before', 0, 6)), ['before the first record']);
    assert.deepEqual(notes(5, gap('before', 0, 5.5)), ['records begin 22 Nov 2026, 11:30 UTC']);
    assert.deepEqual(notes(5, gap('stale', 2, 9)), ['nothing recorded since 22 Nov 2026, 08:00 UTC']);
    assert.deepEqual(notes(5, gap('silent', 5, 6)), ['no records: the relay may have been down']);
  });

  test('is explained below the chart, each reason once', () => {
    assert.equal(gapCaption([]), '');
    assert.equal(
      gapCaption([gap('before', 0, 1), gap('down', 2, 3), gap('down', 4, 5)]),
      'Hatched: no data (before the first record; the relay did not answer).',
    );
  });
});
