import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { RejectionHistory } from '../../../src/limits/rejection-history.ts';

const MINUTE_MS = 60_000;

const WALL_MS = Date.UTC(2026, 10, 23, 5);

/** A history whose clocks only the test changes. The wall clock differs from the monotonic one by a constant. */
class HistoryFixture {
  now: number;
  wallOffset = WALL_MS;
  readonly history = new RejectionHistory(
    () => this.now,
    () => this.now + this.wallOffset,
  );

  constructor(now = 0) {
    this.now = now;
  }

  /** Rejects that many clients for `connections`. */
  reject(count = 1): void {
    for (let index = 0; index < count; index += 1) this.history.count('connections');
  }

  get lastHour(): number {
    return this.history.lastHour.connections;
  }
}

describe('the rejections of the last hour', () => {
  test('are those of this minute and of the 59 before it', () => {
    const fixture = new HistoryFixture(MINUTE_MS / 2);
    for (let minute = 0; minute < 60; minute += 1) {
      fixture.reject(minute + 1);
      fixture.now += MINUTE_MS;
    }
    // The sum of 1 to 60, then without the oldest minutes.
    assert.equal(fixture.history.totals.connections, 1830);
    assert.equal(fixture.lastHour, 1829);
    fixture.now += MINUTE_MS;
    assert.equal(fixture.lastHour, 1827);
    fixture.reject(5);
    assert.equal(fixture.lastHour, 1832);
  });

  test('are none after an hour without, even after many hours', () => {
    for (const minutes of [60, 61, 119, 120, 100_000]) {
      const fixture = new HistoryFixture();
      fixture.reject(3);
      fixture.now += (minutes - 1) * MINUTE_MS;
      if (minutes === 60) assert.equal(fixture.lastHour, 3);
      fixture.now += MINUTE_MS;
      assert.equal(fixture.lastHour, 0);
      fixture.reject();
      assert.equal(fixture.lastHour, 1);
    }
  });

  test('are the same when they are read again', () => {
    const fixture = new HistoryFixture(59 * MINUTE_MS);
    fixture.reject(2);
    fixture.now += 2 * MINUTE_MS;
    assert.deepEqual([fixture.lastHour, fixture.lastHour], [2, 2]);
  });

  test('are counted by reason', () => {
    const fixture = new HistoryFixture();
    fixture.history.count('waiting');
    fixture.history.count('quota');
    fixture.history.count('quota');
    const expected = { connections: 0, waiting: 1, address: 0, quota: 2, shutdown: 0 };
    assert.deepEqual(fixture.history.lastHour, expected);
    assert.deepEqual(fixture.history.totals, expected);
  });
});

describe('an episode of rejections', () => {
  test('lasts until a minute has passed without one', () => {
    const fixture = new HistoryFixture();
    assert.equal(fixture.history.episode('connections'), null);
    fixture.reject();
    fixture.now += MINUTE_MS;
    fixture.reject();
    fixture.now += MINUTE_MS;
    const episode = fixture.history.episode('connections');
    assert.deepEqual(
      [episode?.count, episode?.startedAt, episode?.lastAt],
      [2, WALL_MS, WALL_MS + MINUTE_MS],
    );
    assert.equal(fixture.history.episode('waiting'), null);
    fixture.now += 1;
    assert.equal(fixture.history.episode('connections'), null);
    fixture.reject();
    assert.equal(fixture.history.episode('connections')?.count, 1);
    assert.equal(fixture.history.episode('connections')?.startedAt, WALL_MS + 2 * MINUTE_MS + 1);
  });

  test('does not end when the clock is set', () => {
    const fixture = new HistoryFixture();
    fixture.reject();
    fixture.wallOffset += 86_400_000;
    assert.equal(fixture.history.episode('connections')?.count, 1);
    fixture.reject();
    assert.equal(fixture.history.episode('connections')?.count, 2);
  });
});
