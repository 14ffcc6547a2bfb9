import assert from 'node:assert/strict';
import { describe, mock, test } from 'node:test';
import type { TestContext } from 'node:test';
import { LinkClientAuth, linkAuthKey } from '../../../src/cluster/link-auth.ts';
import { MAX_PENDING_PEERS } from '../../../src/cluster/link-server.ts';
import { PeerNetworks } from '../../../src/cluster/link-client.ts';
import { parseCidrs } from '../../../src/config/trusted-proxies.ts';
import { randomBytesOf } from '../../support/bytes.ts';
import { Dice } from '../../support/dice.ts';
import { IO_BACKENDS, RawPeer, SECRET, TestLinkServer, exerciseLink } from './link-fixture.ts';

const OPENING = /^transit-relay-cluster\/2 [0-9a-f]{64}\n$/u;

/** Authenticates as a caller would, and returns the line to send. */
async function authLineFor(peer: RawPeer, secret = SECRET): Promise<string> {
  const auth = new LinkClientAuth(linkAuthKey(secret));
  return auth.receive(Buffer.from(`${await peer.untilLine()}\n`)).send;
}

/** Mocks timers until the end of the test. */
function mockTimers(context: TestContext): void {
  mock.timers.enable({ apis: ['setTimeout'] });
  context.after(() => mock.timers.reset());
}

/** Opens `count` connections, one after the other, which send nothing. Each has received the first line. */
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

