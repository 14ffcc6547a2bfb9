import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { SIDE_A, SIDE_B, newToken } from '../../support/bytes.ts';
import { startOwningClient } from './network/clients.ts';
import { NetworkCluster, skipWithoutNetworkCluster } from './network/network-cluster.ts';
import { UntrustedPeers } from './network/untrusted-peers.ts';
import { skipWithoutWormhole } from './network/users.ts';
import { transfer } from './process-cluster.ts';

/** Rate of a pair in bytes per second. */
const RATE = 4_000_000;

/** It takes six seconds, so that a test on a busy machine can pause the transfer before it is complete. */
const FILE_BYTES = 6 * RATE;

const SLOW_PAIRS = { RELAY_PAIR_RATE: `${RATE}B/s` };

describe(
  'a relay of a cluster',
  { skip: skipWithoutNetworkCluster() || skipWithoutWormhole(), concurrency: true },
  () => {
    test('that dies ends only its own pairs, and clients forwarded to it are paired at other relays', async (context) => {
      const cluster = await NetworkCluster.open(context, SLOW_PAIRS);
      const { one, two, three } = cluster;
      const users = await cluster.users();
      const [waitingToken, pairedToken] = [newToken(), newToken()];
      await startOwningClient(context, cluster, one, waitingToken);
      const near = await startOwningClient(context, cluster, one, pairedToken);
      const far = await two.connectClient(context, pairedToken, SIDE_B);
      await transfer(near, far, 1000);
      // Same side: the client waits at the owner, forwarded by the second relay.
      const forwarded = await two.connectClient(context, waitingToken, SIDE_A);
      await one.untilMetric('connections_waiting', 2);
      const sending = users.send('two', 'three', FILE_BYTES);
      await two.untilMetric('relayed_bytes_total', (bytes) => bytes > 0);
      sending.pause();
      one.kill('SIGKILL');
      // To the client this looks the same as a partner that has closed.
      assert.deepEqual(await far.closed, { reset: false, code: null });
      await two.untilMetric('cluster_leases', 1);
      await transfer(forwarded, await three.connectClient(context, waitingToken, SIDE_B), 1000);
      assert.ok((await two.metric('relayed_bytes_total')) < FILE_BYTES, 'the transfer is still running');
      sending.resume();
      await sending.arrived;
    });

    test('that drains closes its waiting clients, has clients forwarded to it redirected, and finishes its pairs', async (context) => {
      const cluster = await NetworkCluster.open(context, SLOW_PAIRS);
      const { one, two, three } = cluster;
      const users = await cluster.users();
      const [ownToken, waitingToken] = [newToken(), newToken()];
      const waiter = await startOwningClient(context, cluster, one, ownToken);
      await startOwningClient(context, cluster, one, waitingToken);
      const forwarded = await two.connectClient(context, waitingToken, SIDE_A);
      await one.untilMetric('connections_waiting', 3);
      const sending = users.send('one', 'two', FILE_BYTES);
      await one.untilMetric('relayed_bytes_total', (bytes) => bytes > 0);
      sending.pause();
      const linkLabels = ['{from="tcp",to="link"}', '{from="link",to="tcp"}'];
      const movedBytes = await Promise.all(
        linkLabels.map((labels) => one.metric(`relayed_bytes_total${labels}`)),
      );
      assert.ok(Math.max(...movedBytes) > 0, 'the transfer runs over a link');
      one.kill('SIGTERM');
      await waiter.closed;
      assert.equal(waiter.received.toString(), 'shutting down\n');
      await two.untilMetric('cluster_leases', 1);
      assert.equal(forwarded.receivedBytes, 0);
      const links = await one.metric('connections_accepted_total{transport="link"}');
      assert.equal(await one.readiness(), 503);
      const peer = await new UntrustedPeers(context, cluster).connectMany(one, 1, '');
      await peer.untilReported(/"received"/u);
      // No link is accepted: otherwise the peer would have received the first line of link authentication.
      assert.deepEqual(peer.reports.at(-1), { received: { '': 1 } });
      // Clients that connect for either token from now on do not use the stopped relay.
      const later = await three.connectClient(context, ownToken, SIDE_A);
      await three.untilMetric('cluster_leases', 1);
      await Promise.all([
        transfer(forwarded, await three.connectClient(context, waitingToken, SIDE_B), 1000),
        transfer(later, await two.connectClient(context, ownToken, SIDE_B), 1000),
      ]);
      assert.equal(await one.metric('connections_accepted_total{transport="link"}'), links);
      for (const relay of [two, three]) assert.equal(await relay.metric('cluster_link_failures_total'), 0);
      assert.ok((await one.metric('relayed_bytes_total')) < FILE_BYTES, 'the transfer is still running');
      sending.resume();
      await Promise.all([sending.arrived, one.ended()]);
      assert.deepEqual(await cluster.coordinator.keys(), []);
    });
  },
);
