import { deepEqual, equal, match } from 'node:assert/strict';
import { test } from 'node:test';
import { newToken } from '../support/bytes.ts';
import { withoutRedis } from '../support/redis.ts';
import { faultsOfDashboard, missingSeries } from './dashboard-queries.ts';
import { listAt, textAt } from './fields.ts';
import { GroupSite, instanceOf } from './group-site.ts';
import { withoutPrometheus } from './prometheus-server.ts';
import { GROUP_ROW, readAlerts, readDashboard } from './shipped.ts';

const BYTES = 1_500_007;

const skip = withoutPrometheus === false ? withoutRedis() : withoutPrometheus;

/** Alerts that fire, as `NAME INSTANCE`. */
async function firing({ prometheus }: GroupSite): Promise<string[]> {
  const alerts = listAt(await prometheus.api('alerts'), 'alerts');
  return alerts
    .filter((alert) => textAt(alert, 'state') === 'firing')
    .map((alert) => `${textAt(alert, 'labels', 'alertname')} ${textAt(alert, 'labels', 'instance')}`)
    .toSorted();
}

test('a real Prometheus that scrapes a group of relays, and one that is alone', { skip }, async (context) => {
  const site = await GroupSite.open(context, ['TransitRelayCoordinatorDown']);
  const { prometheus, one, other, astray, alone } = site;
  const [first, second] = await site.pair(BYTES);
  first.end();
  await Promise.all([first.closed, second.closed]);
  // One pair goes on, and somebody waits.
  await site.pair(BYTES);
  await site.waits(newToken());

  await context.test('knows where clients wait, and who is passed on', async () => {
    const owner = `{instance="${instanceOf(one)}"}`;
    const caller = `{instance="${instanceOf(other)}"}`;
    await prometheus.becomes(`transit_relay_cluster_leases${owner}`, 1);
    await prometheus.becomes(`transit_relay_connections_forwarding${caller}`, 1);
    await prometheus.becomes(`transit_relay_connections_forwarded_total${caller}`, 1);
    await prometheus.becomes(`transit_relay_cluster_link_attempts_total${caller}`, 2);
    await prometheus.becomes(`transit_relay_pairs_made_total${owner}`, 2);
    for (const nothing of ['cluster_member', 'cluster_up', 'cluster_commands_total', 'cluster_leases'])
      equal(await prometheus.sum(`transit_relay_${nothing}{instance="${instanceOf(alone)}"}`), 0, nothing);
  });

  await context.test('has each byte once, where both relays of a pair have it', async () => {
    await prometheus.becomes('transit_relay_relayed_bytes_total', 2 * 4 * BYTES);
    await prometheus.becomes('transit_relay_relayed_bytes_total{from!="link"}', 4 * BYTES);
    await prometheus.becomes('transit_relay_connections_accepted_total{transport!="link"}', 5);
  });

  await context.test('has data for every query of the dashboard about groups', async () => {
    deepEqual(await faultsOfDashboard(prometheus, readDashboard(), (row) => row === GROUP_ROW), []);
  });

  await context.test('would tell where there is none', async () => {
    const text = JSON.stringify(readDashboard()).replace('connections_forwarding', 'connections_unknown');
    const broken: unknown = JSON.parse(text);
    const faults = await faultsOfDashboard(prometheus, broken, (row) => row === GROUP_ROW);
    match(faults.join(), /Forwarding: no series/u);
  });

  await context.test(
    'has all series that alerts look at, and one fires: for who has found no coordinator since its start',
    async () => {
      const ofRelays = readAlerts().filter(({ expr }) => expr.includes('cluster_'));
      equal(ofRelays.length, 8);
      for (const { name, expr } of ofRelays) deepEqual(await missingSeries(prometheus, expr), [], name);
      const found = await prometheus.until(
        () => firing(site),
        (names) => names.length > 0,
      );
      deepEqual(found, [`TransitRelayCoordinatorDown ${instanceOf(astray)}`]);
    },
  );

  // The last one: nothing comes after the coordinator's end.
  await context.test(
    'alerts for those that have lost their coordinator too, and never for the one that is alone',
    async () => {
      await site.redis.kill();
      const lost = [one, other, astray]
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
