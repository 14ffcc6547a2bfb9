import type { RelayStatus } from '../api.ts';
import { formatBytes, formatCount, formatOn, formatShare } from './format.ts';

/** A number with a limit, shown with a bar. */
export interface Gauge {
  /** For example `640 GB`. */
  readonly value: string;
  /** For example `of 1 TB`; empty without a limit. */
  readonly limit: string;
  /** Part of the limit in use, from 0 to 1; null without a limit. */
  readonly share: number | null;
  readonly tone: 'normal' | 'warn' | 'bad';
  readonly detail: string;
}

/** Part of the connections in use at which the bar warns. */
const MANY_CONNECTIONS = 0.8;

export function toConnectionsGauge({ connections, limits }: RelayStatus): Gauge {
  const limit = limits.connections;
  const value = formatCount(connections);
  if (limit === null) return { value, limit: '', share: null, tone: 'normal', detail: 'open now' };
  const share = Math.min(1, connections / limit);
  return {
    value,
    limit: `of ${formatCount(limit)}`,
    share,
    tone: share >= 1 ? 'bad' : share >= MANY_CONNECTIONS ? 'warn' : 'normal',
    detail: `${formatShare(connections, limit)} of the limit`,
  };
}

type Quota = NonNullable<RelayStatus['quota']>;

/** Minimum time that usage must cover for a forecast, in milliseconds. */
const MIN_FORECAST_BASIS_MS = 3_600_000;

export function toQuotaGauge(quota: Quota, nowMs: number): Gauge {
  const { used_bytes: used, limit_bytes: limit, exhausted } = quota;
  const resetMs = Date.parse(quota.resets);
  const exhaustionMs = exhausted ? null : forecastExhaustion(quota, nowMs);
  const runsOut = exhaustionMs !== null && exhaustionMs < resetMs;
  const reset = `the reset ${formatOn(resetMs, nowMs)}`;
  let forecast = `Reset ${formatOn(resetMs, nowMs)}`;
  if (runsOut) forecast = `At this rate: used up ${formatOn(exhaustionMs, nowMs)}, before ${reset}`;
  else if (exhaustionMs !== null) forecast = `At this rate: enough until ${reset}`;
  return {
    value: formatBytes(used),
    limit: `of ${formatBytes(limit)}`,
    share: limit > 0 ? Math.min(1, used / limit) : 1,
    tone: exhausted ? 'bad' : runsOut ? 'warn' : 'normal',
    detail: exhausted ? `Used up. ${forecast}.` : `${formatShare(used, limit)} used. ${forecast}.`,
  };
}

/**
 * When the quota is used up if it is used at the average rate so far, in milliseconds since the epoch. Null
 * without a forecast: usage was counted for less than an hour. Infinity if nothing is used.
 */
function forecastExhaustion(quota: Quota, nowMs: number): number | null {
  const sinceMs = Math.max(Date.parse(quota.period_started), Date.parse(quota.counts_since));
  const basisMs = nowMs - sinceMs;
  if (!(basisMs >= MIN_FORECAST_BASIS_MS)) return null;
  return nowMs + (basisMs * (quota.limit_bytes - quota.used_bytes)) / quota.used_bytes;
}

const REFUSAL_NAMES: ReadonlyMap<string, string> = new Map([
  ['connections', 'all connections in use'],
  ['waiting', 'too many waiting clients'],
  ['address', 'too many from one address'],
  ['quota', 'quota used up'],
  ['shutdown', 'relay was stopping'],
]);

/** The reasons for which clients were refused, with their numbers, the most frequent first. */
export function toRefusals(
  refused: RelayStatus['refused'],
): readonly { readonly name: string; readonly count: number }[] {
  return Object.entries(refused)
    .filter(([, count]) => count > 0)
    .toSorted(([, one], [, other]) => other - one)
    .map(([reason, count]) => ({ name: REFUSAL_NAMES.get(reason) ?? reason, count }));
}