for (const [name, openBackend] of IO_BACKENDS) {
  describe(`a link server over ${name}`, () => {
    test('accepts peers with the secret, and passes bytes both ways', async (context) => {
      const testServer = await TestLinkServer.open(context, await openBackend());
      const caller = await testServer.connect(context);
      const owner = await testServer.untilLink();
      await exerciseLink(caller, owner);
      assert.deepEqual(testServer.failures, []);
      assert.equal(testServer.server.pendingPeers, 0);
    });

    test('accepts any split of the caller’s line, and keeps the bytes that follow it', async (context) => {
      const testServer = await TestLinkServer.open(context, await openBackend());
      const random = new Dice(5);
      for (let round = 0; round < 25; round += 1) {
        const peer = await RawPeer.connect(context, testServer.port);
        const payload = randomBytesOf(round, 300);
        const bytes = Buffer.concat([Buffer.from(await authLineFor(peer)), payload]);
        for (let at = 0; at < bytes.length;) {
          const size = round === 0 ? 1 : random.size(200);
          await peer.send(bytes.subarray(at, at + size));
          at += size;
        }
        const link = await testServer.untilLink(round);
        assert.ok((await link.until(payload.length)).equals(payload));
        assert.match(await peer.untilLine(1), /^[0-9a-f]{64}$/u);
      }
    });

    test('keeps any number of bytes that arrive together with the last line', async (context) => {
      const testServer = await TestLinkServer.open(context, await openBackend());
      const peer = await RawPeer.connect(context, testServer.port);
      const payload = randomBytesOf(3, 400_000);
      await peer.send(Buffer.concat([Buffer.from(await authLineFor(peer)), payload]));
      const link = await testServer.untilLink();
      assert.ok((await link.until(payload.length)).equals(payload));
    });

    test('reports a wrong secret to the peer, closes, and ignores further bytes', async (context) => {
      const testServer = await TestLinkServer.open(context, await openBackend());
      const peer = await RawPeer.connect(context, testServer.port);
      await peer.send(await authLineFor(peer, 'another'));
      assert.match(await peer.received, /^transit-relay-cluster\/2 [0-9a-f]{64}\nwrong secret\n$/u);
      assert.deepEqual(testServer.failures, ['secret']);
    });

    test('rejects a replayed handshake', async (context) => {
      const testServer = await TestLinkServer.open(context, await openBackend());
      const first = await RawPeer.connect(context, testServer.port);
      const recorded = await authLineFor(first);
      await first.send(recorded);
      await testServer.untilLink();
      const second = await RawPeer.connect(context, testServer.port);
      await second.untilLine();
      await second.send(recorded);
      await second.received;
      assert.deepEqual(testServer.failures, ['secret']);
      assert.equal(testServer.links.length, 1);
    });

    const invalidInputs: readonly (readonly [kind: string, bytes: Uint8Array | string, fault: string])[] = [
      ['HTTP', 'GET / HTTP/1.1\r\n\r\n', 'not a relay'],
      ['a handshake', `please relay ${'0'.repeat(64)}\n`, 'not a relay'],
      ['TLS', Buffer.from('16030100', 'hex'), 'not a relay'],
      ['a megabyte of noise', randomBytesOf(9, 1_000_000), 'not a relay'],
      ['a megabyte of a line', `transit-relay-cluster/2 ${'0'.repeat(1_000_000)}`, 'not a relay'],
      ['another version', `transit-relay-cluster/3 ${'0'.repeat(64)}\n`, 'version'],
    ];
    for (const [kind, bytes, error] of invalidInputs) {
      test(`closes without a reply on ${kind}`, async (context) => {
        const testServer = await TestLinkServer.open(context, await openBackend());
        const peer = await RawPeer.connect(context, testServer.port);
        await peer.untilLine();
        peer.socket.write(bytes);
        assert.match(await peer.received, OPENING);
        assert.deepEqual(testServer.failures, [error]);
        assert.equal(testServer.server.pendingPeers, 0);
      });
    }

    test('forgets peers that disconnect, by a FIN or a reset', async (context) => {
      const testServer = await TestLinkServer.open(context, await openBackend());
      const [ending, resetting] = await connectIdle(context, testServer.port, 2);
      await ending?.send('transit-');
      ending?.socket.end();
      assert.deepEqual(await testServer.untilFailures(1), ['disconnected']);
      resetting?.socket.resetAndDestroy();
      assert.deepEqual(await testServer.untilFailures(2), ['disconnected', 'disconnected']);
      assert.equal(testServer.server.pendingPeers, 0);
    });

    test('closes peers that are not authenticated after five seconds, even if they keep sending', async (context) => {
      const testServer = await TestLinkServer.open(context, await openBackend());
      mockTimers(context);
      const [silent, slow] = await connectIdle(context, testServer.port, 2);
      assert.ok(slow !== undefined && silent !== undefined);
      const line = await authLineFor(slow);
      for (let chunk = 0; chunk < 9; chunk += 1) {
        await slow.send(line.slice(chunk * 10, chunk * 10 + 10));
        mock.timers.tick(500);
      }
      mock.timers.tick(499);
      assert.equal(testServer.server.pendingPeers, 2);
      mock.timers.tick(1);
      assert.deepEqual(testServer.failures, ['timeout', 'timeout']);
      assert.equal(testServer.server.pendingPeers, 0);
      assert.match(await silent.received, OPENING);
      await slow.received;
    });

    test('keeps authenticated links open without any traffic', async (context) => {
      const testServer = await TestLinkServer.open(context, await openBackend());
      mockTimers(context);
      const caller = await testServer.connect(context);
      const owner = await testServer.untilLink();
      for (let tick = 0; tick < 10; tick += 1) mock.timers.tick(3_600_000);
      caller.stream.write(Buffer.from('still here'));
      assert.equal((await owner.until(10)).toString(), 'still here');
      assert.deepEqual(testServer.failures, []);
    });

    test('closes connections from outside its networks immediately, and they use no slots', async (context) => {
      const networks = new PeerNetworks(parseCidrs('127.0.0.2/32'), '127.0.0.2');
      const testServer = await TestLinkServer.open(context, await openBackend(), null, networks);
      for (let connection = 0; connection <= MAX_PENDING_PEERS; connection += 1)
        assert.equal(await (await RawPeer.connect(context, testServer.port)).received, '');
      assert.equal(testServer.server.pendingPeers, 0);
      assert.deepEqual(new Set(await testServer.untilFailures(MAX_PENDING_PEERS + 1)), new Set(['address']));
      const [peer] = await connectIdle(context, testServer.port, 1, '127.0.0.2');
      assert.ok(peer);
      assert.equal(testServer.server.pendingPeers, 1);
    });

    test('rejects peers beyond its pending slots, and accepts again when one has left', async (context) => {
      const testServer = await TestLinkServer.open(context, await openBackend());
      mockTimers(context);
      const peers = await connectIdle(context, testServer.port, MAX_PENDING_PEERS);
      const excess = await RawPeer.connect(context, testServer.port);
      assert.equal(await excess.received, '');
      assert.deepEqual(testServer.failures, ['evicted']);
      await assert.rejects(testServer.connect(context), { code: 'unreachable' });
      peers[20]?.socket.destroy();
      assert.deepEqual(await testServer.untilFailures(3), ['evicted', 'evicted', 'disconnected']);
      await testServer.connect(context);
      assert.equal(testServer.server.pendingPeers, MAX_PENDING_PEERS - 1);
    });

    test('evicts slow peers for new ones: untrusted peers lock out no relay', async (context) => {
      const testServer = await TestLinkServer.open(context, await openBackend());
      mockTimers(context);
      const peers = await connectIdle(context, testServer.port, MAX_PENDING_PEERS);
      mock.timers.tick(499);
      await assert.rejects(testServer.connect(context), { code: 'unreachable' });
      mock.timers.tick(1);
      await testServer.connect(context);
      await peers[0]?.received;
      assert.deepEqual(testServer.failures, ['evicted', 'evicted']);
      // The new peer is a link now and has freed its slot.
      assert.equal(testServer.server.pendingPeers, MAX_PENDING_PEERS - 1);
    });

    test('evicts one of very many peers of one address for a peer of another', async (context) => {
      const testServer = await TestLinkServer.open(context, await openBackend());
      mockTimers(context);
      const [onlyPeer] = await connectIdle(context, testServer.port, 1, '127.0.0.3');
      const otherPeers = await connectIdle(context, testServer.port, MAX_PENDING_PEERS - 1, '127.0.0.2');
      // Peers of this address evict neither other addresses nor each other.
      assert.equal(await (await RawPeer.connect(context, testServer.port, '127.0.0.2')).received, '');
      await testServer.connect(context);
      await otherPeers[0]?.received;
      assert.deepEqual(testServer.failures, ['evicted', 'evicted']);
      assert.equal(onlyPeer?.socket.readyState, 'open');
      assert.equal(otherPeers[1]?.socket.readyState, 'open');
    });

    test('evicts peers of both addresses if two addresses use all slots', async (context) => {
      const testServer = await TestLinkServer.open(context, await openBackend());
      mockTimers(context);
      await connectIdle(context, testServer.port, MAX_PENDING_PEERS / 2, '127.0.0.2');
      await connectIdle(context, testServer.port, MAX_PENDING_PEERS / 2, '127.0.0.3');
      assert.equal(await (await RawPeer.connect(context, testServer.port, '127.0.0.3')).received, '');
      const newcomers = await connectIdle(context, testServer.port, 2);
      assert.equal(testServer.server.pendingPeers, MAX_PENDING_PEERS);
      assert.deepEqual(testServer.failures, ['evicted', 'evicted', 'evicted']);
      assert.ok(newcomers.every(({ socket }) => socket.readyState === 'open'));
    });

    test('always has a slot for peers from a known network', async (context) => {
      const testServer = await TestLinkServer.open(context, await openBackend());
      await testServer.connect(context);
      mockTimers(context);
      for (let index = 0; index < MAX_PENDING_PEERS; index += 1)
        await connectIdle(context, testServer.port, 1, `127.0.1.${index + 1}`);
      assert.equal(await (await RawPeer.connect(context, testServer.port, '127.0.2.1')).received, '');
      assert.deepEqual(testServer.failures, ['evicted']);
      await testServer.connect(context);
      await testServer.untilLink(1);
      assert.deepEqual(testServer.failures, ['evicted', 'evicted']);
    });

    test('is not affected by a thousand untrusted peers: an existing link keeps working, and they get no reply', async (context) => {
      const testServer = await TestLinkServer.open(context, await openBackend());
      const caller = await testServer.connect(context);
      const owner = await testServer.untilLink();
      const bytes = randomBytesOf(4, 1_000_000);
      let mostPending = 0;
      const peers: RawPeer[] = [];
      for (let index = 0; index < 1000; index += 1) {
        const peer = await RawPeer.connect(context, testServer.port);
        peers.push(peer);
        if (index % 3 === 0) peer.socket.write('GET / HTTP/1.1\r\n\r\n');
        if (index % 3 === 1) peer.socket.write('transit-relay-');
        mostPending = Math.max(mostPending, testServer.server.pendingPeers);
        if (index % 100 === 0) caller.stream.write(bytes.subarray(index * 1000, (index + 100) * 1000));
      }
      assert.ok((await owner.until(bytes.length)).equals(bytes));
      assert.equal(mostPending, MAX_PENDING_PEERS);
      await testServer.untilFailures(1000 - MAX_PENDING_PEERS);
      for (const peer of peers) peer.socket.destroy();
      assert.equal((await testServer.untilFailures(1000)).length, 1000);
      assert.equal(testServer.server.pendingPeers, 0);
      assert.equal(testServer.links.length, 1);
      await testServer.connect(context);
    });

    test('closes pending peers when it closes, accepts no more, and leaves links open', async (context) => {
      const testServer = await TestLinkServer.open(context, await openBackend());
      const caller = await testServer.connect(context);
      const owner = await testServer.untilLink();
      const [peer] = await connectIdle(context, testServer.port, 1);
      testServer.server.close();
      await peer?.received;
      assert.equal(await (await RawPeer.connect(context, testServer.port)).received, '');
      assert.deepEqual(testServer.failures, ['closed', 'closed']);
      caller.stream.write(Buffer.from('still here'));
      assert.equal((await owner.until(10)).toString(), 'still here');
    });
  });
}
