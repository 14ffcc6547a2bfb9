import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { DatabaseState, LiveStatus, RelayState, RelayStatus } from '../../../../src/sidecar/api.ts';
import {
  backoffMs,
  hasNewRecords,
  toDisplayedHost,
  toHeadline,
} from '../../../../src/sidecar/dashboard/live-state.ts';
import type { LastUp } from '../../../../src/sidecar/dashboard/live-state.ts';
import { BUSY_STATUS as UP } from '../../../support/metrics.ts';

const NOW = '2026-11-23T05:00:00.000Z';
const NOW_MS = Date.parse(NOW);

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

/** A quota that is used up. */
const USED_UP: RelayStatus['quota'] = {
  used_bytes: 2000,
  limit_bytes: 2000,
  period_started: '2026-11-01T00:00:00.000Z',
  counts_since: '2026-11-01T00:00:00.000Z',
  resets: '2026-12-01T00:00:00.000Z',
  exhausted: true,
};

const REFUSING = {
  reason: 'connections',
  variable: 'RELAY_MAX_CONNECTIONS',
  since: '2026-11-23T04:55:00.000Z',
  last: NOW,
} as const;

const NEVER = { timeMs: null, isShown: false };
const SHOWN = { timeMs: NOW_MS, isShown: true };

function headlineOf(relay: RelayState, lastUp: LastUp = SHOWN): ReturnType<typeof toHeadline> {
  return toHeadline({ kind: 'answered', live: live(relay) }, lastUp);
}

