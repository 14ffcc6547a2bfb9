import assert from 'node:assert/strict';
import { nonZero, scrape } from './metrics.ts';
import type { OpenRelay } from './open-relay.ts';
import { eventually } from './programs.ts';

/** Time for a metric to reach a value, in milliseconds. */
const METRIC_TIMEOUT_MS = 30_000;

/** Resolves when a metric of the relay fulfils a condition. */
async function metricWhere(
  relay: OpenRelay,
  name: string,
  condition: (value: number) => boolean,
): Promise<void> {
  let value: number | undefined;
  await eventually(
    () => `${name} stays ${value}`,
    METRIC_TIMEOUT_MS,
    async () => {
      value = (await scrape(relay.statusUrl)).get(`transit_relay_${name}`);
      assert.ok(value !== undefined, `no metric ${name}`);
      return condition(value) ? true : null;
    },
  );
}

export function metricIs(relay: OpenRelay, name: string, expected: number): Promise<void> {
  return metricWhere(relay, name, (value) => value === expected);
}

/** Resolves when a metric is greater than `threshold`. */
export function metricExceeds(relay: OpenRelay, name: string, threshold: number): Promise<void> {
  return metricWhere(relay, name, (value) => value > threshold);
}

/** Metrics that begin with `name` and are not 0. */
export async function nonZeroMetrics(
  relay: OpenRelay,
  name: string,
): Promise<Readonly<Record<string, number>>> {
  return nonZero(await scrape(relay.statusUrl), `transit_relay_${name}`);
}

/** Resolves when no connection is open. */
export async function allDisconnected(relay: OpenRelay): Promise<void> {
  await metricIs(relay, 'connections_open', 0);
}
