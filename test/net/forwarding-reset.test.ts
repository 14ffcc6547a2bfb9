import assert from 'node:assert/strict';
import { describe } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { SIDE_B, handshake, randomBytesOf } from '../support/bytes.ts';
import {
  TRANSPORTS,
  closedWith,
  clusterTest,
  connectAndSend,
  expectRecords,
  happyRecord,
  startWaiting,
} from '../support/cluster-scenario.ts';

describe('a client that is passed on, and not read since its partner takes nothing,', () => {
  for (const transport of TRANSPORTS) {
    clusterTest(
      `is noticed when it is reset, and what it had said is delivered (${transport})`,
      async (cluster) => {
        const { token, waiter } = await startWaiting(cluster);
        const sender = await connectAndSend(cluster, 1, handshake(token, SIDE_B), transport);
        await Promise.all([waiter.until(3), sender.until(3)]);
        waiter.pause();
        const bytes = randomBytesOf(8, 64_000_000);
        const sent = sender.sendAll(bytes, 65_536);
        await cluster.untilStalled();
        sender.reset();
        await sent;
        const { sessions } = cluster.member(1).relay;
        // The first sweep remembers how far the link is, the next one finds it where it was and asks.
        while (sessions.clients.forwardedClients > 0) {
          sessions.sweep();
          await setImmediate();
        }
        assert.equal(waiter.isClosed, false);
        waiter.resume();
        assert.deepEqual(await waiter.closed, closedWith('tcp'));
        const got = waiter.received.subarray(3);
        assert.ok(got.length > 0 && got.equals(bytes.subarray(0, got.length)));
        await expectRecords(cluster, 0, [happyRecord('tcp')]);
        assert.equal(cluster.summaries[0]?.totalBytes, got.length);
      },
    );
  }
});
