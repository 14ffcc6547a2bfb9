import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { text } from 'node:stream/consumers';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { TrustedProxies, parseCidrs } from '../../src/config/trusted-proxies.ts';
import { SIDE_A, SIDE_B, handshake, newToken } from '../support/bytes.ts';
import { TestRelay } from '../support/test-relay.ts';
import type { TestRelayOptions } from '../support/test-relay.ts';
import { until } from '../support/scratch.ts';

/** Hosts on this machine, each a network of its own. */
const [CROWD, OTHER, THIRD] = ['127.9.0.1', '127.9.0.2', '127.9.0.3'] as const;

async function open(context: TestContext, options: TestRelayOptions): Promise<TestRelay> {
  const house = await TestRelay.open(options);
  context.after(() => house.close());
  return house;
}

interface Visit {
  readonly house: TestRelay;
  readonly from: string;
  readonly line?: string;
  /** Leaves its end open when the relay has closed. */
  readonly lingers?: boolean;
}

/** Connects from an address and sends a line. Resolves when the relay has the connection. */
async function visit(one: Visit): Promise<Socket> {
  const { house, from, line = handshake(newToken(), SIDE_A), lingers = false } = one;
  const { totalConnections: arrived } = house.admission;
  const socket = connect({
    port: house.tcpPort,
    host: '127.0.0.1',
    localAddress: from,
    allowHalfOpen: lingers,
  });

  socket.on('error', () => undefined);
  socket.write(line);
  await until(() => house.admission.totalConnections > arrived);
  return socket;
}

/** The same, and then it waits. */
async function waits(one: Visit): Promise<Socket> {
  const { house } = one;
  const { waiting } = house.sessions.liveCounts();
  const { evicted } = house.admission;
  const before = evicted.waiting;
  const socket = await visit(one);
  await until(() => house.sessions.liveCounts().waiting === waiting + 1 - (evicted.waiting - before));
  return socket;
}

function moods(house: TestRelay): string[] {
  return house.summaries.map(({ mood }) => mood);
}

describe('where no more clients may wait', () => {
  const limits = { maxWaiting: 4 };

  test('the oldest one of the largest network is told "busy" and makes room for another network', async (context) => {
    const house = await open(context, { limits });
    // The first ones came when there was no shortage, and were not asked where they come from.
    const crowd = [];
    for (let count = 0; count < 4; count += 1) crowd.push(await waits({ house, from: CROWD }));
    const tracked = crowd[1];
    assert.ok(tracked !== undefined);
    const heard = text(tracked);
    await waits({ house, from: OTHER });
    assert.equal(await heard, 'busy\n');
    assert.deepEqual(house.admission.evicted, { handshake: 0, waiting: 1, closing: 0 });
    assert.deepEqual(moods(house), ['lonely']);
    assert.equal(house.admission.rejected.waiting, 0);
    assert.equal(house.admission.connections, 4);
  });

  test('a newcomer from the largest network is told "busy", and none makes room', async (context) => {
    const house = await open(context, { limits });
    for (let count = 0; count < 4; count += 1) await waits({ house, from: CROWD });
    assert.equal(await text(await visit({ house, from: CROWD })), 'busy\n');
    assert.deepEqual(house.admission.evicted, { handshake: 0, waiting: 0, closing: 0 });
  });

  test('a client by WebSocket that makes room hears "busy" and code 1013', async (context) => {
    const house = await open(context, { limits: { maxWaiting: 1 } });
    const first = await house.connect('websocket');
    await first.send(handshake(newToken(), SIDE_A));
    await until(() => house.sessions.liveCounts().waiting === 1);
    await waits({ house, from: OTHER });
    assert.deepEqual(await first.closed, { reset: false, code: 1013 });
    assert.equal(first.received.toString(), 'busy\n');
  });

  test('a newcomer whose partner waits needs no room', async (context) => {
    const house = await open(context, { limits: { maxWaiting: 1 } });
    const token = newToken();
    await waits({ house, from: CROWD, line: handshake(token, SIDE_A) });
    await visit({ house, from: OTHER, line: handshake(token, SIDE_B) });
    await until(() => house.sessions.pairs === 1);
    assert.deepEqual(house.admission.evicted, { handshake: 0, waiting: 0, closing: 0 });
  });

  test("the relay's own probe makes no room, and takes none", async (context) => {
    const house = await open(context, { limits: { maxWaiting: 2 } });
    const token = newToken();
    const arrived = Promise.withResolvers<void>();
    house.sessions.registerProbe(token, () => arrived.resolve());
    const probe = await visit({ house, from: CROWD, line: handshake(token, SIDE_A) });
    await arrived.promise;
    for (const from of [CROWD, CROWD, OTHER, THIRD]) await waits({ house, from });
    assert.equal(house.admission.evicted.waiting, 2);
    await visit({ house, from: CROWD, line: handshake(token, SIDE_B) });
    const [bytes] = await once(probe, 'data');
    assert.equal(String(bytes), 'ok\n');
  });
});

