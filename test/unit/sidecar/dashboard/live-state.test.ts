import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { DatabaseState, LiveStatus, RelayState, RelayStatus } from '../../../../src/sidecar/api.ts';
import {
  HISTORY_S,
  RateHistory,
  backoffMs,
  hasNewRecords,
  toHeadline,
} from '../../../../src/sidecar/dashboard/live-state.ts';
import { UNLIMITED_STATUS } from '../../../support/metrics.ts';

const NOW = '2026-11-23T05:00:00.000Z';
const NOW_MS = Date.parse(NOW);

const UP: RelayStatus = {
  started: '2026-11-22T05:00:00.000Z',
  uptime_seconds: 86_400,
  draining: false,
  pairs: 2,
  waiting: 1,
  relayed_bytes: 1000,
  bytes_per_second: 10,
  ...UNLIMITED_STATUS,
};
const DOWN: RelayState = { state: 'down', problem: 'nothing listens at http://relay:4003' };
const DATABASE: DatabaseState = { state: 'ok', bytes: 4096, modified: NOW };

function live(relay: RelayState, database: DatabaseState = DATABASE): LiveStatus {
  return {
    now: NOW,
    relay,
    database,
    snapshots: { count: 0, newest: null, problem: null, next: NOW },
    sidecar: { version: '1.2.3', host: 'sidecar.example.org', started: NOW },
    warnings: [],
  };
}

describe('the headline of the dashboard', () => {
  test('says that the relay is up', () => {
    const headline = toHeadline({ kind: 'answered', live: live(UP) }, NOW_MS);
    assert.deepEqual([headline.tone, headline.title], ['good', 'The relay is up']);
  });

  test('says that the relay is draining', () => {
    const headline = toHeadline({ kind: 'answered', live: live({ ...UP, draining: true }) }, NOW_MS);
    assert.deepEqual([headline.tone, headline.title], ['warn', 'The relay is draining']);
  });

  test('says why the relay is down, and how old the data is', () => {
    const headline = toHeadline({ kind: 'answered', live: live(DOWN) }, NOW_MS);
    assert.deepEqual([headline.tone, headline.title], ['bad', 'The relay is down']);
    assert.equal(
      headline.detail,
      'Nothing listens at http://relay:4003. The data below is from 05:00:00 UTC.',
    );
  });

  test('shows no age without data', () => {
    assert.equal(
      toHeadline({ kind: 'answered', live: live(DOWN) }, null).detail,
      'Nothing listens at http://relay:4003.',
    );
  });

  test('distinguishes an unreachable sidecar from one with errors', () => {
    const problem = 'There is no connection.';
    const unreachable = toHeadline({ kind: 'unreachable', reached: false, problem }, null);
    const withErrors = toHeadline({ kind: 'unreachable', reached: true, problem }, null);
    assert.equal(unreachable.title, 'The sidecar does not answer');
    assert.equal(withErrors.title, 'The sidecar has a problem');
    assert.ok(unreachable.detail.startsWith(problem));
  });

  test('keeps the same title every second, so that it is announced once', () => {
    const later = toHeadline(
      { kind: 'answered', live: live({ ...UP, uptime_seconds: 99_999, pairs: 7 }) },
      NOW_MS,
    );
    assert.deepEqual(later, toHeadline({ kind: 'answered', live: live(UP) }, NOW_MS));
  });
});

describe('the history of the rate', () => {
  test('keeps five minutes of samples', () => {
    const history = new RateHistory();
    for (let second = 0; second <= 2 * HISTORY_S; second += 1) history.add(second, second);
    assert.equal(history.times[0], HISTORY_S);
    assert.equal(history.times.length, HISTORY_S + 1);
    assert.deepEqual([...history.times], [...history.rates]);
    assert.equal(history.peak, 2 * HISTORY_S);
  });

  test('has a gap where samples are missing, and none for a late sample', () => {
    const history = new RateHistory();
    for (const second of [1, 3, 60, 61]) history.add(second, 5);
    assert.deepEqual([...history.times], [1, 3, 4, 60, 61]);
    assert.deepEqual([...history.rates], [5, 5, null, 5, 5]);
  });

  test('ignores repeated and earlier times', () => {
    const history = new RateHistory();
    for (const second of [5, 5, 4, 6]) history.add(second, second);
    assert.deepEqual([...history.times], [5, 6]);
  });

  test('has no peak without samples', () => {
    const history = new RateHistory();
    history.add(1, null);
    assert.equal(history.peak, 0);
  });
});

describe('usage is reloaded', () => {
  const before = live(UP);
  const cases: readonly (readonly [what: string, after: LiveStatus, isReloaded: boolean])[] = [
    ['when nothing has changed', live(UP), false],
    ['when bytes move', live({ ...UP, relayed_bytes: 5000 }), false],
    ['when a pair has begun', live({ ...UP, pairs: 3 }), false],
    ['when a pair has ended', live({ ...UP, pairs: 1 }), true],
    ['when the relay goes down', live(DOWN), true],
    ['when the relay has restarted', live({ ...UP, started: NOW }), true],
    ['when the database disappears', live(UP, { state: 'missing', problem: 'there is none' }), true],
  ];
  for (const [what, after, isReloaded] of cases) {
    test(`${what}: ${isReloaded}`, () => assert.equal(hasNewRecords(before, after), isReloaded));
  }

  test('when a transfer started and ended between two polls', () => {
    const idle = live({ ...UP, pairs: 0 });
    assert.equal(hasNewRecords(idle, live({ ...UP, pairs: 0, relayed_bytes: 2000 })), true);
    assert.equal(hasNewRecords(idle, idle), false);
  });

  test('not while the relay stays down', () => {
    assert.equal(hasNewRecords(live(DOWN), live(DOWN)), false);
  });
});

test('an unreachable sidecar is polled with growing delays, forever', () => {
  const delaysMs = [1, 2, 3, 4, 5, 6, 7, 1000].map(backoffMs);
  assert.deepEqual(delaysMs, [1000, 2000, 4000, 8000, 15_000, 30_000, 30_000, 30_000]);
});
