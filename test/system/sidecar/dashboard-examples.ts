import type { Page } from 'playwright-core';
import type { LiveHistory, LiveStatus, RelayStatus } from '../../../src/sidecar/api.ts';
import { Dice } from '../../support/dice.ts';

const GB = 1e9;
const TB = 1e12;
const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;

/** What the page requests every second, and when it opens. */
export interface DashboardExample {
  readonly live: LiveStatus;
  /** The last so many seconds. */
  readonly history: (seconds: number) => LiveHistory;
}

/** Answers the page's requests for the state of the relay with the example. */
export async function routeExample(page: Page, { live, history }: DashboardExample): Promise<void> {
  await page.route('**/live.json', (route) => route.fulfill({ json: live }));
  await page.route(/\/live-history\.json/u, (route) => {
    const seconds = new URL(route.request().url()).searchParams.get('seconds') ?? '3600';
    return route.fulfill({ json: history(Number(seconds)) });
  });
}

export const EXAMPLE_NAMES = [
  'serving',
  'empty',
  'refusing',
  'quota',
  'draining',
  'down',
  'warnings',
  'expired',
  'older',
] as const;

export type ExampleName = (typeof EXAMPLE_NAMES)[number];

function iso(timeMs: number): string {
  return new Date(timeMs).toISOString();
}

/** A relay with a quota, in the second half of a month. */
function servingRelay(nowMs: number): RelayStatus {
  const now = new Date(nowMs);
  const periodStartedMs = Date.UTC(now.getUTCFullYear(), now.getUTCMonth(), 1);
  const startedMs = nowMs - 11 * DAY_MS - 4 * HOUR_MS;
  const pairs = runningTransfers(0).length;
  return {
    version: '1.0.0',
    host: 'relay.example.org',
    started: iso(startedMs),
    uptime_seconds: (nowMs - startedMs) / 1000,
    state: 'serving',
    draining: false,
    refusing: null,
    connections: 2 * pairs + 9,
    pairs,
    waiting: 6,
    limits: { connections: 4000, waiting: 2000 },
    relayed_bytes: 287 * GB,
    bytes_per_second: rateOf(0),
    refused: { connections: 0, waiting: 0, address: 17, quota: 0, shutdown: 3 },
    refused_last_hour: { connections: 0, waiting: 0, address: 0, quota: 0, shutdown: 0 },
    quota: {
      used_bytes: 512 * GB,
      limit_bytes: TB,
      period_started: iso(periodStartedMs),
      counts_since: iso(periodStartedMs),
      resets: iso(Date.UTC(now.getUTCFullYear(), now.getUTCMonth() + 1, 1)),
      exhausted: false,
    },
    certificates: [{ listener: 'tcp 443', expires: iso(nowMs + 61 * DAY_MS), expired: false, problem: null }],
    warnings: [],
    usage: { queued: 0, dropped: 0, problem: null },
  };
}

/** A transfer of the last hour. */
interface ExampleTransfer {
  readonly startedSecondsAgo: number;
  readonly seconds: number;
  readonly bytesPerSecond: number;
}

const TRANSFERS = exampleTransfers(new Dice(8), 110);

function exampleTransfers(dice: Dice, count: number): ExampleTransfer[] {
  return Array.from({ length: count }, () => ({
    startedSecondsAgo: dice.between(0, 4800),
    seconds: 45 + dice.size(1500),
    bytesPerSecond: 15_000 + dice.size(1_300_000),
  }));
}

function runningTransfers(secondsAgo: number): ExampleTransfer[] {
  return TRANSFERS.filter(
    ({ startedSecondsAgo, seconds }) =>
      startedSecondsAgo >= secondsAgo && startedSecondsAgo - seconds < secondsAgo,
  );
}

/** The sum of the running transfers, each of which varies a bit. */
function rateOf(secondsAgo: number): number {
  const rates = runningTransfers(secondsAgo).map(
    ({ seconds, bytesPerSecond }) =>
      bytesPerSecond * (1 + 0.08 * Math.sin(secondsAgo / (5 + (seconds % 60)))),
  );
  return Math.round(rates.reduce((sum, rate) => sum + rate, 0));
}

/** @param isKnown whether the sidecar has data of so many seconds ago */
function toHistory(
  nowMs: number,
  isKnown: (secondsAgo: number) => boolean,
  rate = rateOf,
): DashboardExample['history'] {
  return (seconds) => ({
    now: iso(nowMs),
    series: ([1, 10] as const).map((step) => {
      const count = step === 1 ? 300 : seconds / step;
      const secondsAgo = Array.from({ length: count }, (_, index) => (count - 1 - index) * step);
      const values = (value: (secondsAgo: number) => number): (number | null)[] =>
        secondsAgo.map((ago) => (isKnown(ago) ? value(ago) : null));
      return {
        step_seconds: step,
        end: iso(Math.floor(nowMs / 1000 / step) * step * 1000),
        bytes_per_second: values(rate),
        pairs: values((ago) => runningTransfers(ago).length),
        waiting: values(() => 6),
        connections: values((ago) => 2 * runningTransfers(ago).length + 9),
        refused: values(() => 0),
      };
    }),
  });
}

