import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { SIDE_A, SIDE_B, handshake, newToken } from '../../support/bytes.ts';
import { until } from '../../support/scratch.ts';
import type { TestClient } from '../../support/test-client.ts';
import { startOwningClient } from './network/clients.ts';
import { NetworkCluster, skipWithoutNetworkCluster } from './network/network-cluster.ts';
import { UntrustedPeers } from './network/untrusted-peers.ts';
import { transfer } from './process-cluster.ts';

/** More than a relay has slots for pending peers. */
const CONNECTIONS = 200;

const LINKS = 'connections_accepted_total{transport="link"}';

const OTHER_VERSION = `transit-relay-cluster/3 ${'0'.repeat(64)}\n`;

/** The first line that a relay sends, without its nonce. */
const OPENING = 'transit-relay-cluster/2 NONCE\n';

async function expectPaired(waiter: TestClient, partner: TestClient): Promise<void> {
  await transfer(waiter, partner, 1000);
  waiter.end();
  partner.end();
  await Promise.all([waiter.closed, partner.closed]);
}

describe('an untrusted peer at the cluster port', { skip: skipWithoutNetworkCluster() }, () => {
  test('cannot authenticate with recorded messages, neither as caller nor as owner', async (context) => {
    const cluster = await NetworkCluster.open(context);
    const { one, two, three } = cluster;
    const untrustedPeers = new UntrustedPeers(context, cluster);
    // A real link goes through the untrusted peer.
    const token = newToken();
    const first = await startOwningClient(context, cluster, one, token);
    const eavesdropper = await untrustedPeers.eavesdropper(one);
    await untrustedPeers.acquireLease(token, eavesdropper);
    await transfer(first, await two.connectClient(context, token, SIDE_B), 1000);
    const sentBy = (by: string): string =>
      eavesdropper.reports.flatMap(({ sender, sent = '' }) => (sender === by ? [sent] : [])).join('');
    const [opening = '', proof = ''] = sentBy('owner').match(/^.+\n/gmu) ?? [];
    const [auth = ''] = sentBy('caller').match(/^.+\n/u) ?? [];
    assert.ok(proof.length > 60 && auth.length > 120, 'the authentication was recorded');
    const links = await one.metric(LINKS);
    const waiting = await one.metric('connections_waiting');
    const caller = await untrustedPeers.connectMany(one, 5, auth + handshake(token, SIDE_A));
    await caller.untilReported(/"received"/u);
    assert.deepEqual(caller.reports.at(-1), { received: { [`${OPENING}wrong secret\n`]: 5 } });
    assert.deepEqual([await one.metric(LINKS), await one.metric('connections_waiting')], [links, waiting]);
    // A relay that connects to an impostor does not reveal the token.
    const secretToken = newToken();
    const owner = await untrustedPeers.impostor(opening, proof);
    await untrustedPeers.acquireLease(secretToken, owner);
    const client = await two.connectClient(context, secretToken, SIDE_A);
    await two.untilMetric('cluster_link_failures_total{kind="secret"}', 1);
    await two.untilMetric('cluster_leases', 1);
    await owner.untilReported(/"closed"/u);
    assert.doesNotMatch(JSON.stringify(owner.reports), new RegExp(secretToken.slice(0, 32), 'u'));
    await transfer(client, await three.connectClient(context, secretToken, SIDE_B), 1000);
  });

  test('with another protocol version is reported as such, as caller and as owner', async (context) => {
    const cluster = await NetworkCluster.open(context);
    const { one, two, three } = cluster;
    const untrustedPeers = new UntrustedPeers(context, cluster);
    const proof = '0'.repeat(64);
    const caller = await untrustedPeers.connectMany(three, 1, `${OTHER_VERSION.trimEnd()} ${proof}\n`);
    await caller.untilReported(/"received"/u);
    assert.deepEqual(caller.reports.at(-1), { received: { [OPENING]: 1 } });
    await three.waitForLog(/"failure":"version".*peer failed to authenticate/u);
    const token = newToken();
    const owner = await untrustedPeers.impostor(OTHER_VERSION);
    await untrustedPeers.acquireLease(token, owner);
    const client = await two.connectClient(context, token, SIDE_A);
    await two.untilMetric('cluster_link_failures_total{kind="version"}', 1);
    await two.untilMetric('cluster_leases', 1);
    await transfer(client, await one.connectClient(context, token, SIDE_B), 1000);
  });

  test('gets one line at most, with any number of connections, and clients of several relays are still paired', async (context) => {
    const cluster = await NetworkCluster.open(context);
    const { one, two } = cluster;
    const untrustedPeers = new UntrustedPeers(context, cluster);
    const before = one.openFiles;
    for (const text of ['', 'please relay\n']) {
      const earlyToken = newToken();
      const waiter = await startOwningClient(context, cluster, one, earlyToken);
      const idlePeers = await untrustedPeers.connectMany(one, CONNECTIONS, text);
      // Its relay connects while pending peers use all slots.
      await expectPaired(waiter, await two.connectClient(context, earlyToken, SIDE_B));
      for (let pair = 0; pair < 4; pair += 1) {
        const token = newToken();
        await expectPaired(
          await startOwningClient(context, cluster, one, token),
          await two.connectClient(context, token, SIDE_B),
        );
      }
      await idlePeers.untilReported(/"received"/u);
      const { received } = idlePeers.reports.at(-1) ?? {};
      assert.ok(typeof received === 'object');
      // Peers without a slot are closed without a reply.
      const { [OPENING]: answered = 0, '': rejected = 0 } = received;
      assert.ok(answered > 0);
      assert.equal(answered + rejected, CONNECTIONS);
    }
    assert.equal(await two.metric('cluster_link_failures_total'), 0);
    assert.equal(await one.metric('cluster_leases_lost_total'), 0);
    await until(() => one.openFiles <= before);
    assert.equal(await one.metric('connections_waiting'), 0);
  });
});
