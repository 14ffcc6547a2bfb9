import assert from 'node:assert/strict';
import { describe } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { SIDE_A, SIDE_B, handshake, randomBytesOf } from '../../support/bytes.ts';
import {
  clusterTest,
  connectAndSend,
  expectExchange,
  expectRecords,
  expectReply,
  happyRecord,
  ownerOf,
  recordsOf,
  startWaiting,
  untilWaitingAt,
} from './cluster-scenario.ts';
import { TRANSPORTS, closedWith } from '../../support/test-client.ts';
import { until } from '../../support/scratch.ts';

describe('a relay that drains', () => {
  for (const transport of TRANSPORTS) {
    clusterTest(
      `returns forwarded ${transport} clients to their own relays without closing them`,
      async (cluster) => {
        const { token, waiter } = await startWaiting(cluster);
        const forwardedWaiter = await connectAndSend(cluster, 1, handshake(token, SIDE_A), transport);
        await untilWaitingAt(cluster, 0, 2);
        const drained = cluster.member(0).relay.sessions.drain(10_000, new AbortController().signal);
        await expectReply(waiter, 'shutting down\n');
        await until(() => ownerOf(cluster, token) === 1);
        await drained;
        const partner = await connectAndSend(cluster, 2, handshake(token, SIDE_B));
        await expectExchange(forwardedWaiter, partner);
        forwardedWaiter.end();
        await partner.closed;
        await expectRecords(cluster, 0, ['lonely tcp']);
        await expectRecords(cluster, 1, [happyRecord(transport)]);
        assert.equal(cluster.summaries.length, 2);
        assert.deepEqual([waiter.isClosed, cluster.member(0).links.size], [true, 0]);
      },
      { relays: 3 },
    );

    clusterTest(
      `closes waiting ${transport} clients that it has forwarded, and finishes forwarded transfers`,
      async (cluster) => {
        const { token, waiter } = await startWaiting(cluster);
        const forwardedWaiter = await connectAndSend(cluster, 1, handshake(token, SIDE_A), transport);
        await untilWaitingAt(cluster, 0, 2);
        const pair = await startWaiting(cluster);
        const forwarded = await connectAndSend(cluster, 1, handshake(pair.token, SIDE_B), transport);
        await expectExchange(pair.waiter, forwarded);
        const drained = cluster.member(1).relay.sessions.drain(10_000, new AbortController().signal);
        await expectReply(forwardedWaiter, 'shutting down\n', 1013);
        await untilWaitingAt(cluster, 0, 1);
        await forwarded.send(Buffer.alloc(100_000));
        await pair.waiter.until(100_017);
        // Longer than connections get that only have to answer a FIN.
        const running = sleep(400, 'still running');
        assert.equal(await Promise.race([drained, running]), 'still running');
        forwarded.end();
        assert.deepEqual(await forwarded.closed, closedWith(transport));
        await pair.waiter.closed;
        await drained;
        await waiter.leave();
        await expectRecords(cluster, 0, ['happy link tcp', 'lonely link', 'lonely tcp']);
        assert.deepEqual(recordsOf(cluster, 1), []);
      },
    );
  }

  clusterTest('closes forwarded clients when it stops immediately', async (cluster) => {
    const { token, waiter } = await startWaiting(cluster);
    const forwardedWaiter = await connectAndSend(cluster, 1, handshake(token, SIDE_A));
    await untilWaitingAt(cluster, 0, 2);
    const pair = await startWaiting(cluster);
    const forwarded = await connectAndSend(cluster, 1, handshake(pair.token, SIDE_B));
    await expectExchange(pair.waiter, forwarded);
    cluster.member(1).relay.sessions.close();
    await Promise.all([forwardedWaiter.closed, forwarded.closed]);
    await expectReply(pair.waiter, 'ok\nfrom the other');
    await untilWaitingAt(cluster, 0, 1);
    await waiter.leave();
    assert.deepEqual(recordsOf(cluster, 0), ['happy link tcp', 'lonely link', 'lonely tcp']);
  });
});

describe('a relay that drains after a forwarded client has closed', () => {
  for (const standardStreams of [false, true]) {
    clusterTest(
      `delivers the client's bytes first, with ${standardStreams ? 'standard streams' : 'the shared buffer'}`,
      async (cluster) => {
        const { token, waiter } = await startWaiting(cluster);
        const sender = await connectAndSend(cluster, 1, handshake(token, SIDE_B));
        await Promise.all([waiter.until(3), sender.until(3)]);
        waiter.pause();
        const bytes = randomBytesOf(1, 64_000_000);
        const stop = new AbortController();
        const sending = (async () => {
          for (let at = 0; at < bytes.length && !stop.signal.aborted; at += 65_536)
            await sender.send(bytes.subarray(at, at + 65_536));
        })();
        await cluster.untilStalled();
        stop.abort();
        const { sessions } = cluster.member(1).relay;
        const [link] = cluster.member(1).links;
        assert.ok(link !== undefined && link.bufferedBytes > 0, 'bytes are buffered for the owner');
        sender.reset();
        await Promise.all([sender.closed, sending]);
        while (sessions.clients.forwardedClients > 0) {
          sessions.sweep();
          await sleep(10);
        }
        const drained = sessions.drain(30_000, new AbortController().signal).then(() => link.bufferedBytes);
        // Longer than connections get that only have to answer a FIN.
        await Promise.race([drained, sleep(400)]);
        waiter.resume();
        assert.equal(await drained, 0);
        // Otherwise the drain has ended by its timeout.
        assert.equal(sessions.clients.undeliveredLinks, 0);
        await waiter.closed;
        const received = waiter.received.subarray(3);
        assert.ok(received.equals(bytes.subarray(0, received.length)));
      },
      { standardStreams },
    );
  }
});
