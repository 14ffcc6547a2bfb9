import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { connect as connectTls, createSecureContext } from 'node:tls';
import { WebSocket } from 'ws';
import { AddressLimit } from '../../../src/limits/address-limit.ts';
import { TrustedProxies, parseCidrs } from '../../../src/config/trusted-proxies.ts';
import { SIDE_A, handshake, newToken } from '../../support/bytes.ts';
import { makeIdentity } from '../../support/certificates.ts';
import { TestRelay } from '../../support/test-relay.ts';
import type { TestRelayOptions } from '../../support/test-relay.ts';
import { until } from '../../support/scratch.ts';

const LOOPBACK = '127.0.0.1';

/** A relay that trusts 127.0.0.0/8 and 10.0.0.0/8, and allows one connection for each address. */
async function open(context: TestContext, options: TestRelayOptions = {}): Promise<TestRelay> {
  const addresses = new AddressLimit({ connectionsPerAddress: 1, newConnectionsPerAddress: null }, () =>
    performance.now(),
  );
  const proxies = new TrustedProxies(parseCidrs('127.0.0.0/8 10.0.0.0/8'));
  const relay = await TestRelay.open({
    proxies,
    ...options,
    limits: { addressLimit: addresses, ...options.limits },
  });
  context.after(() => relay.close());
  return relay;
}

const from = (address: string): string => `PROXY TCP4 ${address} 127.0.0.1 1111 4001\r\n`;

/** A WebSocket client, with the headers in its request and before it. */
interface RequestOptions {
  readonly relay: TestRelay;
  /** PROXY headers. */
  readonly before?: string;
  readonly forwardedFor?: string;
  readonly isTls?: boolean;
}

/** Returns the reply to a client, or `waits`. */
async function replyTo(context: TestContext, options: RequestOptions): Promise<string> {
  const { relay, before = '', forwardedFor, isTls = false } = options;
  const socket = connect(relay.tcpPort, LOOPBACK);
  context.after(() => socket.destroy());
  socket.write(before);
  const websocket = new WebSocket('ws://relay/', {
    createConnection: () => (isTls ? connectTls({ socket, rejectUnauthorized: false }) : socket),
    headers: forwardedFor === undefined ? {} : { 'x-forwarded-for': forwardedFor },
  });
  await once(websocket, 'open');
  const { waiting } = relay.sessions.liveCounts();
  let reply = '';
  websocket.on('message', (data: Buffer) => {
    reply = data.toString();
  });
  websocket.send(Buffer.from(handshake(newToken(), SIDE_A)));
  await until(() => reply !== '' || relay.sessions.liveCounts().waiting > waiting);
  return reply === '' ? 'waits' : reply;
}

describe('the address of a client behind trusted proxies', () => {
  test('is read from the first header, if that names a client', async (context) => {
    const relay = await open(context);
    const before = from('192.0.2.1');
    assert.equal(await replyTo(context, { relay, before, forwardedFor: '192.0.2.9' }), 'waits');
    assert.equal(await replyTo(context, { relay, before, forwardedFor: '192.0.2.8' }), 'busy\n');
    assert.equal(await replyTo(context, { relay, forwardedFor: '192.0.2.9' }), 'waits');
  });

  for (const [where, before] of [
    ['has not named the client', 'PROXY UNKNOWN\r\n'],
    ['was connected by another proxy', from('10.1.2.3')],
  ] as const) {
    test(`is read from X-Forwarded-For, if the last proxy ${where}`, async (context) => {
      const relay = await open(context);
      assert.equal(await replyTo(context, { relay, before, forwardedFor: '192.0.2.1' }), 'waits');
      assert.equal(await replyTo(context, { relay, before, forwardedFor: '192.0.2.2' }), 'waits');
      assert.equal(await replyTo(context, { relay, before, forwardedFor: '192.0.2.1' }), 'busy\n');
    });
  }

  test('is read inside TLS, too', async (context) => {
    const { key, certificate: cert } = makeIdentity();
    const relay = await open(context, { certificate: { context: createSecureContext({ key, cert }) } });
    for (const before of ['', 'PROXY UNKNOWN\r\n']) {
      const forwardedFor = `192.0.2.${before.length}`;
      assert.equal(await replyTo(context, { relay, before, forwardedFor, isTls: true }), 'waits');
      assert.equal(await replyTo(context, { relay, before, forwardedFor, isTls: true }), 'busy\n');
    }
    const before = from('192.0.2.77');
    assert.equal(await replyTo(context, { relay, before, isTls: true }), 'waits');
    assert.equal(await replyTo(context, { relay, before, isTls: true }), 'busy\n');
  });
});
