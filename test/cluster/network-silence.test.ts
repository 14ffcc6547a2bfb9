import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { SIDE_A, SIDE_B, newToken } from '../support/bytes.ts';
import { startOwningClient } from './network/clients.ts';
import { NetworkCluster, skipWithoutNetworkCluster } from './network/network-cluster.ts';
import { skipWithoutWormhole } from './network/users.ts';
import { transfer } from './process-cluster.ts';

/** What a pair moves in a second: so little that a transfer is sure to go on while something befalls a relay. In bytes. */
const RATE = 1_000_000;

/** Longer than the link of a waiting client takes to find a dead relay (15 s), and less than the link of a pair does. In milliseconds. */
const VANISHED_MS = 25_000;

/** Longer than three rounds of renewals take, in milliseconds. */
const RENEWALS_MS = 45_000;

describe(
  'packets of a group that vanish',
  { skip: skipWithoutNetworkCluster() || skipWithoutWormhole(), concurrency: true, timeout: 120_000 },
  () => {
    test('to and from one relay end no pair, and clients that wait there through another relay meet their partners', async (context) => {
      const site = await NetworkCluster.open(context, { RELAY_PAIR_RATE: `${RATE}B/s` });
      const { one, two, three, network } = site;
      const users = await site.users();
      const [awaited, running, home] = [newToken(), newToken(), newToken()];
      const owner = await startOwningClient(context, one, awaited);
      const near = await startOwningClient(context, one, running);
      const far = await two.connectClient(context, running, SIDE_B);
      await transfer(near, far, 1000);
      const again = await two.connectClient(context, awaited, SIDE_A);
      await one.untilMetric('connections_waiting', 2);
      const local = await startOwningClient(context, one, home);
      const sending = users.send('two', 'three', 3 * RATE);
      await two.untilMetric('relayed_bytes_total', (bytes) => bytes > RATE);
      network.isolate('one');
      // Its call comes to nothing, and its relay takes the token over.
      const partner = await three.connectClient(context, awaited, SIDE_B);
      await three.untilMetric('cluster_leases', 1);
      assert.ok((await two.metric('relayed_bytes_total')) < 3 * RATE, 'the transfer goes on');
      await sending.arrived;
      await one.untilLogged(/coordinator is down/u);
      assert.equal(await one.readiness(), 200);
      await transfer(local, await one.connectClient(context, home, SIDE_B), 1000);
      const router = newToken();
      const met = await startOwningClient(context, two, router);
      await transfer(met, await three.connectClient(context, router, SIDE_B), 1000);
      await transfer(again, partner, 1000);
      const end = await Promise.race([far.closed, near.closed, sleep(VANISHED_MS, null, { ref: false })]);
      assert.equal(end, null);
      assert.equal(owner.receivedBytes, 0);
      network.heal();
      await one.untilMetric('cluster_up', 1);
      await transfer(owner, await three.connectClient(context, awaited, SIDE_B), 1000);
      await transfer(near, far, 1000);
    });

    test('between two relays keep two clients apart no longer than that lasts, and make nobody ask without end', async (context) => {
      const site = await NetworkCluster.open(context);
      const { one, two, three, network } = site;
      const users = await site.users();
      network.partition('one', 'two');
      const torn = newToken();
      const here = await startOwningClient(context, one, torn);
      const there = await two.connectClient(context, torn, SIDE_B);
      const waiting = newToken();
      const third = await startOwningClient(context, three, waiting);
      const sending = users.send('one', 'three', 3_000_000);
      await transfer(third, await two.connectClient(context, waiting, SIDE_B));
      await sending.arrived;
      // Each takes the claim from the other one when it hears of it, which a renewal tells it.
      await one.untilMetric('cluster_leases_lost_total', (lost) => lost >= 1, RENEWALS_MS);
      await two.untilMetric('cluster_leases_lost_total', (lost) => lost >= 1, RENEWALS_MS);
      for (const relay of [one, two]) {
        const lost = await relay.metric('cluster_leases_lost_total');
        const calls = await relay.metric('cluster_link_attempts_total');
        assert.ok(calls <= 2 * lost + 2, `${calls} calls for ${lost} lost claims`);
        const commands = await relay.metric('cluster_commands_total');
        assert.ok(commands <= 50, `${commands} commands`);
      }
      assert.equal(here.receivedBytes + there.receivedBytes, 0);
      network.heal();
      await transfer(here, there);
    });
  },
);
