import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { SIDE_A, SIDE_B, handshake, newToken } from '../support/bytes.ts';
import { until } from '../support/scratch.ts';
import type { TestClient } from '../support/test-client.ts';
import { startOwningClient } from './network/clients.ts';
import { NetworkCluster, skipWithoutNetworkCluster } from './network/network-cluster.ts';
import { UntrustedPeers } from './network/untrusted-peers.ts';
import { transfer } from './process-cluster.ts';

/** More than may greet a relay at one time. */
const CONNECTIONS = 200;

const LINKS = 'connections_accepted_total{transport="link"}';

const OTHER_VERSION = `transit-relay-cluster/3 ${'0'.repeat(64)}\n`;

/** What a relay says first, with its nonce taken out. */
const OPENING = 'transit-relay-cluster/2 NONCE\n';

async function expectPaired(waiter: TestClient, partner: TestClient): Promise<void> {
  await transfer(waiter, partner, 1000);
  waiter.end();
  partner.end();
  await Promise.all([waiter.closed, partner.closed]);
}

describe('a stranger at the cluster port', { skip: skipWithoutNetworkCluster(), timeout: 120_000 }, () => {
  test('gets nothing for a greeting that it has recorded, as a caller or as an owner', async (context) => {
    const site = await NetworkCluster.open(context);
    const { one, two, three } = site;
    const strangers = new UntrustedPeers(context, site);
    // A real link leads by way of the stranger.
    const token = newToken();
    const first = await startOwningClient(context, one, token);
    const listener = await strangers.listener(one);
    await strangers.acquireLease(token, listener);
    await transfer(first, await two.connectClient(context, token, SIDE_B), 1000);
    const said = (by: string): string =>
      listener.reports.flatMap(({ who, said: text = '' }) => (who === by ? [text] : [])).join('');
    const [opening = '', proof = ''] = said('owner').match(/^.+\n/gmu) ?? [];
    const [auth = ''] = said('caller').match(/^.+\n/u) ?? [];
    assert.ok(proof.length > 60 && auth.length > 120, 'the greeting was recorded');
    const links = await one.metric(LINKS);
    const waiting = await one.metric('connections_waiting');
    const caller = await strangers.connectMany(one, 5, auth + handshake(token, SIDE_A));
    await caller.untilReported(/"heard"/u);
    assert.deepEqual(caller.reports.at(-1), { heard: { [`${OPENING}wrong secret\n`]: 5 } });
    assert.deepEqual([await one.metric(LINKS), await one.metric('connections_waiting')], [links, waiting]);
    // Who is called by mistake is not told the token.
    const hidden = newToken();
    const owner = await strangers.impostor(opening, proof);
    await strangers.acquireLease(hidden, owner);
    const client = await two.connectClient(context, hidden, SIDE_A);
    await two.untilMetric('cluster_link_failures_total{kind="secret"}', 1);
    await two.untilMetric('cluster_leases', 1);
    await owner.untilReported(/"closed"/u);
    assert.doesNotMatch(JSON.stringify(owner.reports), new RegExp(hidden.slice(0, 32), 'u'));
    await transfer(client, await three.connectClient(context, hidden, SIDE_B), 1000);
  });

  test('is told from a relay of another version, at either end', async (context) => {
    const site = await NetworkCluster.open(context);
    const { one, two, three } = site;
    const strangers = new UntrustedPeers(context, site);
    const proof = '0'.repeat(64);
    const caller = await strangers.connectMany(three, 1, `${OTHER_VERSION.trimEnd()} ${proof}\n`);
    await caller.untilReported(/"heard"/u);
    assert.deepEqual(caller.reports.at(-1), { heard: { [OPENING]: 1 } });
    await three.untilLogged(/"failure":"version".*peer failed to authenticate/u);
    const token = newToken();
    const owner = await strangers.impostor(OTHER_VERSION);
    await strangers.acquireLease(token, owner);
    const client = await two.connectClient(context, token, SIDE_A);
    await two.untilMetric('cluster_link_failures_total{kind="version"}', 1);
    await two.untilMetric('cluster_leases', 1);
    await transfer(client, await one.connectClient(context, token, SIDE_B), 1000);
  });

  test('hears one line, however often it comes and whatever it says; clients of several relays meet meanwhile', async (context) => {
    const site = await NetworkCluster.open(context);
    const { one, two } = site;
    const strangers = new UntrustedPeers(context, site);
    const before = one.openFiles;
    for (const text of ['', 'please relay\n']) {
      const early = newToken();
      const waiter = await startOwningClient(context, one, early);
      const crowd = await strangers.connectMany(one, CONNECTIONS, text);
      // Its call comes while all places are taken by strangers who may still be relays.
      await expectPaired(waiter, await two.connectClient(context, early, SIDE_B));
      for (let pair = 0; pair < 4; pair += 1) {
        const token = newToken();
        await expectPaired(
          await startOwningClient(context, one, token),
          await two.connectClient(context, token, SIDE_B),
        );
      }
      await crowd.untilReported(/"heard"/u);
      const { heard } = crowd.reports.at(-1) ?? {};
      assert.ok(typeof heard === 'object');
      // Whoever finds no place is closed without a word.
      const { [OPENING]: greeted = 0, '': turnedAway = 0 } = heard;
      assert.ok(greeted > 0);
      assert.equal(greeted + turnedAway, CONNECTIONS);
    }
    assert.equal(await two.metric('cluster_link_failures_total'), 0);
    assert.equal(await one.metric('cluster_leases_lost_total'), 0);
    await until(() => one.openFiles <= before);
    assert.equal(await one.metric('connections_waiting'), 0);
  });
});
