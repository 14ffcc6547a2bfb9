import assert from 'node:assert/strict';
import type { RelayStatus } from '../../src/status/relay-status.ts';

/** Metric values by series, as `name{label="value"}`. */
export type Figures = ReadonlyMap<string, number>;

/** Parses the Prometheus text format. Fails on a duplicate series. */
export function parseMetrics(text: string): Figures {
  const figures = new Map<string, number>();
  for (const line of text.split('\n')) {
    if (line === '' || line.startsWith('#')) continue;
    const [, series = '', value = ''] = /^(.+) (\S+)$/u.exec(line) ?? [];
    assert.notEqual(series, `"${line}" is not a series`, `"${line}" is not a sample`);
    assert.ok(!figures.has(series), `duplicate series ${series}`);
    figures.set(series, value === '+Inf' ? Number.POSITIVE_INFINITY : Number(value));
  }
  return figures;
}

/** Current metrics of a program. */
export async function scrape(url: string): Promise<Figures> {
  const response = await fetch(`${url}/metrics`);
  assert.equal(response.status, 200);
  return parseMetrics(await response.text());
}

/**
 * Metrics without the two gauges whose standard names end like those of counters. `promtool check metrics` rejects
 * the names.
 */
export function withoutMisnamed(text: string): string {
  return text.replaceAll(/^(?:# \w+ )?nodejs_active_(?:handles|requests)_total .*\n/gmu, '');
}

/** The series whose name starts with `prefix`, without the prefix and without zeros. */
export function nonZero(figures: Figures, prefix: string): Readonly<Record<string, number>> {
  const found = [...figures].filter(([series, value]) => series.startsWith(prefix) && value !== 0);
  return Object.fromEntries(found.map(([series, value]) => [series.slice(prefix.length), value]));
}

const NO_REJECTIONS = { connections: 0, waiting: 0, address: 0, quota: 0, shutdown: 0 };

/** The status of a relay that has rejected no clients, has no quota and no problems. */
export const UNLIMITED_STATUS: Omit<
  RelayStatus,
  'started' | 'uptime_seconds' | 'draining' | 'pairs' | 'waiting' | 'relayed_bytes' | 'bytes_per_second'
> = {
  version: '1.2.3',
  host: 'relay.example.org',
  state: 'serving',
  refusing: null,
  connections: 5,
  limits: { connections: 100, waiting: 50 },
  refused: NO_REJECTIONS,
  refused_last_hour: NO_REJECTIONS,
  quota: null,
  certificates: [],
  warnings: [],
  usage: { queued: 0, dropped: 0, problem: null },
};

/** The status of such a relay with two pairs and a waiting client, a day after its start. */
export const BUSY_STATUS: RelayStatus = {
  started: '2026-11-22T05:00:00.000Z',
  uptime_seconds: 86_400,
  draining: false,
  pairs: 2,
  waiting: 1,
  relayed_bytes: 1000,
  bytes_per_second: 10,
  ...UNLIMITED_STATUS,
};
