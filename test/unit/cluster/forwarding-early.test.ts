import assert from 'node:assert/strict';
import { describe } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { SIDE_A, SIDE_B, handshake, newToken, randomBytesOf } from '../../support/bytes.ts';
import {
  clusterTest,
  connectAndSend,
  expectRecords,
  expectReply,
  startWaiting,
  tokenOf,
  untilWaitingAt,
} from './cluster-scenario.ts';
import { TRANSPORTS } from '../../support/test-client.ts';
import { until } from '../../support/scratch.ts';

describe('bytes that a client sends before it is paired', () => {
  for (const transport of TRANSPORTS) {
    clusterTest(
      `are delivered first, over a link, if they are separate messages (${transport})`,
      async (cluster) => {
        const { token, waiter } = await startWaiting(cluster);
        const open = cluster.member(1).ownerGate.shut();
        const other = await cluster.member(1).relay.connect(transport);
        await Promise.all([other.send(handshake(token, SIDE_B)), other.send('one '), other.send('two ')]);
        await until(() => cluster.leases.requests.length === 2);
        open();
        assert.equal((await waiter.until(11)).toString(), 'ok\none two ');
        await other.until(3);
        await other.send('three');
        assert.equal((await waiter.until(16)).toString(), 'ok\none two three');
        other.end();
        await waiter.closed;
      },
    );

    clusterTest(
      `are delivered completely if sent while the link is being opened (${transport})`,
      async (cluster) => {
        const { token, waiter } = await startWaiting(cluster);
        const open = cluster.member(1).connectGate.shut();
        const early = randomBytesOf(1, 300_000);
        const other = await cluster.member(1).relay.connect(transport);
        await other.send(handshake(token, SIDE_B));
        const sent = other.sendAll(early, 10_000);
        await until(() => cluster.member(1).connects === 1);
        open();
        await sent;
        assert.ok((await waiter.until(3 + early.length)).subarray(3).equals(early));
        other.end();
        await waiter.closed;
      },
    );

    clusterTest(`are impatience if the token has no owner (${transport})`, async (cluster) => {
      const open = cluster.member(0).ownerGate.shut();
      const client = await connectAndSend(cluster, 0, `${handshake(newToken(), SIDE_A)}early`, transport);
      await until(() => cluster.leases.size === 1);
      open();
      await expectReply(client, 'impatient\n');
      await expectRecords(cluster, 0, [`impatient ${transport}`]);
      assert.equal(cluster.member(0).relay.admission.handshakeFailures.early_bytes, 1);
    });

    clusterTest(
      `are impatience if a client of the same side waits at another relay (${transport})`,
      async (cluster) => {
        const { token, waiter } = await startWaiting(cluster);
        const sameSide = await connectAndSend(cluster, 1, `${handshake(token, SIDE_A)}early`, transport);
        await expectReply(sameSide, 'impatient\n');
        const late = await connectAndSend(cluster, 1, handshake(token, SIDE_A), transport);
        await untilWaitingAt(cluster, 0, 2);
        await late.send('early');
        await expectReply(late, 'impatient\n');
        await waiter.leave();
        await expectRecords(cluster, 0, ['impatient link', 'impatient link', 'lonely tcp']);
        assert.equal(cluster.summaries.length, 3);
        assert.deepEqual(
          cluster.relays.map(({ admission }) => admission.handshakeFailures.early_bytes),
          [2, 0],
        );
      },
    );
  }

  clusterTest('are read up to 64 KiB and one read until the owner replies', async (cluster) => {
    const { token, waiter } = await startWaiting(cluster);
    await waiter.leave();
    const openGate = cluster.member(0).ownerGate.shut();
    cluster.leases.assign(tokenOf(token), cluster.member(0).owner);
    const client = await connectAndSend(cluster, 1, handshake(token, SIDE_B));
    await untilWaitingAt(cluster, 0, 1);
    const bytes = randomBytesOf(3, 20_000_000);
    const sent = client.sendAll(bytes, 65_536);
    const [link] = cluster.member(1).links;
    const forwarded = (): number => (link?.deliveredBytes ?? 0) + (link?.bufferedBytes ?? 0);
    await until(() => forwarded() > 65_536);
    for (let turns = 0; turns < 100; turns += 1) await setImmediate();
    assert.ok(forwarded() < 1_000_000, `${forwarded()} bytes were read before the owner replied`);
    const partner = await connectAndSend(cluster, 0, handshake(token, SIDE_A));
    assert.ok((await partner.until(3 + bytes.length)).subarray(3).equals(bytes));
    await sent;
    openGate();
    client.end();
    await partner.closed;
    await expectRecords(cluster, 0, ['happy link tcp', 'lonely tcp']);
  });

  clusterTest('at the owner are delivered to a forwarded partner after the ok', async (cluster) => {
    const token = newToken();
    const openGate = cluster.member(0).ownerGate.shut();
    const one = await connectAndSend(cluster, 0, `${handshake(token, SIDE_A)}early`);
    await untilWaitingAt(cluster, 0, 1);
    const other = await connectAndSend(cluster, 1, handshake(token, SIDE_B), 'websocket');
    assert.equal((await other.until(8)).toString(), 'ok\nearly');
    assert.equal(cluster.member(1).relay.sessions.liveCounts().relayedBytes, 5);
    openGate();
    other.end();
    await one.closed;
    await expectRecords(cluster, 0, ['happy link tcp']);
  });

  clusterTest(
    'are delivered to a partner at the same relay that connects before the lookup returns',
    async (cluster) => {
      const token = newToken();
      const open = cluster.member(0).ownerGate.shut();
      const one = await connectAndSend(cluster, 0, `${handshake(token, SIDE_A)}early`);
      await untilWaitingAt(cluster, 0, 1);
      const other = await connectAndSend(cluster, 0, `${handshake(token, SIDE_B)}later`);
      assert.equal((await other.until(8)).toString(), 'ok\nearly');
      open();
      assert.equal((await one.until(8)).toString(), 'ok\nlater');
      one.end();
      await other.closed;
      await expectRecords(cluster, 0, ['happy tcp tcp']);
    },
  );
});
