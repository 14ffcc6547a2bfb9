import { deepEqual, equal, match } from 'node:assert/strict';
import { test } from 'node:test';
import { newToken } from '../../support/bytes.ts';
import { withoutRedis } from '../../support/redis.ts';
import { problemsOfDashboard, missingSeries } from './dashboard-queries.ts';
import { listAt, textAt } from './fields.ts';
import { ClusterSite, instanceOf } from './cluster-site.ts';
import { withoutPrometheus } from './prometheus-server.ts';
import { readAlerts, readDashboard } from './shipped.ts';

const BYTES = 1_500_007;

const skip = withoutPrometheus === false ? withoutRedis() : withoutPrometheus;

/** Alerts that fire, as `NAME INSTANCE`. */
async function firing({ prometheus }: ClusterSite): Promise<string[]> {
  const alerts = listAt(await prometheus.api('alerts'), 'alerts');
  return alerts
    .filter((alert) => textAt(alert, 'state') === 'firing')
    .map((alert) => `${textAt(alert, 'labels', 'alertname')} ${textAt(alert, 'labels', 'instance')}`)
    .toSorted();
}

test('a Prometheus that scrapes a cluster and a single relay', { skip }, async (context) => {
  const site = await ClusterSite.open(context, ['TransitRelayCoordinatorDown']);
  const { prometheus, one, other, isolated, single } = site;
  const [first, second] = await site.pair(BYTES);
  first.end();
  await Promise.all([first.closed, second.closed]);
  // One pair keeps running, and one client waits.
  await site.pair(BYTES);
  await site.startWaiting(newToken());

  await context.test('counts waiting and forwarded clients per relay', async () => {
    const owner = `{instance="${instanceOf(one)}"}`;
    const forwarder = `{instance="${instanceOf(other)}"}`;
    await prometheus.becomes(`transit_relay_cluster_leases${owner}`, 1);
    await prometheus.becomes(`transit_relay_connections_forwarding${forwarder}`, 1);
    await prometheus.becomes(`transit_relay_connections_forwarded_total${forwarder}`, 1);
    await prometheus.becomes(`transit_relay_cluster_link_attempts_total${forwarder}`, 2);
    await prometheus.becomes(`transit_relay_pairs_made_total${owner}`, 2);
    for (const name of ['cluster_member', 'cluster_up', 'cluster_commands_total', 'cluster_leases'])
      equal(await prometheus.sum(`transit_relay_${name}{instance="${instanceOf(single)}"}`), 0, name);
  });

  await context.test(
    'counts each byte at both relays of a forwarded pair, and once without links',
    async () => {
      await prometheus.becomes('transit_relay_relayed_bytes_total', 2 * 4 * BYTES);
      await prometheus.becomes('transit_relay_relayed_bytes_total{from!="link"}', 4 * BYTES);
      await prometheus.becomes('transit_relay_connections_accepted_total{transport!="link"}', 5);
    },
  );

  await context.test('has data for every query of the cluster dashboard', async () => {
    deepEqual(await problemsOfDashboard(prometheus, readDashboard('cluster')), []);
  });

  await context.test('detects a query without data', async () => {
    const text = JSON.stringify(readDashboard('cluster')).replace(
      'connections_forwarding',
      'connections_unknown',
    );
    const broken: unknown = JSON.parse(text);
    const problems = await problemsOfDashboard(prometheus, broken);
    match(problems.join(), /Clients being forwarded now: no series/u);
  });

  await context.test(
    'has all series that the cluster alerts use, and one fires for the relay that never reached its coordinator',
    async () => {
      const clusterAlerts = readAlerts().filter(({ expr }) => expr.includes('cluster_'));
      equal(clusterAlerts.length, 8);
      for (const { name, expr } of clusterAlerts) deepEqual(await missingSeries(prometheus, expr), [], name);
      const found = await prometheus.until(
        () => firing(site),
        (names) => names.length > 0,
      );
      deepEqual(found, [`TransitRelayCoordinatorDown ${instanceOf(isolated)}`]);
    },
  );

  // Must be the last test, because it stops the coordinator.
  await context.test(
    'fires for all relays that lost their coordinator, and never for the single relay',
    async () => {
      await site.redis.kill();
      const lost = [one, other, isolated]
        .map((relay) => `TransitRelayCoordinatorDown ${instanceOf(relay)}`)
        .toSorted();
      deepEqual(
        await prometheus.until(
          () => firing(site),
          (names) => names.length >= lost.length,
        ),
        lost,
      );
    },
  );
});
