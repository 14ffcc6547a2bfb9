import { deepEqual, equal, match, ok } from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { after, before, describe, test } from 'node:test';
import { withoutMisnamed } from '../../support/metrics.ts';
import { findProgram } from '../../support/programs.ts';
import { problemsOfDashboard, problemsOfQuery, missingSeries } from './dashboard-queries.ts';
import { listAt, textAt } from './fields.ts';
import { withoutPrometheus } from './prometheus-server.ts';
import { readAlerts, readDashboard } from './shipped.ts';
import { Site, MAX_WAITING } from './site.ts';

const TRANSPORTS = ['tcp', 'unix', 'websocket'] as const;

/** Bytes in each direction, and the increase from pair to pair, so that every direction has a different count. */
const THERE_BYTES = 1_500_007;
const BACK_BYTES = 700_001;
const MORE_BYTES = 10_003;

/** More than the kernel and the relay buffer together for a stalled receiver. */
const STALLED_BYTES = 40_000_003;

/** Threshold of the alert. */
const EVENT_LOOP_THRESHOLD_SECONDS = 0.1;

function sumOf(counts: ReadonlyMap<unknown, number>): number {
  return [...counts.values()].reduce((sum, count) => sum + count, 0);
}

describe('a Prometheus that scrapes a relay under load and its sidecar', { skip: withoutPrometheus }, () => {
  let site: Site;
  before(async () => {
    site = await Site.open();
    const { traffic } = site;
    const transports = TRANSPORTS.flatMap((first) => TRANSPORTS.map((second) => [first, second] as const));
    const pairs = transports.map(([first, second], index) =>
      traffic.pair(first, second, THERE_BYTES + index * MORE_BYTES, BACK_BYTES),
    );
    await Promise.all(pairs);
    await traffic.stalledPair(STALLED_BYTES);
    await traffic.moods();
    await traffic.fillWaiting(MAX_WAITING);
  });
  after(() => site[Symbol.asyncDispose]());

  test('counts clients and bytes exactly', async () => {
    const { prometheus, traffic } = site;
    const { accepted, ended, relayedBytes, pairs, rejected } = traffic.counted;
    const bytes = sumOf(relayedBytes);
    ok(bytes > 30_000_000 && pairs === 11 && relayedBytes.size === 9);
    for (const [transports, count] of relayedBytes) {
      const [from, to] = transports.split(' ');
      await prometheus.becomes(`transit_relay_relayed_bytes_total{from="${from}", to="${to}"}`, count);
    }
    for (const [transport, count] of accepted)
      await prometheus.becomes(`transit_relay_connections_accepted_total{transport="${transport}"}`, count);
    for (const [mood, count] of ended)
      await prometheus.becomes(`transit_relay_connections_ended_total{mood="${mood}"}`, count);
    for (const kind of ['disconnected', 'bad_line', 'early_bytes'])
      await prometheus.becomes(`transit_relay_handshake_failures_total{kind="${kind}"}`, 1);
    for (const metric of ['pairs_made_total', 'pair_size_bytes_count', 'waiting_seconds_count'])
      await prometheus.becomes(`transit_relay_${metric}`, pairs);
    for (const metric of ['relayed_bytes_total', 'pair_size_bytes_sum', 'quota_used_bytes'])
      await prometheus.becomes(`transit_relay_${metric}`, bytes);
    await prometheus.becomes('transit_relay_connections_rejected_total{reason="waiting"}', rejected);
    for (const nothing of ['connections_open', 'connections_waiting', 'connections_paired', 'buffered_bytes'])
      await prometheus.becomes(`transit_relay_${nothing}`, 0);
    for (const reason of ['backpressure', 'rate_limit'])
      ok((await prometheus.sum(`transit_relay_paused_seconds_total{reason="${reason}"}`)) > 0, reason);
  });

  test('has the same counts for usage records, database and snapshots', async () => {
    const { prometheus, traffic } = site;
    const { ended, relayedBytes } = traffic.counted;
    const records = new Map([...ended, ['happy', (ended.get('happy') ?? 0) / 2]]);
    for (const output of ['database', 'log'])
      await prometheus.becomes(
        `transit_relay_usage_records_written_total{output="${output}"}`,
        sumOf(records),
      );
    await prometheus.becomes('transit_relay_usage_records_queued', 0);
    for (const [mood, count] of records)
      await prometheus.becomes(`transit_relay_database_records_total{mood="${mood}"}`, count);
    await prometheus.becomes('transit_relay_database_relayed_bytes_total', sumOf(relayedBytes));
    await prometheus.becomes('transit_relay_snapshot_records', sumOf(records));
    await prometheus.becomes('transit_relay_check_ok', 4);
  });

  test('has data for every query of the dashboard, also in collapsed rows', async () => {
    deepEqual(await problemsOfDashboard(site.prometheus, readDashboard('dashboard')), []);
  });

  test('detects queries without data', async () => {
    const { prometheus } = site;
    const cases: [expr: string, problem: RegExp][] = [
      ['sum(transit_relay_bytes_total) or vector(0)', /^no series transit_relay_bytes_total:/u],
      ['rate(transit_relay_relayed_bytes_total{to="udp"}[1m])', /^no series .*"udp".*,no data:/u],
      ['transit_relay_quota_limit_bytes < 0', /^no data:/u],
      ['0 * transit_relay_ready / 0', /^no number:/u],
      ['sum(transit_relay_ready', /parse error.*,no data:/u],
    ];
    for (const [expr, problem] of cases) match((await problemsOfQuery(prometheus, expr)).join(), problem);
    const text = JSON.stringify(readDashboard('dashboard')).replace(
      'transit_relay_buffered_bytes',
      'transit_relay_unknown_bytes',
    );
    const broken: unknown = JSON.parse(text);
    match(
      (await problemsOfDashboard(prometheus, broken)).join(),
      /^Bytes in memory for slow receivers: no series/u,
    );
  });

  test('has all series that the alerts use, and no alert fires', async () => {
    const { prometheus } = site;
    for (const { name, expr } of readAlerts()) {
      deepEqual(await missingSeries(prometheus, expr), [], name);
      await prometheus.query(expr);
    }
    // A quantile never exceeds the last bound, so the threshold must be below it.
    const bounds = await prometheus.query('transit_relay_event_loop_delay_seconds_bucket{le!="+Inf"}');
    ok(bounds.some(({ labels }) => Number(labels.get('le')) > EVENT_LOOP_THRESHOLD_SECONDS));
    const groups = listAt(await prometheus.api('rules'), 'groups');
    const rules = groups.flatMap((group) => listAt(group, 'rules'));
    equal(rules.length, readAlerts().length);
    for (const rule of rules) {
      equal(textAt(rule, 'health'), 'ok');
      equal(textAt(rule, 'state') === 'firing', false, textAt(rule, 'name'));
    }
  });

  test('accepts the format of the metrics', async () => {
    for (const program of ['relay', 'sidecar'] as const) {
      const input = withoutMisnamed(await site.metricsOf(program));
      match(input, /^transit_relay_/mu);
      const promtool = findProgram('promtool') ?? '';
      const { status, stdout, stderr } = spawnSync(promtool, ['check', 'metrics'], {
        input,
        encoding: 'utf8',
      });
      deepEqual([status, stdout, stderr], [0, '', ''], program);
    }
  });

  // Must be the last test, because it stops the relay.
  test('fires an alert when the relay has stopped', async () => {
    const { prometheus, relay } = site;
    await relay.stop();
    await prometheus.becomes('up{job="transit-relay"}', 0);
    const isFiring = (alert: unknown): boolean => textAt(alert, 'state') === 'firing';
    const alerts = await prometheus.until(
      async () => listAt(await prometheus.api('alerts'), 'alerts'),
      (all) => all.some(isFiring),
    );
    const down = alerts.find(isFiring);
    equal(textAt(down, 'labels', 'alertname'), 'TransitRelayDown');
    equal(textAt(down, 'labels', 'severity'), 'critical');
    match(textAt(down, 'annotations', 'summary'), /^The relay at 127\.0\.0\.1:\d+ does not respond$/u);
  });
});
