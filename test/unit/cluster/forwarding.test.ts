import assert from 'node:assert/strict';
import { describe } from 'node:test';
import type { TransportKind } from '../../../src/transport/client-transport.ts';
import { SIDE_A, SIDE_B, handshake, randomBytesOf } from '../../support/bytes.ts';
import {
  clusterTest,
  connectAndSend,
  expectExchange,
  expectRecords,
  expectReply,
  ownerOf,
  startWaiting,
  untilWaitingAt,
} from './cluster-scenario.ts';
import { TRANSPORTS, closedWith } from '../../support/test-client.ts';
import { until } from '../../support/scratch.ts';
import type { TestCluster } from '../../support/test-cluster.ts';

const PAIRINGS = TRANSPORTS.flatMap((first) => TRANSPORTS.map((second) => ({ first, second })));

/** Links that each relay has opened. */
function connectsOf(cluster: TestCluster): number[] {
  return cluster.members.map((member) => member.connects);
}

/** A relay's counts for a transport: bytes sent, clients accepted, forwarded, and paired. */
function counts(cluster: TestCluster, relay: number, from: TransportKind, to: TransportKind): unknown {
  const totals = cluster.member(relay).relay.sessions.clients.totals();
  return {
    forwardBytes: totals.relayedBytes[from][to],
    backwardBytes: totals.relayedBytes[to][from],
    accepted: totals.accepted[from],
    forwarded: totals.forwarded[from],
    happy: totals.ended.happy[from],
  };
}

describe('two clients', () => {
  clusterTest('of one relay open no link', async (cluster) => {
    const { token, waiter } = await startWaiting(cluster);
    const other = await connectAndSend(cluster, 0, handshake(token, SIDE_B), 'websocket');
    await expectExchange(waiter, other);
    // Paired clients need no lease, so any relay may own their token later.
    assert.equal(cluster.leases.size, 0);
    waiter.end();
    await expectReply(other, 'ok\nfrom one');
    assert.deepEqual(connectsOf(cluster), [0, 0]);
    await expectRecords(cluster, 0, ['happy tcp websocket']);
    assert.equal(cluster.summaries.length, 1);
  });

  for (const { first, second } of PAIRINGS) {
    clusterTest(
      `at two relays open one link and have one record (${first} and ${second})`,
      async (cluster) => {
        const [owner, forwarding] = [cluster.member(0).relay, cluster.member(1).relay];
        const { token, waiter } = await startWaiting(cluster, 0, first);
        const other = await connectAndSend(cluster, 1, `${handshake(token, SIDE_B)}early`, second);
        assert.equal((await waiter.until(8)).toString(), 'ok\nearly');
        assert.equal((await other.until(3)).toString(), 'ok\n');
        await waiter.send('the reply');
        assert.equal((await other.until(12)).toString(), 'ok\nthe reply');
        cluster.checkConsistency();
        assert.deepEqual([owner.sessions.pairs, owner.sessions.clients.forwardedClients], [1, 0]);
        assert.deepEqual([forwarding.sessions.pairs, forwarding.sessions.clients.forwardedClients], [0, 1]);
        assert.equal(forwarding.sessions.liveCounts().relayedBytes, 14);
        const bytes = { forwardBytes: 5, backwardBytes: 9, accepted: 1 };
        assert.deepEqual(counts(cluster, 1, second, 'link'), { ...bytes, forwarded: 0, happy: 0 });
        other.end();
        assert.deepEqual(await waiter.closed, closedWith(first));
        await cluster.untilEmpty();
        assert.deepEqual(connectsOf(cluster), [0, 1]);
        assert.deepEqual(counts(cluster, 0, 'link', first), { ...bytes, forwarded: 0, happy: 1 });
        assert.deepEqual(counts(cluster, 1, second, 'link'), { ...bytes, forwarded: 1, happy: 0 });
        assert.deepEqual(
          owner.summaries.map(({ totalBytes }) => totalBytes),
          [14],
        );
        assert.equal(cluster.summaries.length, 1);
        assert.equal(forwarding.sessions.liveCounts().relayedBytes, 14);
      },
    );
  }

  clusterTest('of one relay are both forwarded if another relay owns the token', async (cluster) => {
    const { token, waiter } = await startWaiting(cluster);
    const forwarded = await connectAndSend(cluster, 1, handshake(token, SIDE_A));
    await untilWaitingAt(cluster, 0, 2);
    await waiter.leave();
    const other = await connectAndSend(cluster, 1, handshake(token, SIDE_B));
    await expectExchange(forwarded, other);
    assert.deepEqual(connectsOf(cluster), [0, 2]);
    other.end();
    await forwarded.closed;
    await expectRecords(cluster, 0, ['happy link link', 'lonely tcp']);
  });
});

