import assert from 'node:assert/strict';
import { describe } from 'node:test';
import { setImmediate } from 'node:timers/promises';
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
  tokenOf,
  untilWaitingAt,
} from './cluster-scenario.ts';
import { TRANSPORTS, closedWith } from '../../support/test-client.ts';
import { until } from '../../support/scratch.ts';
import type { TestCluster } from '../../support/test-cluster.ts';

/** Makes a relay believe that another one owns a token, as after the coordinator has lost its data. */
function moveLease(cluster: TestCluster, token: string, relay: number, owner: number): void {
  cluster.leases.assign(tokenOf(token), cluster.member(owner).owner);
  cluster.member(relay).relay.sessions.redirectWaiting(tokenOf(token), cluster.member(owner).owner);
}

describe('a stalled transfer of a forwarded client', () => {
  for (const relay of [0, 1]) {
    clusterTest(
      `is ended by the relay ${relay === 0 ? 'that owns its token' : 'of the client'}`,
      async (cluster) => {
        const { token, waiter } = await startWaiting(cluster);
        const forwarded = await connectAndSend(cluster, 1, handshake(token, SIDE_B));
        await expectExchange(waiter, forwarded);
        // Its sender is at the relay that ends it, so that the link is the receiver of the stalled direction.
        const [sender, receiver] = relay === 0 ? [waiter, forwarded] : [forwarded, waiter];
        receiver.pause();
        void sender.sendAll(Buffer.alloc(64_000_000), 65_536);
        const { sessions } = cluster.member(relay).relay;
        await until(() => sessions.bufferedBytes > 0);
        await cluster.member(relay).relay.untilStalled();
        assert.equal(await sessions.endStalled(1, 0), 1);
        assert.deepEqual(
          [sessions.pairs, sessions.clients.forwardedClients, sessions.bufferedBytes],
          [0, 0, 0],
        );
        assert.equal((await sender.closed).reset, true);
        receiver.resume();
        await receiver.closed;
        await expectRecords(cluster, 0, ['happy link tcp']);
        assert.deepEqual(recordsOf(cluster, 1), []);
      },
    );
  }
});

