import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { connect as connectTls, createSecureContext } from 'node:tls';
import { WebSocket } from 'ws';
import { AddressLimit } from '../../src/limits/address-limit.ts';
import { TrustedProxies, parseCidrs } from '../../src/config/trusted-proxies.ts';
import { SIDE_A, handshake, newToken } from '../support/bytes.ts';
import { makeIdentity } from '../support/certificates.ts';
import { TestRelay } from '../support/test-relay.ts';
import type { TestRelayOptions } from '../support/test-relay.ts';
import { until } from '../support/scratch.ts';

const LOOPBACK = '127.0.0.1';

/** A house that trusts this machine and 10.0.0.0/8, where each address may have one connection. */
async function open(context: TestContext, options: TestRelayOptions = {}): Promise<TestRelay> {
  const addresses = new AddressLimit({ maxOpen: 1, newConnectionRate: null }, () => performance.now());
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

/** A WebSocket client, and what is in front of its request. */
interface Visit {
  readonly house: TestRelay;
  /** Headers of the PROXY protocol. */
  readonly before?: string;
  readonly forwardedFor?: string;
  readonly isTls?: boolean;
}

/** The word that a client hears, or `waits`. */
async function heard(context: TestContext, visit: Visit): Promise<string> {
  const { house: relay, before = '', forwardedFor, isTls = false } = visit;
  const socket = connect(relay.tcpPort, LOOPBACK);
  context.after(() => socket.destroy());
  socket.write(before);
  const websocket = new WebSocket('ws://relay/', {
    createConnection: () => (isTls ? connectTls({ socket, rejectUnauthorized: false }) : socket),
    headers: forwardedFor === undefined ? {} : { 'x-forwarded-for': forwardedFor },
  });
  await once(websocket, 'open');
  const { waiting } = relay.sessions.liveCounts();
  let word = '';
  websocket.on('message', (data: Buffer) => {
    word = data.toString();
  });
  websocket.send(Buffer.from(handshake(newToken(), SIDE_A)));
  await until(() => word !== '' || relay.sessions.liveCounts().waiting > waiting);
  return word === '' ? 'waits' : word;
}

describe('who comes by way of trusted proxies', () => {
  test('is told by the first header alone, if that names somebody', async (context) => {
    const relay = await open(context);
    const before = from('192.0.2.1');
    assert.equal(await heard(context, { house: relay, before, forwardedFor: '192.0.2.9' }), 'waits');
    assert.equal(await heard(context, { house: relay, before, forwardedFor: '192.0.2.8' }), 'busy\n');
    assert.equal(await heard(context, { house: relay, forwardedFor: '192.0.2.9' }), 'waits');
  });

  for (const [where, before] of [
    ['has not named its client', 'PROXY UNKNOWN\r\n'],
    ['had it from another one', from('10.1.2.3')],
  ] as const) {
    test(`is told by what was forwarded, where the last proxy ${where}`, async (context) => {
      const relay = await open(context);
      assert.equal(await heard(context, { house: relay, before, forwardedFor: '192.0.2.1' }), 'waits');
      assert.equal(await heard(context, { house: relay, before, forwardedFor: '192.0.2.2' }), 'waits');
      assert.equal(await heard(context, { house: relay, before, forwardedFor: '192.0.2.1' }), 'busy\n');
    });
  }

  test('is told within TLS too', async (context) => {
    const { key, certificate: cert } = makeIdentity();
    const relay = await open(context, { certificate: { context: createSecureContext({ key, cert }) } });
    for (const before of ['', 'PROXY UNKNOWN\r\n']) {
      const forwardedFor = `192.0.2.${before.length}`;
      assert.equal(await heard(context, { house: relay, before, forwardedFor, isTls: true }), 'waits');
      assert.equal(await heard(context, { house: relay, before, forwardedFor, isTls: true }), 'busy\n');
    }
    const before = from('192.0.2.77');
    assert.equal(await heard(context, { house: relay, before, isTls: true }), 'waits');
    assert.equal(await heard(context, { house: relay, before, isTls: true }), 'busy\n');
  });
});
