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

describe('a forwarded client that is not read because its partner accepts no bytes', () => {
  for (const transport of TRANSPORTS) {
    clusterTest(
      `is closed after a reset, and the bytes that it has sent are delivered (${transport})`,
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
        // The first sweep stores how much has been delivered, and the second one finds no progress.
        while (sessions.clients.forwardedClients > 0) {
          sessions.sweep();
          await setImmediate();
        }
        assert.equal(waiter.isClosed, false);
        waiter.resume();
        assert.deepEqual(await waiter.closed, closedWith('tcp'));
        const received = waiter.received.subarray(3);
        assert.ok(received.length > 0 && received.equals(bytes.subarray(0, received.length)));
        await expectRecords(cluster, 0, [happyRecord('tcp')]);
        assert.equal(cluster.summaries[0]?.totalBytes, received.length);
      },
    );
  }
});
