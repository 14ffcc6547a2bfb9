import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { RelayStatus } from '../../../../src/sidecar/api.ts';
import { toConnectionsGauge, toQuotaGauge, toRefusals } from '../../../../src/sidecar/dashboard/tiles.ts';
import { UNLIMITED_STATUS } from '../../../support/metrics.ts';

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const GB = 1e9;

const STARTED = '2026-11-01T00:00:00.000Z';
const STARTED_MS = Date.parse(STARTED);

const QUOTA: NonNullable<RelayStatus['quota']> = {
  used_bytes: 500 * GB,
  limit_bytes: 1000 * GB,
  period_started: STARTED,
  counts_since: STARTED,
  resets: '2026-12-01T00:00:00.000Z',
  exhausted: false,
};

/** Replaces no-break spaces with spaces. */
function plain(text: string): string {
  return text.replaceAll('\u00a0', ' ');
}

describe('the tile of the quota', () => {
  const forecasts: readonly (readonly [
    what: string,
    quota: Partial<typeof QUOTA>,
    ageMs: number,
    tone: string,
    detail: string,
  ])[] = [
    [
      'a quota that will not last',
      {},
      10 * DAY_MS,
      'warn',
      '50 % used. At this rate: used up on 21 November, before the reset on 1 December.',
    ],
    [
      'one that lasts',
      {},
      16 * DAY_MS,
      'normal',
      '50 % used. At this rate: enough until the reset on 1 December.',
    ],
    [
      'an unused one',
      { used_bytes: 0 },
      DAY_MS,
      'normal',
      '0 % used. At this rate: enough until the reset on 1 December.',
    ],
    [
      'one that is used up today',
      { used_bytes: 990 * GB },
      10 * DAY_MS,
      'warn',
      '99 % used. At this rate: used up at 02:25 UTC, before the reset on 1 December.',
    ],
    ['the first hour of a period', {}, HOUR_MS - 1, 'normal', '50 % used. Reset on 1 December.'],
    [
      'the first hour of counting',
      { counts_since: '2026-11-10T00:00:00.000Z' },
      9 * DAY_MS + HOUR_MS / 2,
      'normal',
      '50 % used. Reset on 1 December.',
    ],
    [
      'counting that began within the period',
      { counts_since: '2026-11-10T00:00:00.000Z' },
      10 * DAY_MS,
      'warn',
      '50 % used. At this rate: used up on 12 November, before the reset on 1 December.',
    ],
    [
      'a quota used up',
      { used_bytes: 1001 * GB, exhausted: true },
      10 * DAY_MS,
      'bad',
      'Used up. Reset on 1 December.',
    ],
  ];
  for (const [what, quota, ageMs, tone, detail] of forecasts) {
    test(`describes ${what}`, () => {
      const gauge = toQuotaGauge({ ...QUOTA, ...quota }, STARTED_MS + ageMs);
      assert.deepEqual([gauge.tone, plain(gauge.detail)], [tone, detail]);
    });
  }

  test('has the part in use, at most all of it', () => {
    const shareOf = (used_bytes: number): number | null =>
      toQuotaGauge({ ...QUOTA, used_bytes }, STARTED_MS + DAY_MS).share;
    assert.deepEqual([0, 250 * GB, 1001 * GB].map(shareOf), [0, 0.25, 1]);
  });
});

describe('the tile of the connections', () => {
  const gaugeOf = (connections: number, limit: number | null): ReturnType<typeof toConnectionsGauge> => {
    const status: RelayStatus = {
      started: STARTED,
      uptime_seconds: 1,
      draining: false,
      pairs: 0,
      waiting: 0,
      relayed_bytes: 0,
      bytes_per_second: 0,
      ...UNLIMITED_STATUS,
      connections,
      limits: { connections: limit, waiting: null },
    };
    return toConnectionsGauge(status);
  };

  test('shows the limit, and warns near it', () => {
    assert.deepEqual(
      [10, 79, 80, 99, 100, 101].map((connections) => gaugeOf(connections, 100).tone),
      ['normal', 'normal', 'warn', 'warn', 'bad', 'bad'],
    );
    const { value, limit, share, detail } = gaugeOf(1000, 4000);
    assert.deepEqual([value, limit, share, plain(detail)], ['1,000', 'of 4,000', 0.25, '25 % of the limit']);
  });

  test('has no bar without a limit', () => {
    const { limit, share, tone } = gaugeOf(1000, null);
    assert.deepEqual([limit, share, tone], ['', null, 'normal']);
  });
});

test('refusals are listed by reason, the most frequent first', () => {
  const none = UNLIMITED_STATUS.refused_last_hour;
  assert.deepEqual(toRefusals(none), []);
  assert.deepEqual(toRefusals({ ...none, connections: 3, address: 40 }), [
    { name: 'too many from one address', count: 40 },
    { name: 'all connections in use', count: 3 },
  ]);
});