function toLive(nowMs: number, relay: LiveStatus['relay']): LiveStatus {
  const takenMs = nowMs - 22 * MINUTE_MS;
  return {
    now: iso(nowMs),
    relay,
    database: { state: 'ok', bytes: 12_100_000, modified: iso(nowMs - 3000) },
    snapshots: {
      count: 48,
      newest: {
        name: 'usage-20261123T061700Z.sqlite',
        time: iso(takenMs),
        bytes: 11_900_000,
        sha256: 'c0ffee'.padEnd(64, '0'),
        rows: 171_204,
      },
      problem: null,
      next: iso(takenMs + HOUR_MS),
    },
    sidecar: { version: '1.0.0', host: 'sidecar', started: iso(nowMs - 11 * DAY_MS) },
    warnings: [],
  };
}

const ALWAYS = (): boolean => true;

/** All states of the page, by name. */
export function dashboardExamples(nowMs: number): Readonly<Record<ExampleName, DashboardExample>> {
  const relay = servingRelay(nowMs);
  const { quota } = relay;
  const history = toHistory(nowMs, ALWAYS);
  return {
    serving: { live: toLive(nowMs, relay), history },
    empty: {
      live: {
        ...toLive(nowMs, {
          ...relay,
          started: iso(nowMs - 90_000),
          uptime_seconds: 90,
          connections: 1,
          pairs: 0,
          waiting: 1,
          limits: { connections: null, waiting: null },
          relayed_bytes: 0,
          bytes_per_second: 0,
          refused: { connections: 0, waiting: 0, address: 0, quota: 0, shutdown: 0 },
          quota: null,
          certificates: [],
        }),
        database: { state: 'missing', problem: 'there is no usage database at "/data/usage.sqlite" yet' },
        snapshots: { count: 0, newest: null, problem: null, next: iso(nowMs + 58 * MINUTE_MS) },
      },
      history: toHistory(
        nowMs,
        (secondsAgo) => secondsAgo < 90,
        () => 0,
      ),
    },
    refusing: {
      live: toLive(nowMs, {
        ...relay,
        state: 'refusing',
        connections: 4000,
        pairs: 1,
        waiting: 1,
        refusing: {
          reason: 'connections',
          variable: 'RELAY_MAX_CONNECTIONS',
          since: iso(nowMs - 4 * MINUTE_MS),
          last: iso(nowMs - 1000),
        },
        refused_last_hour: { connections: 1204, waiting: 0, address: 31, quota: 0, shutdown: 0 },
        ...(quota === null
          ? {}
          : {
              quota: {
                ...quota,
                used_bytes: quota.limit_bytes * 0.97,
                counts_since: iso(nowMs - 5 * DAY_MS),
              },
            }),
      }),
      history,
    },
    quota: {
      live: toLive(nowMs, {
        ...relay,
        state: 'over_quota',
        pairs: 0,
        waiting: 0,
        connections: 0,
        bytes_per_second: 0,
        refused_last_hour: { connections: 0, waiting: 0, address: 0, quota: 86, shutdown: 0 },
        ...(quota === null ? {} : { quota: { ...quota, used_bytes: quota.limit_bytes, exhausted: true } }),
      }),
      history: toHistory(nowMs, ALWAYS, (secondsAgo) => (secondsAgo < 1300 ? 0 : rateOf(secondsAgo))),
    },
    draining: {
      live: toLive(nowMs, {
        ...relay,
        state: 'draining',
        draining: true,
        pairs: 1,
        waiting: 0,
        connections: 2,
        refused_last_hour: { connections: 0, waiting: 0, address: 0, quota: 0, shutdown: 1 },
      }),
      history,
    },
    down: {
      live: toLive(nowMs, {
        state: 'down',
        problem: "the relay's status port does not answer at http://relay:4003 (ECONNREFUSED)",
      }),
      history: toHistory(
        nowMs,
        (secondsAgo) => secondsAgo > 720 && !(secondsAgo > 2000 && secondsAgo < 2300),
      ),
    },
    warnings: {
      live: {
        ...toLive(nowMs, {
          ...relay,
          warnings: [
            {
              event: 'certificate_expires_soon',
              message: 'the certificate of tcp 443 expires in 6 days, on 29 November',
            },
            {
              event: 'usage_write_failed',
              message:
                'the usage database is not written: /data/usage.sqlite: ENOSPC, no space left on device',
            },
            {
              event: 'unknown_variable',
              message: 'RELAY_QUTOA is not a setting; did you mean RELAY_QUOTA?',
            },
          ],
        }),
        warnings: [
          {
            event: 'snapshot_failed',
            message: 'the last snapshot failed: /snapshots has 4 MB left, and the database has 12.1 MB',
          },
        ],
      },
      history,
    },
    expired: {
      live: toLive(nowMs, {
        ...relay,
        certificates: [
          { listener: 'tcp 443', expires: iso(nowMs - 2 * DAY_MS), expired: true, problem: null },
        ],
        warnings: [{ event: 'certificate_expired', message: 'the certificate of tcp 443 has expired' }],
      }),
      history,
    },
    older: {
      live: toLive(nowMs, {
        ...relay,
        version: '',
        host: '',
        connections: 2 * relay.pairs + relay.waiting,
        limits: { connections: null, waiting: null },
        quota: null,
        certificates: [],
      }),
      history,
    },
  };
}