describe('the headline of the dashboard', () => {
  test('is good only if no client is refused', () => {
    const { tone, title, detail } = headlineOf(UP);
    assert.deepEqual(
      [tone, title, detail],
      ['good', 'Serving clients', 'No client was refused in the last hour.'],
    );
  });

  test('has a tone of its own for each state', () => {
    const states: readonly RelayState[] = [
      UP,
      { ...UP, state: 'refusing', refusing: REFUSING },
      { ...UP, state: 'over_quota', quota: USED_UP },
      { ...UP, state: 'draining', draining: true },
      DOWN,
    ];
    assert.deepEqual(
      states.map((state) => headlineOf(state).tone),
      ['good', 'warn', 'quota', 'drain', 'bad'],
    );
  });

  test('does not call a state good that it does not know', () => {
    // From a newer relay.
    const unknown = Object.assign({ ...UP }, { state: 'hibernating' });
    assert.equal(headlineOf(unknown).tone, 'unknown');
  });

  test('is not good if clients reject a certificate', () => {
    const certificate = {
      listener: 'tcp 443',
      expires: '2026-11-22T20:00:00.000Z',
      expired: true,
      problem: null,
    };
    const valid = { ...certificate, listener: 'tcp 444', expired: false };
    assert.equal(headlineOf({ ...UP, certificates: [valid] }).tone, 'good');
    const { tone, title, detail } = headlineOf({ ...UP, certificates: [valid, certificate] });
    assert.deepEqual(
      [tone, title, detail],
      [
        'warn',
        'Serving, but a certificate has expired',
        'Clients with TLS reject the certificate of tcp 443. It expired: 20:00 UTC.',
      ],
    );
  });

  test('has the number of warnings in the title of the tab', () => {
    const warning = { event: 'unknown_variable', message: 'RELAY_X is not a setting' };
    assert.equal(headlineOf(UP).tabTitle, 'Serving');
    assert.equal(headlineOf({ ...UP, warnings: [warning] }).tabTitle, 'Serving, 1 warning');
  });

  test('mentions earlier refusals', () => {
    const refused = (address: number): RelayStatus => ({
      ...UP,
      refused_last_hour: { ...UP.refused_last_hour, address },
    });
    assert.equal(headlineOf(refused(1)).detail, 'No client is refused now; 1 was in the last hour.');
    assert.equal(headlineOf(refused(1234)).detail, 'No client is refused now; 1,234 were in the last hour.');
  });

  test('makes no claim about refusals that an older relay does not report', () => {
    const { tone, detail } = headlineOf({ ...UP, version: '' });
    assert.equal(tone, 'unknown');
    assert.match(detail, /does not report/u);
  });

  const refusals: readonly (readonly [relay: Partial<RelayStatus>, detail: string])[] = [
    [
      { refusing: REFUSING, limits: { connections: 100, waiting: 50 } },
      'All 100 connections are in use, since 04:55 UTC. RELAY_MAX_CONNECTIONS sets the limit.',
    ],
    [
      { refusing: REFUSING, limits: { connections: null, waiting: null } },
      'All connections are in use, since 04:55 UTC. RELAY_MAX_CONNECTIONS sets the limit.',
    ],
    [
      {
        refusing: {
          ...REFUSING,
          reason: 'waiting',
          variable: 'RELAY_MAX_WAITING',
          since: '2026-11-20T04:55:00.000Z',
        },
        limits: { connections: 100, waiting: 1 },
      },
      '1 client already waits for its partner, since 20 Nov 2026, 04:55 UTC. RELAY_MAX_WAITING sets the limit.',
    ],
    [
      { refusing: { ...REFUSING, reason: 'address', variable: 'RELAY_MAX_CONNECTIONS_PER_ADDRESS' } },
      'Some addresses have used up their share, since 04:55 UTC. RELAY_MAX_CONNECTIONS_PER_ADDRESS sets the limit.',
    ],
  ];
  for (const [relay, detail] of refusals) {
    test(`says: ${detail}`, () => {
      const headline = headlineOf({ ...UP, state: 'refusing', ...relay });
      assert.deepEqual([headline.title, headline.detail], ['Serving, but refusing some clients', detail]);
    });
  }

  test('says until when the quota is used up', () => {
    assert.equal(
      headlineOf({ ...UP, state: 'over_quota', quota: USED_UP }).title,
      'Quota used up until 1 December',
    );
    const soon = { ...USED_UP, resets: '2026-11-24T00:00:00.000Z' };
    assert.equal(
      headlineOf({ ...UP, state: 'over_quota', quota: soon }).title,
      'Quota used up until 00:00 UTC',
    );
  });

  test('says why and since when the relay is down', () => {
    assert.deepEqual(
      [DOWN, DOWN].map((relay, index) => headlineOf(relay, { timeMs: NOW_MS, isShown: index === 0 }).detail),
      [
        'Nothing listens at http://relay:4003. Down since 05:00 UTC. The numbers are from then.',
        'Nothing listens at http://relay:4003. Down since 05:00 UTC.',
      ],
    );
  });

  test('says how long the relay is known to be down if it was never up', () => {
    assert.match(headlineOf(DOWN, NEVER).detail, /not answered since the sidecar started at 05:00 UTC\.$/u);
    const old = { ...live(DOWN), sidecar: { version: '1', host: '', started: UP.started } };
    const { detail } = toHeadline({ kind: 'answered', live: old }, NEVER);
    assert.match(detail, /not answered for more than an hour\.$/u);
  });

  test('distinguishes an unreachable sidecar from one with errors', () => {
    const problem = 'There is no connection.';
    const unreachable = toHeadline({ kind: 'unreachable', reached: false, problem }, SHOWN);
    const withErrors = toHeadline({ kind: 'unreachable', reached: true, problem }, NEVER);
    assert.equal(unreachable.title, 'The sidecar does not answer');
    assert.equal(withErrors.title, 'The sidecar has a problem');
    assert.ok(unreachable.detail.startsWith(problem));
    assert.match(unreachable.detail, /The numbers are from 05:00:00 UTC\.$/u);
    assert.doesNotMatch(withErrors.detail, /numbers/u);
  });

  test('stays the same every second, so that it is announced once', () => {
    assert.deepEqual(headlineOf({ ...UP, uptime_seconds: 99_999, pairs: 7 }), headlineOf(UP));
  });
});

test('the host is that of the page if the relay only has a container id', () => {
  assert.equal(toDisplayedHost('relay.example.org', 'localhost:8080'), 'relay.example.org');
  assert.equal(toDisplayedHost('3f0ab72b9c1d', 'localhost:8080'), 'localhost:8080');
  assert.equal(toDisplayedHost('', 'localhost:8080'), 'localhost:8080');
  assert.equal(toDisplayedHost('3f0ab72b9c1d7', 'localhost:8080'), '3f0ab72b9c1d7');
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