describe('an unreachable owner', () => {
  for (const transport of TRANSPORTS) {
    clusterTest(
      `loses its lease to the relay of a ${transport} client, which is then paired there`,
      async (cluster) => {
        const { token, waiter } = await startWaiting(cluster);
        cluster.member(0).stopListening();
        const newOwner = await connectAndSend(cluster, 1, handshake(token, SIDE_A), transport);
        await until(() => ownerOf(cluster, token) === 1);
        await untilWaitingAt(cluster, 1, 1);
        const partner = await connectAndSend(cluster, 2, handshake(token, SIDE_B), transport);
        await expectExchange(newOwner, partner);
        assert.deepEqual([cluster.member(1).connects, cluster.member(2).connects], [1, 1]);
        newOwner.end();
        await expectReply(partner, 'ok\nfrom one');
        await waiter.leave();
        await expectRecords(cluster, 1, [happyRecord(transport)]);
        await expectRecords(cluster, 0, ['lonely tcp']);
        assert.equal(cluster.summaries.length, 2);
      },
      { relays: 3 },
    );

    clusterTest(
      `makes the ${transport} clients that were forwarded to it wait at their own relays`,
      async (cluster) => {
        const { token, waiter } = await startWaiting(cluster);
        const forwardedWaiter = await connectAndSend(cluster, 1, handshake(token, SIDE_A), transport);
        await untilWaitingAt(cluster, 0, 2);
        cluster.member(0).stopListening();
        cluster.member(0).cutLinks();
        await until(() => ownerOf(cluster, token) === 1);
        const partner = await connectAndSend(cluster, 2, handshake(token, SIDE_B));
        await expectExchange(forwardedWaiter, partner);
        partner.end();
        await expectReply(forwardedWaiter, 'ok\nfrom the other');
        await expectRecords(cluster, 1, [happyRecord(transport)]);
        await waiter.leave();
      },
      { relays: 3 },
    );

    clusterTest(`ends the transfers of clients that were forwarded to it (${transport})`, async (cluster) => {
      const { token, waiter } = await startWaiting(cluster);
      const forwarded = await connectAndSend(cluster, 1, handshake(token, SIDE_B), transport);
      await expectExchange(waiter, forwarded);
      cluster.member(0).cutLinks();
      await expectReply(forwarded, 'ok\nfrom one');
      await expectReply(waiter, 'ok\nfrom the other');
      await expectRecords(cluster, 0, ['happy link tcp']);
      assert.deepEqual(recordsOf(cluster, 1), []);
    });
  }

  clusterTest(
    'is replaced by the new owner if another relay has already taken the lease over',
    async (cluster) => {
      const { token, waiter } = await startWaiting(cluster);
      const open = cluster.member(1).connectGate.shut();
      const client = await connectAndSend(cluster, 1, handshake(token, SIDE_B));
      await until(() => cluster.member(1).connects === 1);
      cluster.member(0).stopListening();
      const newOwner = await connectAndSend(cluster, 2, handshake(token, SIDE_A));
      await until(() => ownerOf(cluster, token) === 2);
      open();
      await expectExchange(newOwner, client);
      client.end();
      await newOwner.closed;
      await waiter.leave();
      await expectRecords(cluster, 2, ['happy link tcp']);
    },
    { relays: 3 },
  );

  clusterTest(
    'loses no bytes that a forwarded client has sent before it is paired',
    async (cluster) => {
      const { token, waiter } = await startWaiting(cluster);
      const open = cluster.member(1).connectGate.shut();
      const client = await connectAndSend(cluster, 1, `${handshake(token, SIDE_B)}early`);
      await until(() => cluster.member(1).connects === 1);
      // The link is opened, and cut before the owner replies.
      const openOwnerGate = cluster.member(0).ownerGate.shut();
      await waiter.leave();
      open();
      await until(() => cluster.members.slice(0, 2).every(({ links }) => links.size === 1));
      await client.send(' and more');
      const [link] = cluster.member(1).links;
      await until(() => link?.deliveredBytes === handshake(token, SIDE_B).length + 14);
      const openLocalGate = cluster.member(1).ownerGate.shut();
      // If its own relay looked up the owner before the partner is there, that relay would become the owner and
      // reject the early bytes.
      cluster.leases.assign(tokenOf(token), cluster.member(2).owner);
      cluster.member(0).cutLinks();
      await untilWaitingAt(cluster, 1, 1);
      await client.send(', and the end');
      const partner = await connectAndSend(cluster, 2, handshake(token, SIDE_A));
      await untilWaitingAt(cluster, 2, 1);
      openOwnerGate();
      openLocalGate();
      assert.equal((await partner.until(30)).toString(), 'ok\nearly and more, and the end');
      client.end();
      await partner.closed;
    },
    { relays: 3 },
  );
});

