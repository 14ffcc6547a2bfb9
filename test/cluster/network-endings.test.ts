import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { SIDE_A, SIDE_B, newToken } from '../support/bytes.ts';
import { owns } from './network/clients.ts';
import { Site, withoutSite } from './network/site.ts';
import { Strangers } from './network/strangers.ts';
import { withoutUsers } from './network/users.ts';
import { transfer } from './relay-group.ts';

/** What a pair moves in a second: so little that a transfer is sure to go on while something befalls a relay. In bytes. */
const RATE = 1_000_000;

const SLOW_PAIRS = { RELAY_PAIR_RATE: `${RATE}B/s` };

describe(
  'a relay of a group that',
  { skip: withoutSite() || withoutUsers(), concurrency: true, timeout: 120_000 },
  () => {
    test('dies takes nobody along but its own pairs', async (context) => {
      const site = await Site.open(context, SLOW_PAIRS);
      const { one, two, three } = site;
      const users = await site.users();
      const [awaited, running] = [newToken(), newToken()];
      await owns(context, one, awaited);
      const near = await owns(context, one, running);
      const far = await two.visit(context, running, SIDE_B);
      await transfer(near, far, 1000);
      // Same side: it waits at the owner, by way of the second relay.
      const again = await two.visit(context, awaited, SIDE_A);
      await one.comesTo('connections_waiting', 2);
      const sending = users.send('two', 'three', 3 * RATE);
      await two.comesTo('relayed_bytes_total', (bytes) => bytes > RATE);
      one.kill('SIGKILL');
      // It can't be told from a partner that went.
      assert.deepEqual(await far.closed, { reset: false, code: null });
      await two.comesTo('cluster_claims', 1);
      await transfer(again, await three.visit(context, awaited, SIDE_B), 1000);
      assert.ok((await two.figure('relayed_bytes_total')) < 3 * RATE, 'the transfer goes on');
      await sending.arrived;
    });

    test('drains sends its waiters away, has others look for theirs anew, and finishes its pairs', async (context) => {
      const site = await Site.open(context, SLOW_PAIRS);
      const { one, two, three } = site;
      const users = await site.users();
      const [own, awaited] = [newToken(), newToken()];
      const waiter = await owns(context, one, own);
      await owns(context, one, awaited);
      const again = await two.visit(context, awaited, SIDE_A);
      await one.comesTo('connections_waiting', 3);
      const sending = users.send('one', 'two', 3 * RATE);
      await one.comesTo('relayed_bytes_total', (bytes) => bytes > RATE);
      const byLink = ['{from="tcp",to="link"}', '{from="link",to="tcp"}'];
      const moved = await Promise.all(byLink.map((way) => one.figure(`relayed_bytes_total${way}`)));
      assert.ok(Math.max(...moved) > 0, 'the transfer runs over a link');
      one.kill('SIGTERM');
      await waiter.closed;
      assert.equal(waiter.received.toString(), 'shutting down\n');
      await two.comesTo('cluster_claims', 1);
      assert.equal(again.receivedBytes, 0);
      const links = await one.figure('connections_accepted_total{transport="link"}');
      assert.equal(await one.readiness(), 503);
      const stranger = await new Strangers(context, site).crowd(one, 1, '');
      await stranger.tells(/"heard"/u);
      // Nobody takes links there: else it would have heard a greeting.
      assert.deepEqual(stranger.told.at(-1), { heard: { '': 1 } });
      // Who comes for either token now has nothing to do with it.
      const later = await three.visit(context, own, SIDE_A);
      await three.comesTo('cluster_claims', 1);
      await Promise.all([
        transfer(again, await three.visit(context, awaited, SIDE_B), 1000),
        transfer(later, await two.visit(context, own, SIDE_B), 1000),
      ]);
      assert.equal(await one.figure('connections_accepted_total{transport="link"}'), links);
      for (const relay of [two, three]) assert.equal(await relay.figure('cluster_call_failures_total'), 0);
      assert.ok((await one.figure('relayed_bytes_total')) < 3 * RATE, 'the transfer goes on');
      await Promise.all([sending.arrived, one.ended()]);
      assert.deepEqual(await site.coordinator.keys(), []);
    });
  },
);
