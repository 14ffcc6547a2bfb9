import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { SIDE_B, newToken } from '../../support/bytes.ts';
import { CONDITION_TIMEOUT_MS } from '../../support/programs.ts';
import { startOwningClient, startWaitingClient } from './network/clients.ts';
import type { NetworkCoordinator } from './network/coordinator.ts';
import type { NetworkRelay } from './network/network-relay.ts';
import { COORDINATOR, NetworkCluster, skipWithoutNetworkCluster } from './network/network-cluster.ts';
import { skipWithoutWormhole } from './network/users.ts';
import { transfer } from './process-cluster.ts';

/** Longer than the coordinator normally takes, but less than what counts as down, in milliseconds. */
const SLUGGISH_MS = 200;

const SLOW_MS = 3000;

/**
 * Checks that two clients of one relay are paired, whatever the coordinator does, and that the relay is
 * ready.
 */
async function expectLocalPairs(context: TestContext, relay: NetworkRelay): Promise<void> {
  const token = newToken();
  const one = await startWaitingClient(context, relay, token);
  await transfer(one, await relay.connectClient(context, token, SIDE_B));
  assert.equal(await relay.readiness(), 200);
}

/** Checks that a client is paired with a client of another relay. */
async function expectPairsAcross(
  context: TestContext,
  cluster: NetworkCluster,
  first: NetworkRelay,
  second: NetworkRelay,
): Promise<void> {
  const token = newToken();
  const one = await startOwningClient(context, cluster, first, token);
  await transfer(one, await second.connectClient(context, token, SIDE_B));
}

/** Resolves when the coordinator has `count` leases. */
async function untilLeases(coordinator: NetworkCoordinator, count: number): Promise<void> {
  for (const deadline = performance.now() + CONDITION_TIMEOUT_MS; ;) {
    const keys = await coordinator.keys();
    if (keys.length === count) return;
    assert.ok(performance.now() < deadline, `${keys.length} leases, not ${count}`);
    await sleep(20);
  }
}

/** Resolves when a relay has noticed and logged that the coordinator is down. It stays ready. */
async function untilCoordinatorDown(relay: NetworkRelay): Promise<void> {
  await relay.waitForLog(/coordinator is down/u);
  await relay.untilMetric('cluster_up', 0);
  assert.equal(await relay.readiness(), 200);
}

describe('a cluster', { skip: skipWithoutNetworkCluster() || skipWithoutWormhole(), concurrency: 2 }, () => {
  test('pairs clients of one relay while the coordinator is dead; leases are acquired again when it restarts empty', async (context) => {
    const cluster = await NetworkCluster.open(context);
    const { one, two, three, coordinator } = cluster;
    const users = await cluster.users();
    const earlyToken = newToken();
    const waiter = await startOwningClient(context, cluster, one, earlyToken);
    await coordinator.kill();
    await Promise.all(cluster.relays.map(untilCoordinatorDown));
    const sending = users.send('two', 'two', 3_000_000);
    await Promise.all(cluster.relays.map((relay) => expectLocalPairs(context, relay)));
    await sending.arrived;
    // Each relay is the owner until the coordinator replies.
    const splitToken = newToken();
    const [clientA, clientB] = [
      await startWaitingClient(context, one, splitToken),
      await three.connectClient(context, splitToken, SIDE_B),
    ];
    await three.untilMetric('connections_waiting', 1);
    await coordinator.start();
    await transfer(clientA, clientB);
    await Promise.all(cluster.relays.map((relay) => relay.untilMetric('cluster_up', 1)));
    await one.untilMetric('cluster_leases', 1);
    await transfer(waiter, await two.connectClient(context, earlyToken, SIDE_B));
    await users.send('one', 'two', 3_000_000).arrived;
    await untilLeases(coordinator, 0);
  });

  test('whose coordinator is cut off from one relay keeps pairing at all relays; two leases of a token become one when it heals', async (context) => {
    const cluster = await NetworkCluster.open(context);
    const { one, two, three, coordinator, network } = cluster;
    const users = await cluster.users();
    const sharedToken = newToken();
    const first = await startOwningClient(context, cluster, one, sharedToken);
    network.partition('one', COORDINATOR);
    // A client that needs an owner lookup detects the failure sooner than the next health check of the
    // coordinator.
    const [localToken, splitToken] = [newToken(), newToken()];
    const localClient = await startWaitingClient(context, one, localToken);
    await untilCoordinatorDown(one);
    // Its lease ends; another relay leases the token meanwhile.
    await coordinator.flush();
    const second = await two.connectClient(context, sharedToken, SIDE_B);
    await two.untilMetric('cluster_leases', 1);
    const sending = users.send('two', 'three', 3_000_000);
    const [clientA, clientB] = [
      await startWaitingClient(context, one, splitToken),
      await three.connectClient(context, splitToken, SIDE_B),
    ];
    await expectLocalPairs(context, one);
    await expectPairsAcross(context, cluster, two, three);
    await sending.arrived;
    for (const relay of [two, three]) assert.equal(await relay.metric('cluster_up'), 1);
    assert.equal(
      first.receivedBytes + second.receivedBytes + clientA.receivedBytes + clientB.receivedBytes,
      0,
    );
    network.heal();
    await Promise.all([transfer(first, second), transfer(clientA, clientB)]);
    await one.untilMetric('cluster_up', 1);
    await transfer(localClient, await three.connectClient(context, localToken, SIDE_B));
  });

  test('whose coordinator receives commands of a relay but cannot reply has its leases; partners at other relays find its clients', async (context) => {
    const cluster = await NetworkCluster.open(context);
    const { one, two, coordinator, network } = cluster;
    network.dropOneWay(COORDINATOR, 'one');
    const token = newToken();
    const waiter = await startWaitingClient(context, one, token);
    await untilLeases(coordinator, 1);
    await transfer(waiter, await two.connectClient(context, token, SIDE_B));
    await untilCoordinatorDown(one);
    await expectLocalPairs(context, one);
    network.heal();
    await one.untilMetric('cluster_up', 1);
    await expectPairsAcross(context, cluster, one, two);
  });

  test('with a slightly slow coordinator works normally; a very slow one delays no pair of one relay, and clients of two relays are paired later', async (context) => {
    const cluster = await NetworkCluster.open(context);
    const { one, two, three, coordinator } = cluster;
    const users = await cluster.users();
    coordinator.slowDown(SLUGGISH_MS);
    // The third relay has no clients, so its only commands are health checks of the coordinator.
    const commandsBefore = await three.metric('cluster_commands_total');
    await Promise.all([
      three.untilMetric('cluster_commands_total', (commands) => commands >= commandsBefore + 2),
      users.send('one', 'two', 3_000_000).arrived,
      expectPairsAcross(context, cluster, one, two),
    ]);
    for (const relay of cluster.relays) assert.equal(await relay.metric('cluster_up'), 1);
    coordinator.slowDown(SLOW_MS);
    const token = newToken();
    const [clientA, clientB] = [
      await startWaitingClient(context, one, token),
      await two.connectClient(context, token, SIDE_B),
    ];
    await untilCoordinatorDown(one);
    await untilCoordinatorDown(two);
    await Promise.all([expectLocalPairs(context, one), expectLocalPairs(context, three)]);
    // Replies count even if no client waits for them.
    await transfer(clientA, clientB);
    coordinator.recover();
    await one.untilMetric('cluster_up', 1);
    await users.send('two', 'one', 3_000_000).arrived;
  });
});