describe('a forwarded client', () => {
  for (const transport of TRANSPORTS) {
    clusterTest(`that becomes redundant is closed without a reply (${transport})`, async (cluster) => {
      const { token, waiter } = await startWaiting(cluster);
      const forwarded = await connectAndSend(cluster, 1, handshake(token, SIDE_A), transport);
      await untilWaitingAt(cluster, 0, 2);
      const newest = await connectAndSend(cluster, 0, handshake(token, SIDE_A));
      await untilWaitingAt(cluster, 0, 3);
      const other = await connectAndSend(cluster, 0, handshake(token, SIDE_B));
      await expectReply(forwarded, '');
      await expectReply(waiter, '');
      await expectExchange(newest, other);
      other.end();
      await newest.closed;
      await expectRecords(cluster, 0, ['happy tcp tcp', 'redundant link', 'redundant tcp']);
    });

    clusterTest(`that is the newest of its side is paired (${transport})`, async (cluster) => {
      const { token, waiter } = await startWaiting(cluster);
      const forwarded = await connectAndSend(cluster, 1, handshake(token, SIDE_A), transport);
      await untilWaitingAt(cluster, 0, 2);
      const other = await connectAndSend(cluster, 0, handshake(token, SIDE_B));
      await expectReply(waiter, '');
      await expectExchange(forwarded, other);
      other.end();
      await forwarded.closed;
      await expectRecords(cluster, 0, ['happy link tcp', 'redundant tcp']);
    });

    clusterTest(
      `that reaches the wait timeout is closed without a reply (${transport})`,
      async (cluster) => {
        const { token, waiter } = await startWaiting(cluster);
        const forwarded = await connectAndSend(cluster, 1, handshake(token, SIDE_A), transport);
        await expectReply(waiter, '');
        await expectReply(forwarded, '');
        await expectRecords(cluster, 0, ['lonely link', 'lonely tcp']);
        assert.equal(cluster.summaries.length, 2);
      },
      // Long enough for the second client to be forwarded on a busy machine.
      { timeouts: { waitMs: 1000 } },
    );

    clusterTest(
      `gets "busy" if the owner has too many waiting clients (${transport})`,
      async (cluster) => {
        const { token, waiter } = await startWaiting(cluster);
        const forwarded = await connectAndSend(cluster, 1, handshake(token, SIDE_A), transport);
        await expectReply(forwarded, 'busy\n', 1013);
        assert.equal(cluster.member(0).relay.admission.rejected.waiting, 1);
        assert.equal(cluster.member(1).relay.sessions.clients.totals().forwarded[transport], 1);
        // A partner that does not have to wait is accepted.
        const other = await connectAndSend(cluster, 1, handshake(token, SIDE_B), transport);
        await expectExchange(waiter, other);
        other.end();
        await waiter.closed;
        await expectRecords(cluster, 0, ['happy link tcp']);
      },
      { limits: { maxWaiting: 1 } },
    );

    clusterTest(
      `gets "busy" if the owner has too many connections (${transport})`,
      async (cluster) => {
        const { token, waiter } = await startWaiting(cluster);
        const other = await connectAndSend(cluster, 1, handshake(token, SIDE_B), transport);
        await expectReply(other, 'busy\n', 1013);
        await waiter.leave();
        await expectRecords(cluster, 0, ['lonely tcp']);
      },
      { limits: { maxConnections: 1 } },
    );

    clusterTest(`gets "over quota" if the quota of the owner is used up (${transport})`, async (cluster) => {
      const { token, waiter } = await startWaiting(cluster);
      cluster.member(0).relay.admission.isOverQuota = true;
      const other = await connectAndSend(cluster, 1, handshake(token, SIDE_B), transport);
      await expectReply(other, 'over quota\n', 1013);
      assert.equal(cluster.member(0).relay.admission.rejected.quota, 1);
      await waiter.leave();
      await expectRecords(cluster, 0, ['lonely tcp']);
    });

    clusterTest(
      `gets "over quota" if the quota of its own relay is used up (${transport})`,
      async (cluster) => {
        const { token, waiter } = await startWaiting(cluster);
        const waiting = await connectAndSend(cluster, 1, handshake(token, SIDE_A), transport);
        await untilWaitingAt(cluster, 0, 2);
        const pair = await startWaiting(cluster);
        const forwarded = await connectAndSend(cluster, 1, handshake(pair.token, SIDE_B), transport);
        await expectExchange(pair.waiter, forwarded);
        cluster.member(1).relay.sessions.closeWaiting();
        await expectReply(waiting, 'over quota\n', 1013);
        await untilWaitingAt(cluster, 0, 1);
        cluster.member(1).relay.sessions.closePairs();
        await expectReply(forwarded, 'ok\nfrom one');
        await pair.waiter.closed;
        waiter.end();
        await expectRecords(cluster, 0, ['happy link tcp', 'lonely link', 'lonely tcp']);
      },
    );
  }

  for (const transport of TRANSPORTS) {
    clusterTest(`is paused while its partner accepts no bytes (${transport})`, async (cluster) => {
      const { token, waiter } = await startWaiting(cluster);
      const client = await connectAndSend(cluster, 1, handshake(token, SIDE_B), transport);
      await waiter.until(3);
      waiter.pause();
      const bytes = randomBytesOf(4, 40_000_000);
      const sent = client.sendAll(bytes, 65_536);
      const [link] = cluster.member(1).links;
      await until(() => (link?.bufferedBytes ?? 0) > 0);
      waiter.resume();
      await sent;
      assert.ok((await waiter.until(3 + bytes.length)).subarray(3).equals(bytes));
      client.end();
      await waiter.closed;
    });
  }

  clusterTest('that sends text messages is closed with 1003 in every state', async (cluster) => {
    const { token, waiter } = await startWaiting(cluster);
    const open = cluster.member(1).connectGate.shut();
    const early = await connectAndSend(cluster, 1, handshake(token, SIDE_A), 'websocket');
    await until(() => cluster.member(1).connects === 1);
    early.sendText('while the link is opened');
    open();
    await expectReply(early, '', 1003);
    const waiting = await connectAndSend(cluster, 1, handshake(token, SIDE_A), 'websocket');
    await untilWaitingAt(cluster, 0, 2);
    waiting.sendText('while it waits');
    await expectReply(waiting, '', 1003);
    await untilWaitingAt(cluster, 0, 1);
    const forwarded = await connectAndSend(cluster, 1, handshake(token, SIDE_B), 'websocket');
    await expectExchange(waiter, forwarded);
    forwarded.sendText('to its partner');
    await expectReply(waiter, 'ok\nfrom the other');
    await expectReply(forwarded, 'ok\nfrom one', 1003);
    await expectRecords(cluster, 0, ['happy link tcp', 'lonely link', 'lonely link']);
    assert.equal(ownerOf(cluster, token), -1);
  });

  clusterTest(
    'is subject to the byte limit of its own relay for a pair',
    async (cluster) => {
      const { token, waiter } = await startWaiting(cluster);
      const other = await connectAndSend(cluster, 1, handshake(token, SIDE_B));
      await other.until(3);
      await other.send(randomBytesOf(2, 2000));
      await waiter.closed;
      await other.closed;
      await expectRecords(cluster, 0, ['happy link tcp']);
    },
    { perRelay: { 1: { limits: { maxPairBytes: 1000 } } } },
  );
});
