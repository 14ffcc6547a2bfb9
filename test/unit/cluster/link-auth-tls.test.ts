import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { hkdfSync } from 'node:crypto';
import { once } from 'node:events';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { TLSSocket, connect as connectTls, createSecureContext } from 'node:tls';
import { LinkTls } from '../../../src/cluster/link-auth.ts';
import { connectLink } from '../../../src/cluster/link-client.ts';
import type { LinkClientOptions } from '../../../src/cluster/link-client.ts';
import type { IoBackend } from '../../../src/transport/io-backend.ts';
import { randomBytesOf } from '../../support/bytes.ts';
import { makeIdentity } from '../../support/certificates.ts';
import {
  KEY,
  LOOPBACK,
  LinkEnd,
  TestLinkServer,
  IO_BACKENDS,
  SECRET,
  RawPeer,
  connectErrorCode,
  serveImpostor,
  exerciseLink,
} from './link-fixture.ts';

const TLS = new LinkTls(SECRET);
const TLS_OFFER = 'transit-relay-cluster/2 tls\n';

const CONNECT_AND_RESET = `
  const { connect } = require('node:net');
  for (let index = 0; index < 5; index += 1) {
    const socket = connect(Number(process.argv[1]), '127.0.0.1', () => socket.resetAndDestroy());
  }
`;

function linkOptions(backend: IoBackend, port: number, tls: LinkTls | null): LinkClientOptions {
  return {
    backend,
    key: KEY,
    tls,
    networks: LOOPBACK,
    address: { host: '127.0.0.1', port },
    timeoutMs: 30_000,
  };
}

/** Forwards connections to `port`, and records all bytes. */
async function eavesdropper(
  context: TestContext,
  port: number,
): Promise<{ port: number; captured: () => Buffer }> {
  const buffers: Buffer[] = [];
  const own = await serveImpostor(context, (socket) => {
    const upstream = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
    upstream.on('error', () => undefined);
    for (const [from, to] of [
      [socket, upstream],
      [upstream, socket],
    ] as const)
      from.on('data', (bytes: Buffer) => buffers.push(bytes)).pipe(to);
  });
  return { port: own, captured: () => Buffer.concat(buffers) };
}

/** Forwards connections to `port`, but replaces the first line that comes from there. */
async function attacker(context: TestContext, port: number, line: string): Promise<number> {
  return await serveImpostor(context, (socket) => {
    const upstream = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
    upstream.on('error', () => socket.destroy());
    upstream.on('close', () => socket.destroy());
    socket.on('close', () => upstream.destroy());
    socket.pipe(upstream);
    upstream.once('data', (first: Buffer) => {
      socket.write(line);
      socket.write(first.subarray(first.indexOf('\n') + 1));
      upstream.pipe(socket);
    });
  });
}

/** Offers TLS, and then is the server end of TLS with a certificate instead of the pre-shared key. */
function serveTlsWithCertificate(socket: Socket): void {
  const { key, certificate } = makeIdentity('127.0.0.1');
  socket.write(TLS_OFFER);
  const secured = new TLSSocket(socket, {
    isServer: true,
    secureContext: createSecureContext({ key, cert: certificate }),
  });
  secured.on('error', () => undefined);
}

