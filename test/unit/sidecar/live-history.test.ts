import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { HistorySeries, LiveHistory as LiveHistoryReport } from '../../../src/sidecar/api.ts';
import { LiveHistory, MAX_HISTORY_SECONDS } from '../../../src/sidecar/live-history.ts';
import type { RelayStatus } from '../../../src/status/relay-status.ts';
import { BUSY_STATUS } from '../../support/metrics.ts';

const WALL_MS = Date.UTC(2026, 10, 23, 5);

/** A history that is polled in the middle of each second of a monotonic clock. */
class HistoryFixture {
  readonly history = new LiveHistory();
  /** Of the next poll. */
  second = 0;

  /** Adds the results of that many polls. Null: the relay is down. */
  poll(times: number, status: Partial<RelayStatus> | null = {}): void {
    for (let time = 0; time < times; time += 1) {
      const state =
        status === null ? ({ state: 'down', problem: 'timeout' } as const) : { ...BUSY_STATUS, ...status };
      this.history.add(state, this.second * 1000 + 500);
      this.second += 1;
    }
  }

  /** Adds a poll with that many rejected clients since the start of the relay. */
  pollRefused(connections: number, started = BUSY_STATUS.started): void {
    this.poll(1, { started, refused: { ...BUSY_STATUS.refused, connections } });
  }

  read(seconds?: number): LiveHistoryReport {
    return this.history.read(WALL_MS + this.second * 1000, this.second * 1000, seconds);
  }

  get fine(): HistorySeries {
    return seriesOf(this.read(), 1);
  }

  coarse(seconds?: number): HistorySeries {
    return seriesOf(this.read(seconds), 10);
  }
}

function seriesOf({ series }: LiveHistoryReport, step: 1 | 10): HistorySeries {
  const found = series.find(({ step_seconds: seconds }) => seconds === step);
  assert.ok(found !== undefined);
  return found;
}

describe('the history of the relay', () => {
  test('is empty at first, with lists of full length', () => {
    const fixture = new HistoryFixture();
    const { fine } = fixture;
    assert.deepEqual(
      fine.pairs,
      Array.from({ length: 300 }, () => null),
    );
    assert.deepEqual(
      [fixture.coarse().pairs.length, fixture.coarse(60).pairs.length, fixture.coarse(61).pairs.length],
      [360, 6, 7],
    );
    assert.equal(fine.end, new Date(WALL_MS).toISOString());
  });

  test('has each second of the last five minutes', () => {
    const fixture = new HistoryFixture();
    for (let second = 0; second < 700; second += 1)
      fixture.poll(1, { pairs: second, waiting: 2 * second, connections: 3 * second });
    const { fine } = fixture;
    const last = Array.from({ length: 300 }, (_, index) => 400 + index);
    assert.deepEqual(fine.pairs, last);
    assert.deepEqual([fine.waiting.at(-1), fine.connections.at(-1)], [2 * 699, 3 * 699]);
    assert.equal(fine.end, new Date(WALL_MS + 699_000).toISOString());
  });

  test('has steps of ten seconds with the mean rate, the highest numbers and all rejections', () => {
    const fixture = new HistoryFixture();
    fixture.poll(10);
    for (let second = 0; second < 10; second += 1)
      fixture.poll(1, {
        bytes_per_second: 100 * second,
        pairs: second === 4 ? 9 : 1,
        refused: { connections: second, waiting: second, address: 0, quota: 0, shutdown: 0 },
      });
    const { bytes_per_second: rates, pairs, refused, end } = fixture.coarse(20);
    assert.deepEqual(
      [rates, pairs, refused],
      [
        [10, 450],
        [2, 9],
        [0, 18],
      ],
    );
    assert.equal(end, new Date(WALL_MS + 10_000).toISOString());
  });

  test('shows an outage as a gap, and one of a second in the fine steps only', () => {
    const fixture = new HistoryFixture();
    fixture.poll(9);
    fixture.poll(1, null);
    fixture.poll(10, null);
    fixture.poll(10, { bytes_per_second: 20 });
    assert.deepEqual(fixture.coarse(30).bytes_per_second, [10, null, 20]);
    assert.deepEqual(fixture.fine.pairs.slice(-23), [
      2,
      2,
      ...Array.from({ length: 11 }, () => null),
      ...Array.from({ length: 10 }, () => 2),
    ]);
  });

  test('ends with the last poll, so that the next one does not look like an outage', () => {
    const fixture = new HistoryFixture();
    fixture.poll(3);
    // The next poll comes half a second later.
    assert.deepEqual(fixture.fine.pairs.slice(-4), [null, 2, 2, 2]);
  });

  test('has a gap where no polls were made, however long', () => {
    for (const pause of [5, 299, 300, 301, 90_000, 10_000_000]) {
      const fixture = new HistoryFixture();
      fixture.poll(400);
      fixture.second += pause;
      fixture.poll(1);
      const known = fixture.fine.pairs.filter((value) => value !== null).length;
      assert.equal(known, Math.max(1, 300 - pause), String(pause));
    }
  });

  test('counts rejections from the first answer, across outages and restarts of the relay', () => {
    const fixture = new HistoryFixture();
    fixture.pollRefused(1000);
    fixture.pollRefused(1003);
    fixture.poll(2, null);
    fixture.pollRefused(1010);
    const later = '2026-11-23T04:59:59.000Z';
    fixture.pollRefused(4, later);
    fixture.pollRefused(4, later);
    assert.deepEqual(fixture.fine.refused.slice(-7), [null, 3, null, null, 7, 4, 0]);
    assert.equal(fixture.coarse(10).refused.at(-1), 14);
  });

  test('has a day in steps of ten seconds', () => {
    const fixture = new HistoryFixture();
    for (let step = 0; step < 9000; step += 1) {
      fixture.poll(1, { pairs: step });
      fixture.second += 9;
    }
    const { pairs } = fixture.coarse(MAX_HISTORY_SECONDS);
    assert.deepEqual(
      pairs,
      Array.from({ length: 8640 }, (_, index) => 360 + index),
    );
    assert.deepEqual(fixture.coarse().pairs, pairs.slice(-360));
  });

  test('follows the monotonic clock, so that setting the clock moves the labels only', () => {
    const fixture = new HistoryFixture();
    fixture.poll(20);
    const before = fixture.history.read(WALL_MS, 20_000);
    const after = fixture.history.read(WALL_MS - 86_400_000, 20_000);
    assert.deepEqual(
      after.series.map(({ pairs }) => pairs),
      before.series.map(({ pairs }) => pairs),
    );
    assert.equal(seriesOf(before, 1).end, new Date(WALL_MS - 1000).toISOString());
    assert.equal(seriesOf(after, 1).end, new Date(WALL_MS - 86_401_000).toISOString());
  });

  test('takes 350 KiB, from the start and after days', () => {
    const fixture = new HistoryFixture();
    const { byteLength } = fixture.history;
    assert.equal(byteLength, (300 + 8640) * 5 * Float64Array.BYTES_PER_ELEMENT);
    fixture.poll(3 * MAX_HISTORY_SECONDS);
    assert.equal(fixture.history.byteLength, byteLength);
    assert.equal(fixture.coarse(MAX_HISTORY_SECONDS).pairs.length, 8640);
  });
});
