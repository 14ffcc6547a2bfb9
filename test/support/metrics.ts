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

/** The series whose name starts with `prefix`, without the prefix and without zeros. */
export function nonZero(figures: Figures, prefix: string): Readonly<Record<string, number>> {
  const found = [...figures].filter(([series, value]) => series.startsWith(prefix) && value !== 0);
  return Object.fromEntries(found.map(([series, value]) => [series.slice(prefix.length), value]));
}

/** The status of a relay that has rejected no clients and has no quota. */
export const UNLIMITED_STATUS: Pick<RelayStatus, 'connections' | 'refused' | 'quota'> = {
  connections: 5,
  refused: { connections: 0, waiting: 0, address: 0, quota: 0, shutdown: 0 },
  quota: null,
};