describe('behind a proxy', () => {
  const proxies = new TrustedProxies(parseCidrs('127.0.0.0/8'));
  const from = (address: string): string => `PROXY TCP4 ${address} 127.0.0.1 1111 4001\r\n`;
  const line = (): string => handshake(newToken(), SIDE_A);

  test('that hides addresses none makes room, for whatever newcomer', async (context) => {
    const house = await open(context, { proxies, limits: { maxWaiting: 2, maxConnections: 4 } });
    for (let count = 0; count < 2; count += 1) await waits({ house, from: CROWD });
    for (const address of [CROWD, OTHER])
      assert.equal(await text(await visit({ house, from: address })), 'busy\n');
    const header = from('192.0.2.1');
    assert.equal(await text(await visit({ house, from: OTHER, line: header + line() })), 'busy\n');
    assert.deepEqual(house.admission.evicted, { handshake: 0, waiting: 0, closing: 0 });
  });

  test('that says where clients come from, that counts', async (context) => {
    const house = await open(context, { proxies, limits: { maxWaiting: 3 } });
    const visits = ['2001:db8:1::1', '2001:db8:1:2::1', '2001:db8:1:ffff::1'].map((address) =>
      from(address).replace('TCP4', 'TCP6').replace('127.0.0.1', '::1'),
    );
    for (const header of visits) await waits({ house, from: CROWD, line: header + line() });
    // All of them are of one /48.
    assert.equal(await text(await visit({ house, from: CROWD, line: `${visits[0]}${line()}` })), 'busy\n');
    await waits({ house, from: CROWD, line: from('192.0.2.1') + line() });
    assert.equal(house.admission.evicted.waiting, 1);
  });
});

describe('where no more connections may come', () => {
  const limits = { maxConnections: 4 };

  test('the oldest one without a partner makes room, whatever it does, and no pair', async (context) => {
    const house = await open(context, { limits });
    const token = newToken();
    const pair = [
      await waits({ house, from: CROWD, line: handshake(token, SIDE_A) }),
      await visit({ house, from: CROWD, line: handshake(token, SIDE_B) }),
    ];
    await until(() => house.sessions.pairs === 1);
    await visit({ house, from: CROWD, line: 'nonsense\n', lingers: true });
    await until(() => house.summaries.length === 1);
    await visit({ house, from: CROWD, line: 'please' });
    await waits({ house, from: OTHER });
    assert.deepEqual(house.admission.evicted, { handshake: 0, waiting: 0, closing: 1 });
    await waits({ house, from: THIRD });
    assert.deepEqual(house.admission.evicted, { handshake: 1, waiting: 0, closing: 1 });
    assert.equal(house.admission.rejected.connections, 1);
    assert.deepEqual(moods(house), ['errory']);
    // Two pairs of the same network are left, and one waiting client of each other network.
    await visit({ house, from: '127.9.0.4' });
    await until(() => house.admission.evicted.waiting === 1);
    assert.equal(house.sessions.pairs, 1);
    assert.ok(pair.every(({ destroyed }) => !destroyed));
    assert.equal(house.admission.connections, 4);
  });
});
