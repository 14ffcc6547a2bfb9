import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { SIDE_B, newToken } from '../support/bytes.ts';
import { owns, waits } from './network/clients.ts';
import type { NetworkCoordinator } from './network/coordinator.ts';
import type { NetworkRelay } from './network/network-relay.ts';
import { COORDINATOR, Site, withoutSite } from './network/site.ts';
import { withoutUsers } from './network/users.ts';
import { transfer } from './relay-group.ts';

/** More than the coordinator takes where it is well and less than what makes it slow, in milliseconds. */
const SLUGGISH_MS = 200;

const SLOW_MS = 3000;

/** Two clients of one relay meet, whatever the coordinator does. */
async function pairsOfItsOwn(context: TestContext, relay: NetworkRelay): Promise<void> {
  const token = newToken();
  const one = await waits(context, relay, token);
  await transfer(one, await relay.visit(context, token, SIDE_B));
  assert.equal(await relay.readiness(), 200);
}

/** The second one comes to another relay, and both meet. */
async function pairsOfBoth(context: TestContext, first: NetworkRelay, second: NetworkRelay): Promise<void> {
  const token = newToken();
  const one = await owns(context, first, token);
  await transfer(one, await second.visit(context, token, SIDE_B));
}

/** Resolves when the coordinator has so many claims. */
async function claimed(coordinator: NetworkCoordinator, count: number): Promise<void> {
  for (const deadline = performance.now() + 10_000; ;) {
    const keys = await coordinator.keys();
    if (keys.length === count) return;
    assert.ok(performance.now() < deadline, `${keys.length} claims, not ${count}`);
    await sleep(20);
  }
}

/** A relay finds out that it can't ask, and says so. */
async function isDown(relay: NetworkRelay): Promise<void> {
  await relay.says(/the coordinator does not answer/u);
  await relay.comesTo('cluster_up', 0);
  assert.equal(await relay.readiness(), 200);
}

describe(
  'a group whose coordinator',
  { skip: withoutSite() || withoutUsers(), concurrency: 2, timeout: 120_000 },
  () => {
    test('dies goes on with pairs of one relay; who waits is claimed again when it is back, empty', async (context) => {
      const site = await Site.open(context);
      const { one, two, three, coordinator } = site;
      const users = await site.users();
      const early = newToken();
      const waiter = await owns(context, one, early);
      await coordinator.kill();
      await Promise.all(site.relays.map(isDown));
      const sending = users.send('two', 'two', 3_000_000);
      await Promise.all(site.relays.map((relay) => pairsOfItsOwn(context, relay)));
      await sending.arrived;
      // Each is its relay's own until somebody can be asked.
      const torn = newToken();
      const [here, there] = [await waits(context, one, torn), await three.visit(context, torn, SIDE_B)];
      await three.comesTo('connections_waiting', 1);
      await coordinator.start();
      await transfer(here, there);
      await Promise.all(site.relays.map((relay) => relay.comesTo('cluster_up', 1)));
      await one.comesTo('cluster_claims', 1);
      await transfer(waiter, await two.visit(context, early, SIDE_B));
      await users.send('one', 'two', 3_000_000).arrived;
      await claimed(coordinator, 0);
    });

    test('is cut off from one relay goes on with the others; two claims of one token become one', async (context) => {
      const site = await Site.open(context);
      const { one, two, three, coordinator, network } = site;
      const users = await site.users();
      const twice = newToken();
      const first = await owns(context, one, twice);
      network.sever('one', COORDINATOR);
      // A client that it has to ask about finds out before its next test would.
      const [lonely, torn] = [newToken(), newToken()];
      const asks = await waits(context, one, lonely);
      await isDown(one);
      // Its lease ends; somebody else claims the token meanwhile.
      await coordinator.forget();
      const second = await two.visit(context, twice, SIDE_B);
      await two.comesTo('cluster_claims', 1);
      const sending = users.send('two', 'three', 3_000_000);
      const [here, there] = [await waits(context, one, torn), await three.visit(context, torn, SIDE_B)];
      await pairsOfItsOwn(context, one);
      await pairsOfBoth(context, two, three);
      await sending.arrived;
      for (const relay of [two, three]) assert.equal(await relay.figure('cluster_up'), 1);
      assert.equal(first.receivedBytes + second.receivedBytes + here.receivedBytes + there.receivedBytes, 0);
      network.heal();
      await Promise.all([transfer(first, second), transfer(here, there)]);
      await one.comesTo('cluster_up', 1);
      await transfer(asks, await three.visit(context, lonely, SIDE_B));
    });

    test('hears one relay and is not heard by it has its claims; partners elsewhere find them', async (context) => {
      const site = await Site.open(context);
      const { one, two, coordinator, network } = site;
      network.deafen(COORDINATOR, 'one');
      const token = newToken();
      const waiter = await waits(context, one, token);
      await claimed(coordinator, 1);
      await transfer(waiter, await two.visit(context, token, SIDE_B));
      await isDown(one);
      await pairsOfItsOwn(context, one);
      network.heal();
      await one.comesTo('cluster_up', 1);
      await pairsOfBoth(context, one, two);
    });

    test('is sluggish is well; one that is slow delays no pair of one relay, and who has waited apart meets', async (context) => {
      const site = await Site.open(context);
      const { one, two, three, coordinator } = site;
      const users = await site.users();
      coordinator.slow(SLUGGISH_MS);
      // Nobody comes to the third one, which asks for nothing but how well the coordinator is.
      const asked = await three.figure('cluster_commands_total');
      await Promise.all([
        three.comesTo('cluster_commands_total', (commands) => commands >= asked + 2),
        users.send('one', 'two', 3_000_000).arrived,
        pairsOfBoth(context, one, two),
      ]);
      for (const relay of site.relays) assert.equal(await relay.figure('cluster_up'), 1);
      coordinator.slow(SLOW_MS);
      const token = newToken();
      const [here, there] = [await waits(context, one, token), await two.visit(context, token, SIDE_B)];
      await isDown(one);
      await isDown(two);
      await Promise.all([pairsOfItsOwn(context, one), pairsOfItsOwn(context, three)]);
      // Answers that nobody waits for count all the same.
      await transfer(here, there);
      coordinator.wellAgain();
      await one.comesTo('cluster_up', 1);
      await users.send('two', 'one', 3_000_000).arrived;
    });
  },
);
