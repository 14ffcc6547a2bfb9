import assert from 'node:assert/strict';
import { describe } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { SIDE_B, handshake, randomBytesOf } from '../support/bytes.ts';
import { clusterTest, connectAndSend, startWaiting } from '../support/cluster-scenario.ts';

const PIECE_BYTES = 65_536;

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
          for (let at = 0; at < bytes.length && !stop.signal.aborted; at += PIECE_BYTES)
            await sender.send(bytes.subarray(at, at + PIECE_BYTES));
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
        await waiter.closed;
        const received = waiter.received.subarray(3);
        assert.ok(received.equals(bytes.subarray(0, received.length)));
      },
      { standardStreams },
    );
  }
});
