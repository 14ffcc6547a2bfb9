import assert from 'node:assert/strict';
import { describe } from 'node:test';
import { SIDE_A, SIDE_B, handshake, newToken } from '../../support/bytes.ts';
import {
  clusterTest,
  connectAndSend,
  expectExchange,
  expectRecords,
  expectReply,
  ownerOf,
  startWaiting,
  tokenOf,
  untilWaitingAt,
} from './cluster-scenario.ts';
import { TRANSPORTS } from '../../support/test-client.ts';
import { until } from '../../support/scratch.ts';

const ENDINGS = ['end', 'reset'] as const;

for (const transport of TRANSPORTS) {
  for (const ending of ENDINGS) {
    describe(`a ${transport} client that disconnects (${ending})`, () => {
      clusterTest(
        'before the lookup returns that its token has no owner leaves no lease',
        async (cluster) => {
          const open = cluster.member(0).ownerGate.shut();
          const client = await connectAndSend(cluster, 0, handshake(newToken(), SIDE_A), transport);
          await until(() => cluster.leases.size === 1);
          client[ending]();
          open();
          await client.closed;
          await expectRecords(cluster, 0, [`lonely ${transport}`]);
        },
      );

      clusterTest('before the lookup returns the owner is recorded by the owner', async (cluster) => {
        const { token, waiter } = await startWaiting(cluster);
        const open = cluster.member(1).ownerGate.shut();
        const client = await connectAndSend(cluster, 1, handshake(token, SIDE_A), transport);
        await untilWaitingAt(cluster, 1, 1);
        client[ending]();
        open();
        await client.closed;
        await expectRecords(cluster, 0, ['lonely link']);
        assert.equal(ownerOf(cluster, token), 0);
        await waiter.leave();
        await expectRecords(cluster, 0, ['lonely link', 'lonely tcp']);
        assert.equal(cluster.summaries.length, 2);
      });

      clusterTest('while the link is being opened is recorded by the owner', async (cluster) => {
        const { token, waiter } = await startWaiting(cluster);
        const open = cluster.member(1).connectGate.shut();
        const client = await connectAndSend(cluster, 1, handshake(token, SIDE_A), transport);
        await until(() => cluster.member(1).connects === 1);
        client[ending]();
        open();
        await client.closed;
        await expectRecords(cluster, 0, ['lonely link']);
        await waiter.leave();
        assert.equal(cluster.summaries.length, 2);
      });

      clusterTest('while it waits at the owner is removed from the rendezvous there', async (cluster) => {
        const { token, waiter } = await startWaiting(cluster);
        const client = await connectAndSend(cluster, 1, handshake(token, SIDE_A), transport);
        await untilWaitingAt(cluster, 0, 2);
        await waiter.leave();
        // The owner keeps the lease for forwarded clients.
        await untilWaitingAt(cluster, 0, 1);
        assert.equal(ownerOf(cluster, token), 0);
        client[ending]();
        await client.closed;
        await until(() => ownerOf(cluster, token) === -1);
        await expectRecords(cluster, 0, ['lonely link', 'lonely tcp']);
      });

      clusterTest('during a transfer ends it', async (cluster) => {
        const { token, waiter } = await startWaiting(cluster);
        const client = await connectAndSend(cluster, 1, handshake(token, SIDE_B), transport);
        await expectExchange(waiter, client);
        client[ending]();
        await expectReply(waiter, 'ok\nfrom the other');
        await client.closed;
        await expectRecords(cluster, 0, ['happy link tcp']);
        assert.equal(cluster.summaries.length, 1);
      });

      clusterTest('during a transfer with a forwarded partner ends it', async (cluster) => {
        const { token, waiter } = await startWaiting(cluster, 0, transport);
        const client = await connectAndSend(cluster, 1, handshake(token, SIDE_B));
        await expectExchange(waiter, client);
        waiter[ending]();
        await expectReply(client, 'ok\nfrom one');
        await waiter.closed;
        assert.equal(cluster.summaries.length, 1);
      });
    });
  }
}

describe('a partner that connects to its relay', () => {
  for (const late of ['no owner', 'another relay']) {
    clusterTest(
      `before the lookup returns is paired immediately, and a late reply with ${late} has no effect`,
      async (cluster) => {
        const { token, waiter } = await startWaiting(cluster);
        if (late === 'no owner') cluster.leases.assign(tokenOf(token), null);
        const open = cluster.member(1).ownerGate.shut();
        const one = await connectAndSend(cluster, 1, handshake(token, SIDE_A));
        await untilWaitingAt(cluster, 1, 1);
        const other = await connectAndSend(cluster, 1, handshake(token, SIDE_B));
        await expectExchange(one, other);
        open();
        await other.send('!');
        assert.equal((await one.until(18)).toString(), 'ok\nfrom the other!');
        assert.equal(cluster.member(1).connects, 0);
        assert.equal(ownerOf(cluster, token), late === 'no owner' ? -1 : 0);
        one.end();
        await other.closed;
        await expectRecords(cluster, 1, ['happy tcp tcp']);
        await waiter.leave();
      },
    );
  }

  clusterTest(
    'while the first client is being forwarded to the owner is forwarded there, too',
    async (cluster) => {
      const { token, waiter } = await startWaiting(cluster);
      const open = cluster.member(1).connectGate.shut();
      const one = await connectAndSend(cluster, 1, handshake(token, SIDE_A));
      await until(() => cluster.member(1).connects === 1);
      const other = await connectAndSend(cluster, 1, handshake(token, SIDE_B));
      await until(() => cluster.member(1).connects === 2);
      await waiter.leave();
      open();
      await expectExchange(one, other);
      one.end();
      await other.closed;
      await expectRecords(cluster, 0, ['happy link link', 'lonely tcp']);
    },
  );

  clusterTest('is paired there if the owner turns out to be unreachable', async (cluster) => {
    const { token, waiter } = await startWaiting(cluster);
    const open = cluster.member(1).connectGate.shut();
    const one = await connectAndSend(cluster, 1, `${handshake(token, SIDE_A)}early`);
    await until(() => cluster.member(1).connects === 1);
    // The partner waits at its own relay meanwhile, because its lookup does not return.
    cluster.member(1).ownerGate.shut();
    const other = await connectAndSend(cluster, 1, handshake(token, SIDE_B));
    await untilWaitingAt(cluster, 1, 1);
    cluster.member(0).stopListening();
    open();
    assert.equal((await other.until(8)).toString(), 'ok\nearly');
    assert.equal((await one.until(3)).toString(), 'ok\n');
    // A pair needs no lease, so the lease does not change.
    assert.equal(ownerOf(cluster, token), 0);
    one.end();
    await other.closed;
    await expectRecords(cluster, 1, ['happy tcp tcp']);
    await waiter.leave();
  });

  clusterTest(
    'and reaches the wait timeout before the lookup returns leaves no lease',
    async (cluster) => {
      const open = cluster.member(0).ownerGate.shut();
      const client = await connectAndSend(cluster, 0, `${handshake(newToken(), SIDE_A)}early`);
      await expectReply(client, '');
      open();
      await expectRecords(cluster, 0, ['lonely tcp']);
    },
    { timeouts: { waitMs: 100 } },
  );
});
