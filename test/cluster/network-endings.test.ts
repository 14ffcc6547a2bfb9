import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { SIDE_A, SIDE_B, newToken } from '../support/bytes.ts';
import { startOwningClient } from './network/clients.ts';
import { NetworkCluster, skipWithoutNetworkCluster } from './network/network-cluster.ts';
import { UntrustedPeers } from './network/untrusted-peers.ts';
import { skipWithoutWormhole } from './network/users.ts';
import { transfer } from './process-cluster.ts';

/** What a pair moves in a second: so little that a transfer is sure to go on while something befalls a relay. In bytes. */
const RATE = 1_000_000;

const SLOW_PAIRS = { RELAY_PAIR_RATE: `${RATE}B/s` };

describe(
  'a relay of a cluster that',
  { skip: skipWithoutNetworkCluster() || skipWithoutWormhole(), concurrency: true, timeout: 120_000 },
  () => {
    test('dies ends no pairs but its own', async (context) => {
      const site = await NetworkCluster.open(context, SLOW_PAIRS);
      const { one, two, three } = site;
      const users = await site.users();
      const [awaited, running] = [newToken(), newToken()];
      await startOwningClient(context, one, awaited);
      const near = await startOwningClient(context, one, running);
      const far = await two.connectClient(context, running, SIDE_B);
      await transfer(near, far, 1000);
      // Same side: it waits at the owner, by way of the second relay.
      const again = await two.connectClient(context, awaited, SIDE_A);
      await one.untilMetric('connections_waiting', 2);
      const sending = users.send('two', 'three', 3 * RATE);
      await two.untilMetric('relayed_bytes_total', (bytes) => bytes > RATE);
      one.kill('SIGKILL');
      // It can't be told from a partner that went.
      assert.deepEqual(await far.closed, { reset: false, code: null });
      await two.untilMetric('cluster_leases', 1);
      await transfer(again, await three.connectClient(context, awaited, SIDE_B), 1000);
      assert.ok((await two.metric('relayed_bytes_total')) < 3 * RATE, 'the transfer goes on');
      await sending.arrived;
    });

    test('drains redirects its waiting clients, makes other relays look up their owners again, and finishes its pairs', async (context) => {
      const site = await NetworkCluster.open(context, SLOW_PAIRS);
      const { one, two, three } = site;
      const users = await site.users();
      const [own, awaited] = [newToken(), newToken()];
      const waiter = await startOwningClient(context, one, own);
      await startOwningClient(context, one, awaited);
      const again = await two.connectClient(context, awaited, SIDE_A);
      await one.untilMetric('connections_waiting', 3);
      const sending = users.send('one', 'two', 3 * RATE);
      await one.untilMetric('relayed_bytes_total', (bytes) => bytes > RATE);
      const byLink = ['{from="tcp",to="link"}', '{from="link",to="tcp"}'];
      const moved = await Promise.all(byLink.map((way) => one.metric(`relayed_bytes_total${way}`)));
      assert.ok(Math.max(...moved) > 0, 'the transfer runs over a link');
      one.kill('SIGTERM');
      await waiter.closed;
      assert.equal(waiter.received.toString(), 'shutting down\n');
      await two.untilMetric('cluster_leases', 1);
      assert.equal(again.receivedBytes, 0);
      const links = await one.metric('connections_accepted_total{transport="link"}');
      assert.equal(await one.readiness(), 503);
      const peer = await new UntrustedPeers(context, site).connectMany(one, 1, '');
      await peer.untilReported(/"heard"/u);
      // Nobody takes links there: else it would have heard a greeting.
      assert.deepEqual(peer.reports.at(-1), { heard: { '': 1 } });
      // Who comes for either token now has nothing to do with it.
      const later = await three.connectClient(context, own, SIDE_A);
      await three.untilMetric('cluster_leases', 1);
      await Promise.all([
        transfer(again, await three.connectClient(context, awaited, SIDE_B), 1000),
        transfer(later, await two.connectClient(context, own, SIDE_B), 1000),
      ]);
      assert.equal(await one.metric('connections_accepted_total{transport="link"}'), links);
      for (const relay of [two, three]) assert.equal(await relay.metric('cluster_link_failures_total'), 0);
      assert.ok((await one.metric('relayed_bytes_total')) < 3 * RATE, 'the transfer goes on');
      await Promise.all([sending.arrived, one.ended()]);
      assert.deepEqual(await site.coordinator.keys(), []);
    });
  },
);