for (const [name, openBackend] of IO_BACKENDS) {
  describe(`TLS on links over ${name}`, () => {
    test('passes bytes both ways, and FINs', async (context) => {
      const testServer = await TestLinkServer.open(context, await openBackend(), TLS);
      const caller = await testServer.connect(context, { tls: new LinkTls(SECRET) });
      const owner = await testServer.untilLink();
      await exerciseLink(caller, owner);
      assert.deepEqual(testServer.failures, []);
    });

    test('encrypts all bytes after the TLS offer', async (context) => {
      const backend = await openBackend();
      const testServer = await TestLinkServer.open(context, backend, TLS);
      const proxy = await eavesdropper(context, testServer.port);
      const { stream, firstBytes } = await connectLink(linkOptions(backend, proxy.port, TLS));
      const caller = new LinkEnd(stream, firstBytes);
      context.after(() => caller.stream.abort());
      const owner = await testServer.untilLink();
      const line = Buffer.from(`please relay ${'ab'.repeat(32)}\n`);
      caller.stream.write(line);
      assert.ok((await owner.until(line.length)).equals(line));
      owner.stream.write(line);
      assert.ok((await caller.until(line.length)).equals(line));
      const captured = proxy.captured().toString('latin1');
      // The TLS handshake record follows immediately (RFC 8446, 5.1).
      assert.ok(captured.startsWith(`${TLS_OFFER}\u0016\u0003`));
      assert.ok(!captured.includes('please relay'));
      // Once in the offer, and once as the identity of the pre-shared key in the ClientHello. There is no
      // other authentication.
      assert.equal(captured.split('transit-relay-cluster/2').length, 3);
    });

    test('fails at both ends if the secrets differ', async (context) => {
      const backend = await openBackend();
      const testServer = await TestLinkServer.open(context, backend, TLS);
      assert.equal(
        await connectErrorCode(linkOptions(backend, testServer.port, new LinkTls('another secret'))),
        'secret',
      );
      assert.deepEqual(await testServer.untilFailures(1), ['secret']);
      assert.equal(testServer.server.pendingPeers, 0);
    });

    test('is reported by the caller if only one end uses it', async (context) => {
      const backend = await openBackend();
      const testServer = await TestLinkServer.open(context, backend, TLS);
      assert.equal(await connectErrorCode(linkOptions(backend, testServer.port, null)), 'tls');
      const plain = await TestLinkServer.open(context, backend);
      assert.equal(await connectErrorCode(linkOptions(backend, plain.port, TLS)), 'tls');
      assert.deepEqual(
        [await testServer.untilFailures(1), await plain.untilFailures(1)],
        [['disconnected'], ['disconnected']],
      );
    });

    test('does not accept a certificate instead of the secret, even if Node.js does not check certificates', async (context) => {
      const port = await serveImpostor(context, serveTlsWithCertificate);
      assert.equal(await connectErrorCode(linkOptions(await openBackend(), port, TLS)), 'not a relay');
      process.env['NODE_TLS_REJECT_UNAUTHORIZED'] = '0';
      context.after(() => delete process.env['NODE_TLS_REJECT_UNAUTHORIZED']);
      assert.equal(await connectErrorCode(linkOptions(await openBackend(), port, TLS)), 'not a relay');
    });

    test('rejects a downgraded link at both ends', async (context) => {
      const backend = await openBackend();
      const secured = await TestLinkServer.open(context, backend, TLS);
      const plain = await TestLinkServer.open(context, backend);
      const [tls, nonce] = [TLS_OFFER, `transit-relay-cluster/2 ${'0'.repeat(64)}\n`];
      // The attacker replaces the first line of the owner.
      for (const [testServer, line, callerTls, code, failure] of [
        [secured, nonce, TLS, 'tls', 'disconnected'],
        [secured, nonce, null, 'not a relay', 'not a relay'],
        [plain, tls, TLS, 'not a relay', 'not a relay'],
        [plain, tls, null, 'tls', 'disconnected'],
        [secured, 'transit-relay-cluster/1 tls\n', TLS, 'version', 'disconnected'],
      ] as const) {
        const before = testServer.failures.length;
        const port = await attacker(context, testServer.port, line);
        const got = await connectErrorCode(linkOptions(backend, port, callerTls));
        assert.ok(got === code || got === 'unreachable', `${line} ${got}`);
        assert.equal((await testServer.untilFailures(before + 1)).at(-1), failure, line);
        assert.equal(testServer.links.length, 0);
      }
    });

    test('rejects a caller with the secret that uses another version inside TLS', async (context) => {
      const testServer = await TestLinkServer.open(context, await openBackend(), TLS);
      const psk = Buffer.from(hkdfSync('sha256', SECRET, '', 'transit-relay-cluster link TLS', 32));
      for (const [identity, isAccepted] of [
        ['transit-relay-cluster', false],
        ['transit-relay-cluster/1', false],
        ['transit-relay-cluster/3', false],
        ['transit-relay-cluster/2', true],
      ] as const) {
        const peer = await RawPeer.connect(context, testServer.port);
        assert.equal(`${await peer.untilLine()}\n`, TLS_OFFER);
        peer.socket.removeAllListeners('data');
        const secured = connectTls({
          socket: peer.socket,
          ciphers: 'TLS_AES_128_GCM_SHA256',
          minVersion: 'TLSv1.3',
          pskCallback: () => ({ psk, identity }),
          checkServerIdentity: () => undefined,
        });
        secured.on('error', () => undefined);
        if (isAccepted) await testServer.untilLink();
        else await assert.rejects(once(secured, 'close'));
      }
      assert.deepEqual([testServer.links.length, testServer.failures], [1, Array(3).fill('not a relay')]);
    });

    for (const [behaviour, output, code] of [
      ['continues without TLS', `${TLS_OFFER}and so on`, 'not a relay'],
      ['sends random bytes instead of TLS', [TLS_OFFER, randomBytesOf(3, 5000)], 'not a relay'],
      ['uses a later version', 'transit-relay-cluster/3 tls\n', 'version'],
      ['uses an earlier version', 'transit-relay-cluster/1 tls\n', 'version'],
      ['speaks another protocol', 'SSH-2.0-OpenSSH_9.2p1\r\n', 'not a relay'],
    ] as const) {
      test(`fails if the owner ${behaviour}`, async (context) => {
        const port = await serveImpostor(context, (socket) => {
          const [first, second] = typeof output === 'string' ? [output] : output;
          socket.write(first);
          // Random bytes are sent in reply to the caller's first record.
          if (second !== undefined) socket.once('data', () => socket.write(second));
        });
        assert.equal(await connectErrorCode(linkOptions(await openBackend(), port, TLS)), code);
      });
    }

    test('accepts no untrusted peer, neither without TLS nor with TLS without the secret', async (context) => {
      const testServer = await TestLinkServer.open(context, await openBackend(), TLS);
      const peers: RawPeer[] = [];
      for (const bytes of [
        'GET / HTTP/1.1\r\n\r\n',
        randomBytesOf(4, 100_000),
        `please relay ${'0'.repeat(64)}\n`,
      ]) {
        const peer = await RawPeer.connect(context, testServer.port);
        assert.equal(`${await peer.untilLine()}\n`, TLS_OFFER);
        peer.socket.write(bytes);
        peers.push(peer);
      }
      const tlsPeer = await RawPeer.connect(context, testServer.port);
      await tlsPeer.untilLine();
      const secured = connectTls({ socket: tlsPeer.socket, rejectUnauthorized: false });
      await assert.rejects(once(secured, 'secureConnect'));
      for (const peer of peers) await peer.received;
      assert.deepEqual(await testServer.untilFailures(4), Array(4).fill('not a relay'));
      assert.equal(testServer.server.pendingPeers, 0);
      const link = await testServer.connect(context, { tls: TLS });
      link.stream.write(Buffer.from('hello'));
      assert.equal((await (await testServer.untilLink()).until(5)).toString(), 'hello');
    });

    test('keeps no slot for peers that disconnect before they are accepted', async (context) => {
      const testServer = await TestLinkServer.open(context, await openBackend(), TLS);
      // This process accepts no connections until the command has ended.
      const { status } = spawnSync(process.execPath, ['-e', CONNECT_AND_RESET, String(testServer.port)]);
      assert.equal(status, 0);
      assert.deepEqual(await testServer.untilFailures(5), Array(5).fill('disconnected'));
      assert.equal(testServer.server.pendingPeers, 0);
    });

    test('rejects replayed bytes of a relay', async (context) => {
      const backend = await openBackend();
      const testServer = await TestLinkServer.open(context, backend, TLS);
      const recorded: Buffer[] = [];
      const port = await serveImpostor(context, (socket) => {
        const upstream = connect({ port: testServer.port, host: '127.0.0.1' });
        socket.on('data', (bytes: Buffer) => recorded.push(bytes)).pipe(upstream);
        upstream.pipe(socket);
      });
      const { stream } = await connectLink(linkOptions(backend, port, TLS));
      context.after(() => stream.abort());
      await testServer.untilLink();
      const replaying = await RawPeer.connect(context, testServer.port);
      await replaying.untilLine();
      replaying.socket.write(Buffer.concat(recorded));
      await replaying.received;
      assert.equal((await testServer.untilFailures(1)).length, 1);
      assert.equal(testServer.links.length, 1);
    });
  });
}
