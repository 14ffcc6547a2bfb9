import assert from 'node:assert/strict';
import { describe, mock, test } from 'node:test';
import type { TestContext } from 'node:test';
import { LinkClientAuth, linkAuthKey } from '../../src/cluster/link-auth.ts';
import { MAX_PENDING_PEERS } from '../../src/cluster/link-server.ts';
import { PeerNetworks } from '../../src/cluster/link-client.ts';
import { parseCidrs } from '../../src/config/trusted-proxies.ts';
import { randomBytesOf } from '../support/bytes.ts';
import { Dice } from '../support/dice.ts';
import { IO_BACKENDS, RawPeer, SECRET, TestLinkServer, exerciseLink } from './link-fixture.ts';

const OPENING = /^transit-relay-cluster\/2 [0-9a-f]{64}\n$/u;

/** Proves itself as a caller does, and hands out the line that does so. */
async function answerOf(peer: RawPeer, secret = SECRET): Promise<string> {
  const auth = new LinkClientAuth(linkAuthKey(secret));
  return auth.receive(Buffer.from(`${await peer.untilLine()}\n`)).send;
}

/** Puts time into the test's hands. */
function mockTimers(context: TestContext): void {
  mock.timers.enable({ apis: ['setTimeout'] });
  context.after(() => mock.timers.reset());
}

/** Connects so many who say nothing, one after the other, and has each of them greeted. */
async function connectIdle(
  context: TestContext,
  port: number,
  count: number,
  from?: string,
): Promise<readonly RawPeer[]> {
  const peers: RawPeer[] = [];
  for (let index = 0; index < count; index += 1) {
    const peer = await RawPeer.connect(context, port, from);
    await peer.untilLine();
    peers.push(peer);
  }
  return peers;
}

