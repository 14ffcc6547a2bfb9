import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { SIDE_A, SIDE_B, newToken } from '../support/bytes.ts';
import { owns } from './network/clients.ts';
import { Site, withoutSite } from './network/site.ts';
import { withoutUsers } from './network/users.ts';
import { transfer } from './relay-group.ts';

/** What a pair moves in a second: so little that a transfer is sure to go on while something befalls a relay. In bytes. */
const RATE = 1_000_000;

/** Longer than the link of a waiting client takes to find a dead relay (15 s), and less than the link of a pair does. In milliseconds. */
const VANISHED_MS = 25_000;

/** Longer than three rounds of renewals take, in milliseconds. */
const ROUNDS_MS = 45_000;

describe(
  'packets of a group that vanish',
  { skip: withoutSite() || withoutUsers(), concurrency: true, timeout: 120_000 },
  () => {
    test('to and from one relay end no pair, and clients that wait there through another relay meet their partners', async (context) => {
      const site = await Site.open(context, { RELAY_PAIR_RATE: `${RATE}B/s` });
      const { one, two, three, network } = site;
      const users = await site.users();
      const [awaited, running, home] = [newToken(), newToken(), newToken()];
      const owner = await owns(context, one, awaited);
      const near = await owns(context, one, running);
      const far = await two.visit(context, running, SIDE_B);
      await transfer(near, far, 1000);
      const again = await two.visit(context, awaited, SIDE_A);
      await one.comesTo('connections_waiting', 2);
      const local = await owns(context, one, home);
      const sending = users.send('two', 'three', 3 * RATE);
      await two.comesTo('relayed_bytes_total', (bytes) => bytes > RATE);
      network.isolate('one');
      // Its call comes to nothing, and its relay takes the token over.
      const partner = await three.visit(context, awaited, SIDE_B);
      await three.comesTo('cluster_claims', 1);
      assert.ok((await two.figure('relayed_bytes_total')) < 3 * RATE, 'the transfer goes on');
      await sending.arrived;
      await one.says(/the coordinator does not answer/u);
      assert.equal(await one.readiness(), 200);
      await transfer(local, await one.visit(context, home, SIDE_B), 1000);
      const elsewhere = newToken();
      const met = await owns(context, two, elsewhere);
      await transfer(met, await three.visit(context, elsewhere, SIDE_B), 1000);
      await transfer(again, partner, 1000);
      const end = await Promise.race([far.closed, near.closed, sleep(VANISHED_MS, null, { ref: false })]);
      assert.equal(end, null);
      assert.equal(owner.receivedBytes, 0);
      network.heal();
      await one.comesTo('cluster_up', 1);
      await transfer(owner, await three.visit(context, awaited, SIDE_B), 1000);
      await transfer(near, far, 1000);
    });

    test('between two relays keep two clients apart no longer than that lasts, and make nobody ask without end', async (context) => {
      const site = await Site.open(context);
      const { one, two, three, network } = site;
      const users = await site.users();
      network.sever('one', 'two');
      const torn = newToken();
      const here = await owns(context, one, torn);
      const there = await two.visit(context, torn, SIDE_B);
      const waiting = newToken();
      const third = await owns(context, three, waiting);
      const sending = users.send('one', 'three', 3_000_000);
      await transfer(third, await two.visit(context, waiting, SIDE_B));
      await sending.arrived;
      // Each takes the claim from the other one when it hears of it, which a renewal tells it.
      await one.comesTo('cluster_claims_lost_total', (lost) => lost >= 1, ROUNDS_MS);
      await two.comesTo('cluster_claims_lost_total', (lost) => lost >= 1, ROUNDS_MS);
      for (const relay of [one, two]) {
        const lost = await relay.figure('cluster_claims_lost_total');
        const calls = await relay.figure('cluster_calls_total');
        assert.ok(calls <= 2 * lost + 2, `${calls} calls for ${lost} lost claims`);
        const commands = await relay.figure('cluster_commands_total');
        assert.ok(commands <= 50, `${commands} commands`);
      }
      assert.equal(here.receivedBytes + there.receivedBytes, 0);
      network.heal();
      await transfer(here, there);
    });
  },
);
