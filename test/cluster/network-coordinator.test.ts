import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { SIDE_B, newToken } from '../support/bytes.ts';
import { startOwningClient, startWaitingClient } from './network/clients.ts';
import type { NetworkCoordinator } from './network/coordinator.ts';
import type { NetworkRelay } from './network/network-relay.ts';
import { COORDINATOR, NetworkCluster, skipWithoutNetworkCluster } from './network/network-cluster.ts';
import { skipWithoutWormhole } from './network/users.ts';
import { transfer } from './process-cluster.ts';

/** More than the coordinator takes where it is well and less than what makes it slow, in milliseconds. */
const SLUGGISH_MS = 200;

const SLOW_MS = 3000;

/** Two clients of one relay meet, whatever the coordinator does. */
async function expectLocalPairs(context: TestContext, relay: NetworkRelay): Promise<void> {
  const token = newToken();
  const one = await startWaitingClient(context, relay, token);
  await transfer(one, await relay.connectClient(context, token, SIDE_B));
  assert.equal(await relay.readiness(), 200);
}

/** The second one comes to another relay, and both meet. */
async function expectPairsAcross(
  context: TestContext,
  first: NetworkRelay,
  second: NetworkRelay,
): Promise<void> {
  const token = newToken();
  const one = await startOwningClient(context, first, token);
  await transfer(one, await second.connectClient(context, token, SIDE_B));
}

/** Resolves when the coordinator has so many leases. */
async function untilLeases(coordinator: NetworkCoordinator, count: number): Promise<void> {
  for (const deadline = performance.now() + 10_000; ;) {
    const keys = await coordinator.keys();
    if (keys.length === count) return;
    assert.ok(performance.now() < deadline, `${keys.length} claims, not ${count}`);
    await sleep(20);
  }
}

/** A relay finds out that it can't ask, and says so. */
async function untilCoordinatorDown(relay: NetworkRelay): Promise<void> {
  await relay.untilLogged(/coordinator is down/u);
  await relay.untilMetric('cluster_up', 0);
  assert.equal(await relay.readiness(), 200);
}

describe(
  'a cluster whose coordinator',
  { skip: skipWithoutNetworkCluster() || skipWithoutWormhole(), concurrency: 2, timeout: 120_000 },
  () => {
    test('dies still pairs clients of one relay; leases are acquired again when it is back, empty', async (context) => {
      const site = await NetworkCluster.open(context);
      const { one, two, three, coordinator } = site;
      const users = await site.users();
      const early = newToken();
      const waiter = await startOwningClient(context, one, early);
      await coordinator.kill();
      await Promise.all(site.relays.map(untilCoordinatorDown));
      const sending = users.send('two', 'two', 3_000_000);
      await Promise.all(site.relays.map((relay) => expectLocalPairs(context, relay)));
      await sending.arrived;
      // Each relay is the owner until the coordinator replies.
      const torn = newToken();
      const [here, there] = [
        await startWaitingClient(context, one, torn),
        await three.connectClient(context, torn, SIDE_B),
      ];
      await three.untilMetric('connections_waiting', 1);
      await coordinator.start();
      await transfer(here, there);
      await Promise.all(site.relays.map((relay) => relay.untilMetric('cluster_up', 1)));
      await one.untilMetric('cluster_leases', 1);
      await transfer(waiter, await two.connectClient(context, early, SIDE_B));
      await users.send('one', 'two', 3_000_000).arrived;
      await untilLeases(coordinator, 0);
    });

    test('is cut off from one relay goes on with the others; two leases of one token become one', async (context) => {
      const site = await NetworkCluster.open(context);
      const { one, two, three, coordinator, network } = site;
      const users = await site.users();
      const twice = newToken();
      const first = await startOwningClient(context, one, twice);
      network.partition('one', COORDINATOR);
      // A client that it has to ask about finds out before its next test would.
      const [lonely, torn] = [newToken(), newToken()];
      const asks = await startWaitingClient(context, one, lonely);
      await untilCoordinatorDown(one);
      // Its lease ends; another relay leases the token meanwhile.
      await coordinator.flush();
      const second = await two.connectClient(context, twice, SIDE_B);
      await two.untilMetric('cluster_leases', 1);
      const sending = users.send('two', 'three', 3_000_000);
      const [here, there] = [
        await startWaitingClient(context, one, torn),
        await three.connectClient(context, torn, SIDE_B),
      ];
      await expectLocalPairs(context, one);
      await expectPairsAcross(context, two, three);
      await sending.arrived;
      for (const relay of [two, three]) assert.equal(await relay.metric('cluster_up'), 1);
      assert.equal(first.receivedBytes + second.receivedBytes + here.receivedBytes + there.receivedBytes, 0);
      network.heal();
      await Promise.all([transfer(first, second), transfer(here, there)]);
      await one.untilMetric('cluster_up', 1);
      await transfer(asks, await three.connectClient(context, lonely, SIDE_B));
    });

    test('hears one relay and is not heard by it has its leases; partners at other relays find them', async (context) => {
      const site = await NetworkCluster.open(context);
      const { one, two, coordinator, network } = site;
      network.dropOneWay(COORDINATOR, 'one');
      const token = newToken();
      const waiter = await startWaitingClient(context, one, token);
      await untilLeases(coordinator, 1);
      await transfer(waiter, await two.connectClient(context, token, SIDE_B));
      await untilCoordinatorDown(one);
      await expectLocalPairs(context, one);
      network.heal();
      await one.untilMetric('cluster_up', 1);
      await expectPairsAcross(context, one, two);
    });

    test('is sluggish is well; one that is slow delays no pair of one relay, and who has waited apart meets', async (context) => {
      const site = await NetworkCluster.open(context);
      const { one, two, three, coordinator } = site;
      const users = await site.users();
      coordinator.slowDown(SLUGGISH_MS);
      // Nobody comes to the third one, which asks for nothing but how well the coordinator is.
      const asked = await three.metric('cluster_commands_total');
      await Promise.all([
        three.untilMetric('cluster_commands_total', (commands) => commands >= asked + 2),
        users.send('one', 'two', 3_000_000).arrived,
        expectPairsAcross(context, one, two),
      ]);
      for (const relay of site.relays) assert.equal(await relay.metric('cluster_up'), 1);
      coordinator.slowDown(SLOW_MS);
      const token = newToken();
      const [here, there] = [
        await startWaitingClient(context, one, token),
        await two.connectClient(context, token, SIDE_B),
      ];
      await untilCoordinatorDown(one);
      await untilCoordinatorDown(two);
      await Promise.all([expectLocalPairs(context, one), expectLocalPairs(context, three)]);
      // Replies count even if no client waits for them.
      await transfer(here, there);
      coordinator.recover();
      await one.untilMetric('cluster_up', 1);
      await users.send('two', 'one', 3_000_000).arrived;
    });
  },
);
