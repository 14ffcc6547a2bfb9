import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { SIDE_A, SIDE_B, newToken } from '../../support/bytes.ts';
import { startOwningClient } from './network/clients.ts';
import { NetworkCluster, skipWithoutNetworkCluster } from './network/network-cluster.ts';
import { skipWithoutWormhole } from './network/users.ts';
import { transfer } from './process-cluster.ts';

/** Rate of a pair in bytes per second. */
const RATE = 4_000_000;

/** It takes six seconds, so that a test on a busy machine can pause the transfer before it is complete. */
const FILE_BYTES = 6 * RATE;

/**
 * Longer than the link of a waiting client needs to detect a dead relay (15 s), but shorter than the link of
 * a pair needs. In milliseconds.
 */
const VANISHED_MS = 25_000;

/** Longer than three lease renewals take, in milliseconds. */
const RENEWALS_MS = 45_000;

describe(
  'a cluster that loses packets',
  { skip: skipWithoutNetworkCluster() || skipWithoutWormhole(), concurrency: true },
  () => {
    test('from and to one relay keeps all pairs, and clients that were forwarded to that relay are paired with partners at other relays', async (context) => {
      const cluster = await NetworkCluster.open(context, { RELAY_PAIR_RATE: `${RATE}B/s` });
      const { one, two, three, network } = cluster;
      const users = await cluster.users();
      const [waitingToken, pairedToken, localToken] = [newToken(), newToken(), newToken()];
      const owner = await startOwningClient(context, cluster, one, waitingToken);
      const near = await startOwningClient(context, cluster, one, pairedToken);
      const far = await two.connectClient(context, pairedToken, SIDE_B);
      await transfer(near, far, 1000);
      const forwarded = await two.connectClient(context, waitingToken, SIDE_A);
      await one.untilMetric('connections_waiting', 2);
      const local = await startOwningClient(context, cluster, one, localToken);
      const sending = users.send('two', 'three', FILE_BYTES);
      await two.untilMetric('relayed_bytes_total', (bytes) => bytes > 0);
      sending.pause();
      network.isolate('one');
      // Its relay cannot connect to the owner and takes the lease over.
      const partner = await three.connectClient(context, waitingToken, SIDE_B);
      await three.untilMetric('cluster_leases', 1);
      assert.ok((await two.metric('relayed_bytes_total')) < FILE_BYTES, 'the transfer is still running');
      sending.resume();
      await sending.arrived;
      await one.waitForLog(/coordinator is down/u);
      assert.equal(await one.readiness(), 200);
      await transfer(local, await one.connectClient(context, localToken, SIDE_B), 1000);
      const remoteToken = newToken();
      const remoteClient = await startOwningClient(context, cluster, two, remoteToken);
      await transfer(remoteClient, await three.connectClient(context, remoteToken, SIDE_B), 1000);
      await transfer(forwarded, partner, 1000);
      const endedPair = await Promise.race([
        far.closed,
        near.closed,
        sleep(VANISHED_MS, null, { ref: false }),
      ]);
      assert.equal(endedPair, null);
      assert.equal(owner.receivedBytes, 0);
      network.heal();
      await one.untilMetric('cluster_up', 1);
      await transfer(owner, await three.connectClient(context, waitingToken, SIDE_B), 1000);
      await transfer(near, far, 1000);
    });

    test('between two relays pairs their clients when it heals, and until then the relays do not retry without limit', async (context) => {
      const cluster = await NetworkCluster.open(context);
      const { one, two, three, network } = cluster;
      const users = await cluster.users();
      network.partition('one', 'two');
      const splitToken = newToken();
      const clientA = await startOwningClient(context, cluster, one, splitToken);
      const clientB = await two.connectClient(context, splitToken, SIDE_B);
      const thirdToken = newToken();
      const third = await startOwningClient(context, cluster, three, thirdToken);
      const sending = users.send('one', 'three', 3_000_000);
      await transfer(third, await two.connectClient(context, thirdToken, SIDE_B));
      await sending.arrived;
      // Each relay takes the lease over from the other when a renewal reports it as lost.
      await one.untilMetric('cluster_leases_lost_total', (lost) => lost >= 1, RENEWALS_MS);
      await two.untilMetric('cluster_leases_lost_total', (lost) => lost >= 1, RENEWALS_MS);
      for (const relay of [one, two]) {
        const lost = await relay.metric('cluster_leases_lost_total');
        const attempts = await relay.metric('cluster_link_attempts_total');
        assert.ok(attempts <= 2 * lost + 2, `${attempts} connection attempts for ${lost} lost leases`);
        const commands = await relay.metric('cluster_commands_total');
        assert.ok(commands <= 50, `${commands} commands`);
      }
      assert.equal(clientA.receivedBytes + clientB.receivedBytes, 0);
      network.heal();
      await transfer(clientA, clientB);
    });
  },
);
