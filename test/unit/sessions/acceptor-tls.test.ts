import assert from 'node:assert/strict';
import { constants } from 'node:crypto';
import { once } from 'node:events';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { Duplex, duplexPair } from 'node:stream';
import { text } from 'node:stream/consumers';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { connect as connectTls, createSecureContext } from 'node:tls';
import type { TLSSocket } from 'node:tls';
import { SIDE_A, SIDE_B, handshake, newToken, randomBytesOf } from '../../support/bytes.ts';
import { makeIdentity } from '../../support/certificates.ts';
import { TestRelay } from '../../support/test-relay.ts';
import type { TestRelayOptions } from '../../support/test-relay.ts';
import { until } from '../../support/scratch.ts';

const { key, certificate: cert } = makeIdentity();
const certificate = {
  context: createSecureContext({ key, cert, secureOptions: constants.SSL_OP_NO_RENEGOTIATION }),
};

/** A TLS client and its socket. */
interface Client {
  readonly socket: Socket;
  readonly secured: TLSSocket;
}

async function open(context: TestContext, options: TestRelayOptions): Promise<TestRelay> {
  const relay = await TestRelay.open({ certificate, ...options });
  context.after(() => relay.close());
  return relay;
}

async function connectSocket(context: TestContext, relay: TestRelay): Promise<Socket> {
  const socket = connect({ port: relay.tcpPort, host: '127.0.0.1', allowHalfOpen: true });
  context.after(() => socket.destroy());
  await once(socket, 'connect');
  return socket;
}

async function connectTlsClient(
  context: TestContext,
  relay: TestRelay,
  maxVersion: 'TLSv1.2' | 'TLSv1.3',
): Promise<Client> {
  const socket = await connectSocket(context, relay);
  // With a stream in between, tests can write bytes to the socket that are not TLS.
  const stream = Duplex.from({ readable: socket, writable: socket });
  stream.on('error', () => undefined);
  const secured = connectTls({ socket: stream, rejectUnauthorized: false, maxVersion });
  secured.on('error', () => undefined);
  await once(secured, 'secureConnect');
  return { socket, secured };
}

/** The first bytes of a client. */
async function clientHello(): Promise<Uint8Array> {
  const [clientEnd, serverEnd] = duplexPair();
  const secured = connectTls({ socket: clientEnd });
  const [hello]: unknown[] = await once(serverEnd, 'data');
  secured.destroy();
  assert.ok(hello instanceof Uint8Array);
  return hello;
}

for (const backend of ['shared buffer', 'standard streams'] as const) {
  const backendOptions = { standardStreams: backend === 'standard streams' };

  describe(`a TLS client, with ${backend}`, () => {
    for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
      test(`is closed after a damaged record, and so is its partner: ${version}`, async (context) => {
        const relay = await open(context, backendOptions);
        const { socket, secured } = await connectTlsClient(context, relay, version);
        const token = newToken();
        secured.write(handshake(token, SIDE_A));
        const partner = await relay.connect('tcp');
        await partner.send(handshake(token, SIDE_B));
        await once(secured, 'data');
        const alert = once(secured, 'error');
        const garbage = Buffer.alloc(40, 7);
        socket.write(Buffer.concat([Buffer.of(0x17, 3, 3, 0, garbage.length), garbage]));
        assert.deepEqual(await partner.closed, { reset: false, code: null });
        assert.match(String(await alert), /bad record mac/iu);
        socket.end();
        await until(() => relay.admission.connections === 0);
        assert.deepEqual(
          relay.summaries.map(({ mood, totalBytes }) => [mood, totalBytes]),
          [['happy', 0]],
        );
      });
    }

    for (const isReset of [true, false]) {
      const behaviour = isReset ? 'is closed after a reset' : 'loses no bytes';
      test(`${behaviour} if its partner does not read and the relay has checked the stalled pair`, async (context) => {
        const relay = await open(context, backendOptions);
        const { socket, secured } = await connectTlsClient(context, relay, 'TLSv1.3');
        const token = newToken();
        secured.write(handshake(token, SIDE_A));
        const partner = await relay.connect('tcp');
        await partner.send(handshake(token, SIDE_B));
        await partner.until(3);
        partner.pause();
        const payload = randomBytesOf(1, 16_000_000);
        secured.write(payload);
        await relay.untilStalled();
        if (isReset) socket.resetAndDestroy();
        // The first sweep stores how much has been delivered, and the second one finds no progress.
        for (let sweeps = 0; sweeps < 3; sweeps += 1) relay.sessions.sweep();
        if (isReset) {
          await until(() => relay.sessions.pairs === 0);
        } else {
          partner.resume();
          assert.ok((await partner.until(3 + payload.length)).subarray(3).equals(payload));
          await partner.send('back');
          partner.end();
          assert.equal(await text(secured), 'ok\nback');
        }
      });
    }

    test('cannot renegotiate', async (context) => {
      const relay = await open(context, backendOptions);
      const options = { port: relay.tcpPort, host: '127.0.0.1', rejectUnauthorized: false };
      const secured = connectTls({ ...options, maxVersion: 'TLSv1.2' });
      context.after(() => secured.destroy());
      secured.resume();
      secured.on('error', () => undefined);
      await once(secured, 'secureConnect');
      const error = await new Promise<Error | null>((resolve) => {
        secured.renegotiate({}, resolve);
        secured.once('close', () => resolve(new Error('closed')));
      });
      assert.notEqual(error, null);
      secured.destroy();
      await until(() => relay.admission.connections === 0);
    });

    for (const [when, options, act] of [
      ['its handshake times out', { timeouts: { handshakeMs: 1000 } }, () => undefined],
      ['the relay drains', {}, (relay: TestRelay) => relay.sessions.drain(60_000, AbortSignal.abort())],
    ] as const) {
      test(`with an incomplete handshake is closed at once when ${when}`, async (context) => {
        const relay = await open(context, { ...backendOptions, ...options });
        const hello = await clientHello();
        const socket = await connectSocket(context, relay);
        socket.write(hello);
        // The relay has answered, and the client sends nothing more.
        await once(socket, 'data');
        const ended = once(socket, 'end');
        await act(relay);
        await ended;
        // The client keeps its own end open.
        await until(() => relay.admission.connections === 0 && relay.sessions.bufferedBytes === 0);
        assert.deepEqual(
          relay.summaries.map(({ mood }) => mood),
          ['empty'],
        );
      });
    }
  });
}
