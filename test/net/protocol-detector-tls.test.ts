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
import { SIDE_A, SIDE_B, handshake, newToken, randomBytesOf } from '../support/bytes.ts';
import { makeIdentity } from '../support/certificates.ts';
import { TestRelay } from '../support/test-relay.ts';
import type { TestRelayOptions } from '../support/test-relay.ts';
import { until } from '../support/scratch.ts';

const { key, certificate: cert } = makeIdentity();
const certificate = {
  context: createSecureContext({ key, cert, secureOptions: constants.SSL_OP_NO_RENEGOTIATION }),
};

/** A client that speaks TLS, and what lies below it. */
interface Client {
  readonly socket: Socket;
  readonly secured: TLSSocket;
}

async function open(context: TestContext, options: TestRelayOptions): Promise<TestRelay> {
  const house = await TestRelay.open({ certificate, ...options });
  context.after(() => house.close());
  return house;
}

async function dial(context: TestContext, house: TestRelay): Promise<Socket> {
  const socket = connect({ port: house.tcpPort, host: '127.0.0.1', allowHalfOpen: true });
  context.after(() => socket.destroy());
  await once(socket, 'connect');
  return socket;
}

async function dialTls(
  context: TestContext,
  house: TestRelay,
  maxVersion: 'TLSv1.2' | 'TLSv1.3',
): Promise<Client> {
  const socket = await dial(context, house);
  // A stream in between leaves the socket to whoever wants to write on it what is no TLS.
  const between = Duplex.from({ readable: socket, writable: socket });
  between.on('error', () => undefined);
  const secured = connectTls({ socket: between, rejectUnauthorized: false, maxVersion });
  secured.on('error', () => undefined);
  await once(secured, 'secureConnect');
  return { socket, secured };
}

/** What a client says first. */
async function clientHello(): Promise<Uint8Array> {
  const [here, there] = duplexPair();
  const secured = connectTls({ socket: here });
  const [hello]: unknown[] = await once(there, 'data');
  secured.destroy();
  assert.ok(hello instanceof Uint8Array);
  return hello;
}

for (const backend of ['shared buffer', 'standard streams'] as const) {
  const planeOptions = { standardStreams: backend === 'standard streams' };

  describe(`a client that speaks TLS, by ${backend}`, () => {
    for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
      test(`is gone with a damaged record, and so its partner is told: ${version}`, async (context) => {
        const house = await open(context, planeOptions);
        const { socket, secured } = await dialTls(context, house, version);
        const token = newToken();
        secured.write(handshake(token, SIDE_A));
        const partner = await house.connect('tcp');
        await partner.send(handshake(token, SIDE_B));
        await once(secured, 'data');
        const alert = once(secured, 'error');
        const noise = Buffer.alloc(40, 7);
        socket.write(Buffer.concat([Buffer.of(0x17, 3, 3, 0, noise.length), noise]));
        assert.deepEqual(await partner.closed, { reset: false, code: null });
        assert.match(String(await alert), /bad record mac/iu);
        socket.end();
        await until(() => house.admission.connections === 0);
        assert.deepEqual(
          house.summaries.map(({ mood, totalBytes }) => [mood, totalBytes]),
          [['happy', 0]],
        );
      });
    }

    for (const isReset of [true, false]) {
      const what = isReset ? 'is gone with a reset' : 'loses nothing';
      test(`${what}, where its partner does not read and the relay has looked after it`, async (context) => {
        const house = await open(context, planeOptions);
        const { socket, secured } = await dialTls(context, house, 'TLSv1.3');
        const token = newToken();
        secured.write(handshake(token, SIDE_A));
        const partner = await house.connect('tcp');
        await partner.send(handshake(token, SIDE_B));
        await partner.until(3);
        partner.pause();
        const payload = randomBytesOf(1, 16_000_000);
        secured.write(payload);
        await house.untilStalled();
        if (isReset) socket.resetAndDestroy();
        // The first look sees how much has been delivered, and the next that it was no more.
        for (let look = 0; look < 3; look += 1) house.sessions.sweep();
        if (isReset) {
          await until(() => house.sessions.pairs === 0);
        } else {
          partner.resume();
          assert.ok((await partner.until(3 + payload.length)).subarray(3).equals(payload));
          await partner.send('back');
          partner.end();
          assert.equal(await text(secured), 'ok\nback');
        }
      });
    }

    test('gets no second handshake', async (context) => {
      const house = await open(context, planeOptions);
      const options = { port: house.tcpPort, host: '127.0.0.1', rejectUnauthorized: false };
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
      await until(() => house.admission.connections === 0);
    });

    for (const [when, options, act] of [
      ['its time is up', { timeouts: { handshakeMs: 200 } }, () => undefined],
      ['the relay stops', {}, (house: TestRelay) => house.sessions.drain(60_000, AbortSignal.abort())],
    ] as const) {
      test(`and has not finished its handshake when ${when} is not waited for`, async (context) => {
        const house = await open(context, { ...planeOptions, ...options });
        const socket = await dial(context, house);
        socket.write(await clientHello());
        // The relay has answered, and the client says nothing more.
        await once(socket, 'data');
        const ended = once(socket, 'end');
        await act(house);
        await ended;
        // It leaves its own end open.
        await until(() => house.admission.connections === 0 && house.sessions.bufferedBytes === 0);
        assert.deepEqual(
          house.summaries.map(({ mood }) => mood),
          ['empty'],
        );
      });
    }
  });
}
