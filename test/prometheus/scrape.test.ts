import { deepEqual, equal, match, ok } from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { after, before, describe, test } from 'node:test';
import { findProgram } from '../support/programs.ts';
import { faultsOfDashboard, faultsOfQuery, missingSeries } from './dashboard-queries.ts';
import { listAt, textAt } from './fields.ts';
import { withoutPrometheus } from './prometheus-server.ts';
import { GROUP_ROW, readAlerts, readDashboard } from './shipped.ts';
import { Site, WAITING_PLACES } from './site.ts';

const TRANSPORTS = ['tcp', 'unix', 'websocket'] as const;

/** Both ways, and more from pair to pair, so that no direction can be taken for another. */
const THERE_BYTES = 1_500_007;
const BACK_BYTES = 700_001;
const MORE_BYTES = 10_003;

/** More than the kernel and the relay hold together for one that does not read. */
const STALLED_BYTES = 40_000_003;

/** Of the alert. */
const EVENT_LOOP_THRESHOLD_SECONDS = 0.1;

/** Whether a row of the dashboard is about relays without a group; the other one is asked for where there is one. */
function isOfOne(row: string): boolean {
  return row !== GROUP_ROW;
}

function sumOf(counts: ReadonlyMap<unknown, number>): number {
  return [...counts.values()].reduce((sum, count) => sum + count, 0);
}

describe(
  'a real Prometheus that scrapes a relay under load, and its sidecar',
  { skip: withoutPrometheus },
  () => {
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
      await traffic.fullHouse(WAITING_PLACES);
    });
    after(() => site[Symbol.asyncDispose]());

    test('counts what clients did, to the byte', async () => {
      const { prometheus, traffic } = site;
      const { accepted, ended, relayedBytes, pairs, refused: rejected } = traffic.counted;
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
      for (const nothing of [
        'connections_open',
        'connections_waiting',
        'connections_paired',
        'buffered_bytes',
      ])
        await prometheus.becomes(`transit_relay_${nothing}`, 0);
      for (const reason of ['backpressure', 'rate_limit'])
        ok((await prometheus.sum(`transit_relay_paused_seconds_total{reason="${reason}"}`)) > 0, reason);
    });

    test('counts the same in the usage records, in the database and in its snapshots', async () => {
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

    test('has data for every query of the dashboard, but for those about groups', async () => {
      deepEqual(await faultsOfDashboard(site.prometheus, readDashboard(), isOfOne), []);
    });

    test('would tell of a query for what is not there', async () => {
      const { prometheus } = site;
      const cases: [expr: string, fault: RegExp][] = [
        ['sum(transit_relay_bytes_total) or vector(0)', /^no series transit_relay_bytes_total:/u],
        ['rate(transit_relay_relayed_bytes_total{to="udp"}[1m])', /^no series .*"udp".*,no data:/u],
        ['transit_relay_quota_limit_bytes < 0', /^no data:/u],
        ['0 * transit_relay_ready / 0', /^no number:/u],
        ['sum(transit_relay_ready', /parse error.*,no data:/u],
      ];
      for (const [expr, fault] of cases) match((await faultsOfQuery(prometheus, expr)).join(), fault);
      const text = JSON.stringify(readDashboard()).replace(
        'transit_relay_buffered_bytes',
        'transit_relay_hold_bytes',
      );
      const broken: unknown = JSON.parse(text);
      match(
        (await faultsOfDashboard(prometheus, broken, isOfOne)).join(),
        /^Buffered for slow receivers: no series/u,
      );
    });

    test('has all series that the alerts look at, and no alert fires', async () => {
      const { prometheus } = site;
      for (const { name, expr } of readAlerts()) {
        deepEqual(await missingSeries(prometheus, expr), [], name);
        await prometheus.query(expr);
      }
      // A quantile is never above the last bound: a threshold there would be one that nothing crosses.
      const bounds = await prometheus.query('transit_relay_event_loop_delay_seconds_bucket{le!="+Inf"}');
      ok(bounds.some(({ labels }) => Number(labels.get('le')) > EVENT_LOOP_THRESHOLD_SECONDS));
      const clusters = listAt(await prometheus.api('rules'), 'groups');
      const rules = clusters.flatMap((group) => listAt(group, 'rules'));
      equal(rules.length, readAlerts().length);
      for (const rule of rules) {
        equal(textAt(rule, 'health'), 'ok');
        equal(textAt(rule, 'state') === 'firing', false, textAt(rule, 'name'));
      }
    });

    test('finds nothing wrong with how the metrics are made', async () => {
      for (const program of ['relay', 'sidecar'] as const) {
        const input = await site.metricsOf(program);
        match(input, /^transit_relay_/mu);
        const promtool = findProgram('promtool') ?? '';
        const { status, stdout, stderr } = spawnSync(promtool, ['check', 'metrics'], {
          input,
          encoding: 'utf8',
        });
        deepEqual([status, stdout, stderr], [0, '', ''], program);
      }
    });

    // The last one: nothing comes after the relay's end.
    test('alerts when the relay is gone', async () => {
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
  },
);
