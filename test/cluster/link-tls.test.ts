import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { TLSSocket, connect as connectTls, createSecureContext } from 'node:tls';
import { callRelay } from '../../src/cluster/link-call.ts';
import type { LinkCall } from '../../src/cluster/link-call.ts';
import { LinkTls } from '../../src/cluster/link-tls.ts';
import type { DataPlane } from '../../src/net/data-plane.ts';
import { randomBytesOf } from '../support/bytes.ts';
import { makeIdentity } from '../support/certificates.ts';
import {
  KEY,
  LOOPBACK,
  LinkEnd,
  LinkPlace,
  PLANES,
  SECRET,
  Stranger,
  codeOf,
  impostor,
  useUp,
} from './link-place.ts';

const TLS = new LinkTls(SECRET);
const INVITATION = 'transit-relay-cluster/1 tls\n';

const COME_AND_RESET = `
  const { connect } = require('node:net');
  for (let come = 0; come < 5; come += 1) {
    const socket = connect(Number(process.argv[1]), '127.0.0.1', () => socket.resetAndDestroy());
  }
`;

function callOf(plane: DataPlane, port: number, tls: LinkTls | null): LinkCall {
  return {
    plane,
    key: KEY,
    tls,
    networks: LOOPBACK,
    address: { host: '127.0.0.1', port },
    timeoutMs: 30_000,
  };
}

/** Passes bytes on to `port`, and sees them. */
async function eavesdropper(
  context: TestContext,
  port: number,
): Promise<{ port: number; seen: () => Buffer }> {
  const pieces: Buffer[] = [];
  const own = await impostor(context, (socket) => {
    const onward = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
    onward.on('error', () => undefined);
    for (const [from, to] of [
      [socket, onward],
      [onward, socket],
    ] as const)
      from.on('data', (bytes: Buffer) => pieces.push(bytes)).pipe(to);
  });
  return { port: own, seen: () => Buffer.concat(pieces) };
}

/** Invites, and then is the called end of TLS with a certificate, which any browser might trust. */
function certified(socket: Socket): void {
  const { key, certificate } = makeIdentity('127.0.0.1');
  socket.write(INVITATION);
  const secured = new TLSSocket(socket, {
    isServer: true,
    secureContext: createSecureContext({ key, cert: certificate }),
  });
  secured.on('error', () => undefined);
}

