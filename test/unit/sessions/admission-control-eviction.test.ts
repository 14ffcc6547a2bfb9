import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { text } from 'node:stream/consumers';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { TrustedProxies, parseCidrs } from '../../../src/config/trusted-proxies.ts';
import { SIDE_A, SIDE_B, handshake, newToken } from '../../support/bytes.ts';
import { TestRelay } from '../../support/test-relay.ts';
import type { TestRelayOptions } from '../../support/test-relay.ts';
import { until } from '../../support/scratch.ts';

/** Loopback addresses, each in a different network. `LARGEST` has the most clients in these tests. */
const [LARGEST, SECOND, THIRD] = ['127.9.0.1', '127.9.0.2', '127.9.0.3'] as const;

async function open(context: TestContext, options: TestRelayOptions): Promise<TestRelay> {
  const relay = await TestRelay.open(options);
  context.after(() => relay.close());
  return relay;
}

interface ConnectOptions {
  readonly relay: TestRelay;
  readonly from: string;
  readonly line?: string;
  /** Keeps its end open when the relay has closed. */
  readonly lingers?: boolean;
}

/** Connects from an address and sends a line. Resolves when the relay has the connection. */
async function connectFrom(options: ConnectOptions): Promise<Socket> {
  const { relay, from, line = handshake(newToken(), SIDE_A), lingers = false } = options;
  const { totalConnections: before } = relay.admission;
  const socket = connect({
    port: relay.tcpPort,
    host: '127.0.0.1',
    localAddress: from,
    allowHalfOpen: lingers,
  });

  socket.on('error', () => undefined);
  socket.write(line);
  await until(() => relay.admission.totalConnections > before);
  return socket;
}

/** Connects from an address and sends a line. Resolves when the client waits. */
async function waitFrom(options: ConnectOptions): Promise<Socket> {
  const { relay } = options;
  const { waiting } = relay.sessions.liveCounts();
  const { evicted } = relay.admission;
  const before = evicted.waiting;
  const socket = await connectFrom(options);
  await until(() => relay.sessions.liveCounts().waiting === waiting + 1 - (evicted.waiting - before));
  return socket;
}

function moods(relay: TestRelay): string[] {
  return relay.summaries.map(({ mood }) => mood);
}

describe('at the limit of waiting clients', () => {
  const limits = { maxWaiting: 4 };

  test('the oldest client of the largest network gets "busy" and is evicted for a client of another network', async (context) => {
    const relay = await open(context, { limits });
    // The first clients connected below the threshold, so their networks are not tracked.
    const largest = [];
    for (let count = 0; count < 4; count += 1) largest.push(await waitFrom({ relay, from: LARGEST }));
    const tracked = largest[1];
    assert.ok(tracked !== undefined);
    const reply = text(tracked);
    await waitFrom({ relay, from: SECOND });
    assert.equal(await reply, 'busy\n');
    assert.deepEqual(relay.admission.evicted, { handshake: 0, waiting: 1, closing: 0 });
    assert.deepEqual(moods(relay), ['lonely']);
    assert.equal(relay.admission.rejected.waiting, 0);
    assert.equal(relay.admission.connections, 4);
  });

  test('a new client of the largest network gets "busy", and no other is evicted', async (context) => {
    const relay = await open(context, { limits });
    for (let count = 0; count < 4; count += 1) await waitFrom({ relay, from: LARGEST });
    assert.equal(await text(await connectFrom({ relay, from: LARGEST })), 'busy\n');
    assert.deepEqual(relay.admission.evicted, { handshake: 0, waiting: 0, closing: 0 });
  });

  test('an evicted WebSocket client gets "busy" and code 1013', async (context) => {
    const relay = await open(context, { limits: { maxWaiting: 1 } });
    const first = await relay.connect('websocket');
    await first.send(handshake(newToken(), SIDE_A));
    await until(() => relay.sessions.liveCounts().waiting === 1);
    await waitFrom({ relay, from: SECOND });
    assert.deepEqual(await first.closed, { reset: false, code: 1013 });
    assert.equal(first.received.toString(), 'busy\n');
  });

  test('no client is evicted for a new client whose partner waits', async (context) => {
    const relay = await open(context, { limits: { maxWaiting: 1 } });
    const token = newToken();
    await waitFrom({ relay, from: LARGEST, line: handshake(token, SIDE_A) });
    await connectFrom({ relay, from: SECOND, line: handshake(token, SIDE_B) });
    await until(() => relay.sessions.pairs === 1);
    assert.deepEqual(relay.admission.evicted, { handshake: 0, waiting: 0, closing: 0 });
  });

  test("the relay's own probe is not evicted and evicts no client", async (context) => {
    const relay = await open(context, { limits: { maxWaiting: 2 } });
    const token = newToken();
    const reached = Promise.withResolvers<void>();
    relay.sessions.registerProbe(token, () => reached.resolve());
    const probe = await connectFrom({ relay, from: LARGEST, line: handshake(token, SIDE_A) });
    await reached.promise;
    for (const from of [LARGEST, LARGEST, SECOND, THIRD]) await waitFrom({ relay, from });
    assert.equal(relay.admission.evicted.waiting, 2);
    await connectFrom({ relay, from: LARGEST, line: handshake(token, SIDE_B) });
    const [bytes] = await once(probe, 'data');
    assert.equal(String(bytes), 'ok\n');
  });
});

