import assert from 'node:assert/strict';
import { describe } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { SIDE_B, handshake, randomBytesOf } from '../support/bytes.ts';
import { clusterTest, connectAndSend, startWaiting } from '../support/cluster-scenario.ts';

const PIECE_BYTES = 65_536;

describe('a relay that drains when a client that it passed on has gone', () => {
  for (const standardStreams of [false, true]) {
    clusterTest(
      `delivers first what that one had said, by ${standardStreams ? 'standard streams' : 'the shared buffer'}`,
      async (cluster) => {
        const { token, waiter } = await startWaiting(cluster);
        const sender = await connectAndSend(cluster, 1, handshake(token, SIDE_B));
        await Promise.all([waiter.until(3), sender.until(3)]);
        waiter.pause();
        const bytes = randomBytesOf(1, 64_000_000);
        const over = new AbortController();
        const sending = (async () => {
          for (let at = 0; at < bytes.length && !over.signal.aborted; at += PIECE_BYTES)
            await sender.send(bytes.subarray(at, at + PIECE_BYTES));
        })();
        await cluster.untilStalled();
        over.abort();
        const { sessions } = cluster.member(1).relay;
        const [link] = cluster.member(1).links;
        assert.ok(link !== undefined && link.bufferedBytes > 0, 'the owner takes everything');
        sender.reset();
        await Promise.all([sender.closed, sending]);
        while (sessions.clients.forwardedClients > 0) {
          sessions.sweep();
          await sleep(10);
        }
        const left = sessions.drain(30_000, new AbortController().signal).then(() => link.bufferedBytes);
        // Longer than those are given who only have to answer a FIN.
        await Promise.race([left, sleep(400)]);
        waiter.resume();
        assert.equal(await left, 0);
        await waiter.closed;
        const got = waiter.received.subarray(3);
        assert.ok(got.equals(bytes.subarray(0, got.length)));
      },
      { standardStreams },
    );
  }
});