for (const [name, openPlane] of PLANES) {
  describe(`TLS on links over ${name}`, () => {
    test('passes bytes both ways, and FINs', async (context) => {
      const place = await LinkPlace.open(context, await openPlane(), TLS);
      const caller = await place.call(context, { tls: new LinkTls(SECRET) });
      const owner = await place.link();
      await useUp(caller, owner);
      assert.deepEqual(place.failures, []);
    });

    test('hides what is said, and is told apart from the first byte on', async (context) => {
      const plane = await openPlane();
      const place = await LinkPlace.open(context, plane, TLS);
      const between = await eavesdropper(context, place.port);
      const { wire, firstBytes } = await callRelay(callOf(plane, between.port, TLS));
      const caller = new LinkEnd(wire, firstBytes);
      context.after(() => caller.wire.destroy());
      const owner = await place.link();
      const line = Buffer.from(`please relay ${'ab'.repeat(32)}\n`);
      caller.wire.write(line);
      assert.ok((await owner.until(line.length)).equals(line));
      owner.wire.write(line);
      assert.ok((await caller.until(line.length)).equals(line));
      const seen = between.seen().toString('latin1');
      // A TLS record that opens a handshake comes right behind (RFC 8446, 5.1).
      assert.ok(seen.startsWith(`${INVITATION}\u0016\u0003`));
      assert.ok(!seen.includes('please relay'));
      // The greeting is inside.
      assert.equal(seen.split('transit-relay-cluster/1').length, 2);
    });

    test('fails at both ends where their secrets differ', async (context) => {
      const plane = await openPlane();
      const place = await LinkPlace.open(context, plane, TLS);
      assert.equal(await codeOf(callOf(plane, place.port, new LinkTls('another secret'))), 'secret');
      assert.deepEqual(await place.failed(1), ['secret']);
      assert.equal(place.door.guests, 0);
    });

    test('is told of where only one of the two wants it', async (context) => {
      const plane = await openPlane();
      const place = await LinkPlace.open(context, plane, TLS);
      assert.equal(await codeOf(callOf(plane, place.port, null)), 'tls');
      const plain = await LinkPlace.open(context, plane);
      assert.equal(await codeOf(callOf(plane, plain.port, TLS)), 'tls');
      assert.deepEqual([await place.failed(1), await plain.failed(1)], [['left'], ['left']]);
    });

    test('does not take a certificate for the secret', async (context) => {
      const port = await impostor(context, certified);
      assert.equal(await codeOf(callOf(await openPlane(), port, TLS)), 'not a relay');
    });

    for (const [what, words, code] of [
      ['goes on in the clear', `${INVITATION}and so on`, 'not a relay'],
      ['has noise for TLS', [INVITATION, randomBytesOf(3, 5000)], 'not a relay'],
      ['speaks another version', 'transit-relay-cluster/2 tls\n', 'version'],
      ['speaks another protocol', 'SSH-2.0-OpenSSH_9.2p1\r\n', 'not a relay'],
    ] as const) {
      test(`fails where the one who is called ${what}`, async (context) => {
        const port = await impostor(context, (socket) => {
          const [first, second] = typeof words === 'string' ? [words] : words;
          socket.write(first);
          // Noise comes in answer to the caller's first record.
          if (second !== undefined) socket.once('data', () => socket.write(second));
        });
        assert.equal(await codeOf(callOf(await openPlane(), port, TLS)), code);
      });
    }

    test('lets no stranger in: not without TLS, not with a TLS of its own', async (context) => {
      const place = await LinkPlace.open(context, await openPlane(), TLS);
      const strangers: Stranger[] = [];
      for (const bytes of [
        'GET / HTTP/1.1\r\n\r\n',
        randomBytesOf(4, 100_000),
        `please relay ${'0'.repeat(64)}\n`,
      ]) {
        const stranger = await Stranger.connect(context, place.port);
        assert.equal(`${await stranger.line()}\n`, INVITATION);
        stranger.socket.write(bytes);
        strangers.push(stranger);
      }
      const browser = await Stranger.connect(context, place.port);
      await browser.line();
      const secured = connectTls({ socket: browser.socket, rejectUnauthorized: false });
      await assert.rejects(once(secured, 'secureConnect'));
      for (const stranger of strangers) await stranger.heard;
      assert.deepEqual(await place.failed(4), Array(4).fill('not a relay'));
      assert.equal(place.door.guests, 0);
      const link = await place.call(context, { tls: TLS });
      link.wire.write(Buffer.from('hello'));
      assert.equal((await (await place.link()).until(5)).toString(), 'hello');
    });

    test('keeps no place for who is gone before it is accepted', async (context) => {
      const place = await LinkPlace.open(context, await openPlane(), TLS);
      // All of it while nothing is accepted here.
      const { status } = spawnSync(process.execPath, ['-e', COME_AND_RESET, String(place.port)]);
      assert.equal(status, 0);
      assert.deepEqual(await place.failed(5), Array(5).fill('left'));
      assert.equal(place.door.guests, 0);
    });

    test('lets nobody in who says again what a relay said', async (context) => {
      const plane = await openPlane();
      const place = await LinkPlace.open(context, plane, TLS);
      const said: Buffer[] = [];
      const port = await impostor(context, (socket) => {
        const onward = connect({ port: place.port, host: '127.0.0.1' });
        socket.on('data', (bytes: Buffer) => said.push(bytes)).pipe(onward);
        onward.pipe(socket);
      });
      const { wire } = await callRelay(callOf(plane, port, TLS));
      context.after(() => wire.destroy());
      await place.link();
      const again = await Stranger.connect(context, place.port);
      await again.line();
      again.socket.write(Buffer.concat(said));
      await again.heard;
      assert.equal((await place.failed(1)).length, 1);
      assert.equal(place.links.length, 1);
    });
  });
}