describe('behind a proxy', () => {
  const proxies = new TrustedProxies(parseCidrs('127.0.0.0/8'));
  const from = (address: string): string => `PROXY TCP4 ${address} 127.0.0.1 1111 4001\r\n`;
  const line = (): string => handshake(newToken(), SIDE_A);

  test('that hides addresses, no client is evicted', async (context) => {
    const relay = await open(context, { proxies, limits: { maxWaiting: 2, maxConnections: 4 } });
    for (let count = 0; count < 2; count += 1) await waitFrom({ relay, from: LARGEST });
    for (const address of [LARGEST, SECOND])
      assert.equal(await text(await connectFrom({ relay, from: address })), 'busy\n');
    const header = from('192.0.2.1');
    assert.equal(await text(await connectFrom({ relay, from: SECOND, line: header + line() })), 'busy\n');
    assert.deepEqual(relay.admission.evicted, { handshake: 0, waiting: 0, closing: 0 });
  });

  test('that sends PROXY headers, the address of the client counts', async (context) => {
    const relay = await open(context, { proxies, limits: { maxWaiting: 3 } });
    const headers = ['2001:db8:1::1', '2001:db8:1:2::1', '2001:db8:1:ffff::1'].map((address) =>
      from(address).replace('TCP4', 'TCP6').replace('127.0.0.1', '::1'),
    );
    for (const header of headers) await waitFrom({ relay, from: LARGEST, line: header + line() });
    // All of them are in one /48.
    assert.equal(
      await text(await connectFrom({ relay, from: LARGEST, line: `${headers[0]}${line()}` })),
      'busy\n',
    );
    await waitFrom({ relay, from: LARGEST, line: from('192.0.2.1') + line() });
    assert.equal(relay.admission.evicted.waiting, 1);
  });
});

describe('at the limit of connections', () => {
  const limits = { maxConnections: 4 };

  test('the oldest connection without a partner is evicted in any state, but pairs are not', async (context) => {
    const relay = await open(context, { limits });
    const token = newToken();
    const pair = [
      await waitFrom({ relay, from: LARGEST, line: handshake(token, SIDE_A) }),
      await connectFrom({ relay, from: LARGEST, line: handshake(token, SIDE_B) }),
    ];
    await until(() => relay.sessions.pairs === 1);
    await connectFrom({ relay, from: LARGEST, line: 'nonsense\n', lingers: true });
    await until(() => relay.summaries.length === 1);
    await connectFrom({ relay, from: LARGEST, line: 'please' });
    await waitFrom({ relay, from: SECOND });
    assert.deepEqual(relay.admission.evicted, { handshake: 0, waiting: 0, closing: 1 });
    await waitFrom({ relay, from: THIRD });
    assert.deepEqual(relay.admission.evicted, { handshake: 1, waiting: 0, closing: 1 });
    assert.equal(relay.admission.rejected.connections, 1);
    assert.deepEqual(moods(relay), ['errory']);
    // One pair of the same network is left, and one waiting client of each other network.
    await connectFrom({ relay, from: '127.9.0.4' });
    await until(() => relay.admission.evicted.waiting === 1);
    assert.equal(relay.sessions.pairs, 1);
    assert.ok(pair.every(({ destroyed }) => !destroyed));
    assert.equal(relay.admission.connections, 4);
  });

  test('a connection that has sent nothing gets "busy" when it is evicted', async (context) => {
    const relay = await open(context, { limits: { maxConnections: 2 } });
    const silent = await connectFrom({ relay, from: LARGEST, line: '' });
    await connectFrom({ relay, from: LARGEST, line: '' });
    const reply = text(silent);
    await waitFrom({ relay, from: SECOND });
    assert.equal(await reply, 'busy\n');
    assert.deepEqual(relay.admission.evicted, { handshake: 1, waiting: 0, closing: 0 });
  });
});