for (const [name, openPlane] of IO_BACKENDS) {
  describe(`a link server over ${name}`, () => {
    test('accepts peers with the secret, and passes bytes both ways', async (context) => {
      const place = await TestLinkServer.open(context, await openPlane());
      const caller = await place.connect(context);
      const owner = await place.untilLink();
      await exerciseLink(caller, owner);
      assert.deepEqual(place.failures, []);
      assert.equal(place.server.pendingPeers, 0);
    });

    test('understands every split of what a caller says, and loses no byte behind it', async (context) => {
      const place = await TestLinkServer.open(context, await openPlane());
      const dice = new Dice(5);
      for (let round = 0; round < 25; round += 1) {
        const peer = await RawPeer.connect(context, place.port);
        const behind = randomBytesOf(round, 300);
        const bytes = Buffer.concat([Buffer.from(await answerOf(peer)), behind]);
        for (let at = 0; at < bytes.length;) {
          const size = round === 0 ? 1 : dice.size(200);
          await peer.send(bytes.subarray(at, at + size));
          at += size;
        }
        const link = await place.untilLink(round);
        assert.ok((await link.until(behind.length)).equals(behind));
        assert.match(await peer.untilLine(1), /^[0-9a-f]{64}$/u);
      }
    });

    test('keeps what comes with the last line, however much that is', async (context) => {
      const place = await TestLinkServer.open(context, await openPlane());
      const peer = await RawPeer.connect(context, place.port);
      const behind = randomBytesOf(3, 400_000);
      await peer.send(Buffer.concat([Buffer.from(await answerOf(peer)), behind]));
      const link = await place.untilLink();
      assert.ok((await link.until(behind.length)).equals(behind));
    });

    test('reports a wrong secret to the peer, closes, and ignores further bytes', async (context) => {
      const place = await TestLinkServer.open(context, await openPlane());
      const peer = await RawPeer.connect(context, place.port);
      await peer.send(await answerOf(peer, 'another'));
      assert.match(await peer.received, /^transit-relay-cluster\/2 [0-9a-f]{64}\nwrong secret\n$/u);
      assert.deepEqual(place.failures, ['secret']);
    });

    test('rejects a replayed handshake', async (context) => {
      const place = await TestLinkServer.open(context, await openPlane());
      const first = await RawPeer.connect(context, place.port);
      const recorded = await answerOf(first);
      await first.send(recorded);
      await place.untilLink();
      const second = await RawPeer.connect(context, place.port);
      await second.untilLine();
      await second.send(recorded);
      await second.received;
      assert.deepEqual(place.failures, ['secret']);
      assert.equal(place.links.length, 1);
    });

    const garbage: readonly (readonly [kind: string, bytes: Uint8Array | string, fault: string])[] = [
      ['HTTP', 'GET / HTTP/1.1\r\n\r\n', 'not a relay'],
      ['a handshake', `please relay ${'0'.repeat(64)}\n`, 'not a relay'],
      ['TLS', Buffer.from('16030100', 'hex'), 'not a relay'],
      ['a megabyte of noise', randomBytesOf(9, 1_000_000), 'not a relay'],
      ['a megabyte of a line', `transit-relay-cluster/2 ${'0'.repeat(1_000_000)}`, 'not a relay'],
      ['another version', `transit-relay-cluster/3 ${'0'.repeat(64)}\n`, 'version'],
    ];
    for (const [kind, bytes, error] of garbage) {
      test(`closes without a reply on ${kind}`, async (context) => {
        const place = await TestLinkServer.open(context, await openPlane());
        const peer = await RawPeer.connect(context, place.port);
        await peer.untilLine();
        peer.socket.write(bytes);
        assert.match(await peer.received, OPENING);
        assert.deepEqual(place.failures, [error]);
        assert.equal(place.server.pendingPeers, 0);
      });
    }

    test('forgets peers that disconnect, by a FIN or a reset', async (context) => {
      const place = await TestLinkServer.open(context, await openPlane());
      const [polite, rude] = await connectIdle(context, place.port, 2);
      await polite?.send('transit-');
      polite?.socket.end();
      assert.deepEqual(await place.untilFailures(1), ['disconnected']);
      rude?.socket.resetAndDestroy();
      assert.deepEqual(await place.untilFailures(2), ['disconnected', 'disconnected']);
      assert.equal(place.server.pendingPeers, 0);
    });

    test('closes peers that are not authenticated after five seconds, even if they keep sending', async (context) => {
      const place = await TestLinkServer.open(context, await openPlane());
      mockTimers(context);
      const [silent, slow] = await connectIdle(context, place.port, 2);
      assert.ok(slow !== undefined && silent !== undefined);
      const line = await answerOf(slow);
      for (let half = 0; half < 9; half += 1) {
        await slow.send(line.slice(half * 10, half * 10 + 10));
        mock.timers.tick(500);
      }
      mock.timers.tick(499);
      assert.equal(place.server.pendingPeers, 2);
      mock.timers.tick(1);
      assert.deepEqual(place.failures, ['timeout', 'timeout']);
      assert.equal(place.server.pendingPeers, 0);
      assert.match(await silent.received, OPENING);
      await slow.received;
    });

    test('lets an open link be silent for as long as it likes', async (context) => {
      const place = await TestLinkServer.open(context, await openPlane());
      mockTimers(context);
      const caller = await place.connect(context);
      const owner = await place.untilLink();
      for (let tick = 0; tick < 10; tick += 1) mock.timers.tick(3_600_000);
      caller.stream.write(Buffer.from('still here'));
      assert.equal((await owner.until(10)).toString(), 'still here');
      assert.deepEqual(place.failures, []);
    });

    test('closes connections from outside of its networks at once, and they take no place', async (context) => {
      const networks = new PeerNetworks(parseCidrs('127.0.0.2/32'), '127.0.0.2');
      const place = await TestLinkServer.open(context, await openPlane(), null, networks);
      for (let come = 0; come <= MAX_PENDING_PEERS; come += 1)
        assert.equal(await (await RawPeer.connect(context, place.port)).received, '');
      assert.equal(place.server.pendingPeers, 0);
      assert.deepEqual(new Set(await place.untilFailures(MAX_PENDING_PEERS + 1)), new Set(['address']));
      const [peer] = await connectIdle(context, place.port, 1, '127.0.0.2');
      assert.ok(peer);
      assert.equal(place.server.pendingPeers, 1);
    });

    test('rejects peers beyond its pending slots, and accepts again when one has left', async (context) => {
      const place = await TestLinkServer.open(context, await openPlane());
      mockTimers(context);
      const peers = await connectIdle(context, place.port, MAX_PENDING_PEERS);
      const oneMore = await RawPeer.connect(context, place.port);
      assert.equal(await oneMore.received, '');
      assert.deepEqual(place.failures, ['evicted']);
      await assert.rejects(place.connect(context), { code: 'unreachable' });
      peers[20]?.socket.destroy();
      assert.deepEqual(await place.untilFailures(3), ['evicted', 'evicted', 'disconnected']);
      await place.connect(context);
      assert.equal(place.server.pendingPeers, MAX_PENDING_PEERS - 1);
    });

    test('evicts slow peers for new ones: untrusted peers lock out no relay', async (context) => {
      const place = await TestLinkServer.open(context, await openPlane());
      mockTimers(context);
      const peers = await connectIdle(context, place.port, MAX_PENDING_PEERS);
      mock.timers.tick(499);
      await assert.rejects(place.connect(context), { code: 'unreachable' });
      mock.timers.tick(1);
      await place.connect(context);
      await peers[0]?.received;
      assert.deepEqual(place.failures, ['evicted', 'evicted']);
      // That one is a link, and has left a place.
      assert.equal(place.server.pendingPeers, MAX_PENDING_PEERS - 1);
    });

    test('evicts one of very many peers of one address for a peer of another', async (context) => {
      const place = await TestLinkServer.open(context, await openPlane());
      mockTimers(context);
      const [few] = await connectIdle(context, place.port, 1, '127.0.0.3');
      const many = await connectIdle(context, place.port, MAX_PENDING_PEERS - 1, '127.0.0.2');
      // They don't have places of others, nor of each other.
      assert.equal(await (await RawPeer.connect(context, place.port, '127.0.0.2')).received, '');
      await place.connect(context);
      await many[0]?.received;
      assert.deepEqual(place.failures, ['evicted', 'evicted']);
      assert.equal(few?.socket.readyState, 'open');
      assert.equal(many[1]?.socket.readyState, 'open');
    });

    test('shares its places where all of them are taken from two addresses', async (context) => {
      const place = await TestLinkServer.open(context, await openPlane());
      mockTimers(context);
      await connectIdle(context, place.port, MAX_PENDING_PEERS / 2, '127.0.0.2');
      await connectIdle(context, place.port, MAX_PENDING_PEERS / 2, '127.0.0.3');
      assert.equal(await (await RawPeer.connect(context, place.port, '127.0.0.3')).received, '');
      const newcomers = await connectIdle(context, place.port, 2);
      assert.equal(place.server.pendingPeers, MAX_PENDING_PEERS);
      assert.deepEqual(place.failures, ['evicted', 'evicted', 'evicted']);
      assert.ok(newcomers.every(({ socket }) => socket.readyState === 'open'));
    });

    test('has a slot for peers from a known network, however many others are pending', async (context) => {
      const place = await TestLinkServer.open(context, await openPlane());
      await place.connect(context);
      mockTimers(context);
      for (let index = 0; index < MAX_PENDING_PEERS; index += 1)
        await connectIdle(context, place.port, 1, `127.0.1.${index + 1}`);
      assert.equal(await (await RawPeer.connect(context, place.port, '127.0.2.1')).received, '');
      assert.deepEqual(place.failures, ['evicted']);
      await place.connect(context);
      await place.untilLink(1);
      assert.deepEqual(place.failures, ['evicted', 'evicted']);
    });

    test('is not affected by a thousand untrusted peers: a link goes on, and they get nothing', async (context) => {
      const place = await TestLinkServer.open(context, await openPlane());
      const caller = await place.connect(context);
      const owner = await place.untilLink();
      const bytes = randomBytesOf(4, 1_000_000);
      let mostGuests = 0;
      const peers: RawPeer[] = [];
      for (let index = 0; index < 1000; index += 1) {
        const peer = await RawPeer.connect(context, place.port);
        peers.push(peer);
        if (index % 3 === 0) peer.socket.write('GET / HTTP/1.1\r\n\r\n');
        if (index % 3 === 1) peer.socket.write('transit-relay-');
        mostGuests = Math.max(mostGuests, place.server.pendingPeers);
        if (index % 100 === 0) caller.stream.write(bytes.subarray(index * 1000, (index + 100) * 1000));
      }
      assert.ok((await owner.until(bytes.length)).equals(bytes));
      assert.equal(mostGuests, MAX_PENDING_PEERS);
      await place.untilFailures(1000 - MAX_PENDING_PEERS);
      for (const peer of peers) peer.socket.destroy();
      assert.equal((await place.untilFailures(1000)).length, 1000);
      assert.equal(place.server.pendingPeers, 0);
      assert.equal(place.links.length, 1);
      await place.connect(context);
    });

    test('closes pending peers when it closes, accepts no more, and leaves links open', async (context) => {
      const place = await TestLinkServer.open(context, await openPlane());
      const caller = await place.connect(context);
      const owner = await place.untilLink();
      const [peer] = await connectIdle(context, place.port, 1);
      place.server.close();
      await peer?.received;
      assert.equal(await (await RawPeer.connect(context, place.port)).received, '');
      assert.deepEqual(place.failures, ['closed', 'closed']);
      caller.stream.write(Buffer.from('still here'));
      assert.equal((await owner.until(10)).toString(), 'still here');
    });
  });
}