describe('a lease that turns out to belong to another relay', () => {
  clusterTest(
    'is looked up again if the supposed owner replies that it is not the owner',
    async (cluster) => {
      const { token, waiter } = await startWaiting(cluster, 2);
      cluster.leases.assign(tokenOf(token), cluster.member(0).owner);
      const open = cluster.member(1).connectGate.shut();
      const client = await connectAndSend(cluster, 1, handshake(token, SIDE_B));
      await until(() => cluster.member(1).connects === 1);
      cluster.leases.assign(tokenOf(token), cluster.member(2).owner);
      open();
      await expectExchange(waiter, client);
      cluster.checkConsistency();
      assert.equal(cluster.member(1).connects, 2);
      const { accepted, forwarded } = cluster.member(0).relay.sessions.clients.totals();
      assert.deepEqual([accepted.link, forwarded.link], [1, 1]);
      client.end();
      await waiter.closed;
      await expectRecords(cluster, 2, ['happy link tcp']);
      assert.equal(cluster.summaries.length, 1);
    },
    { relays: 3 },
  );

  for (const transport of TRANSPORTS) {
    clusterTest(
      `redirects waiting ${transport} clients if two relays considered themselves the owner`,
      async (cluster) => {
        const { token, waiter } = await startWaiting(cluster, 0, transport);
        cluster.leases.assign(tokenOf(token), null);
        const other = await connectAndSend(cluster, 1, handshake(token, SIDE_B), transport);
        await until(() => ownerOf(cluster, token) === 1);
        await untilWaitingAt(cluster, 0, 1);
        moveLease(cluster, token, 0, 1);
        await expectExchange(waiter, other);
        assert.equal(ownerOf(cluster, token), -1);
        waiter.end();
        await other.closed;
        await expectRecords(cluster, 1, [happyRecord(transport)]);
        assert.equal(cluster.summaries.length, 1);
      },
    );
  }

  clusterTest(
    'redirects forwarded clients through their own relays',
    async (cluster) => {
      const { token, waiter } = await startWaiting(cluster);
      const forwardedWaiter = await connectAndSend(cluster, 1, handshake(token, SIDE_A));
      await untilWaitingAt(cluster, 0, 2);
      moveLease(cluster, token, 0, 2);
      await untilWaitingAt(cluster, 2, 2);
      assert.equal(ownerOf(cluster, token), 2);
      assert.deepEqual(
        cluster.members.map(({ connects }) => connects),
        [1, 2, 0],
      );
      cluster.checkConsistency();
      const partner = await connectAndSend(cluster, 2, handshake(token, SIDE_B));
      await partner.until(3);
      partner.end();
      await Promise.all([waiter.closed, forwardedWaiter.closed]);
      await expectRecords(cluster, 2, ['happy link tcp', 'redundant link']);
      assert.equal(cluster.summaries.length, 2);
    },
    { relays: 3 },
  );

  clusterTest('does not affect clients that are already paired or redirected', async (cluster) => {
    const { token, waiter } = await startWaiting(cluster);
    const other = await connectAndSend(cluster, 0, handshake(token, SIDE_B));
    await expectExchange(waiter, other);
    moveLease(cluster, token, 0, 1);
    cluster.leases.assign(tokenOf(token), null);
    other.end();
    await expectReply(waiter, 'ok\nfrom the other');
    const next = await startWaiting(cluster);
    const forwardedWaiter = await connectAndSend(cluster, 1, handshake(next.token, SIDE_A));
    await untilWaitingAt(cluster, 0, 2);
    cluster.member(1).relay.sessions.redirectWaiting(tokenOf(next.token), cluster.member(0).owner);
    assert.deepEqual(
      cluster.members.map(({ connects }) => connects),
      [0, 1],
    );
    forwardedWaiter.end();
    next.waiter.end();
    await Promise.all([forwardedWaiter.closed, next.waiter.closed]);
  });

  clusterTest(
    'is looked up again for a returned client, regardless of an older reply',
    async (cluster) => {
      const { token, waiter } = await startWaiting(cluster);
      cluster.leases.assign(tokenOf(token), null);
      const openLocalGate = cluster.member(1).ownerGate.shut();
      const client = await connectAndSend(cluster, 1, handshake(token, SIDE_B));
      await until(() => ownerOf(cluster, token) === 1);
      const open = cluster.member(2).ownerGate.shut();
      moveLease(cluster, token, 1, 2);
      await untilWaitingAt(cluster, 2, 1);
      cluster.leases.assign(tokenOf(token), cluster.member(0).owner);
      cluster.member(2).cutLinks();
      const { rendezvous } = cluster.member(1).relay.sessions.clients;
      // Before the next retry.
      while (rendezvous.waitingClients === 0) await setImmediate();
      openLocalGate();
      open();
      await expectExchange(waiter, client);
      client.end();
      await waiter.closed;
    },
    { relays: 3 },
  );

  clusterTest(
    'is looked up repeatedly while its owner rejects all clients',
    async (cluster) => {
      const { token, waiter } = await startWaiting(cluster);
      cluster.member(0).relay.admission.isDraining = true;
      const client = await connectAndSend(cluster, 1, handshake(token, SIDE_A));
      await until(() => cluster.member(1).connects === 4);
      waiter.end();
      await until(() => ownerOf(cluster, token) === 1);
      const partner = await connectAndSend(cluster, 2, handshake(token, SIDE_B));
      await expectExchange(client, partner);
      client.end();
      await partner.closed;
      await expectRecords(cluster, 0, ['lonely tcp']);
      assert.equal(cluster.summaries.length, 2);
    },
    { relays: 3 },
  );
});

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
