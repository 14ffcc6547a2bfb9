import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { text } from 'node:stream/consumers';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { LANE_PLACES } from '../../src/limits/connection-limit.ts';
import { AddressLimit } from '../../src/limits/address-limit.ts';
import type { Transport } from '../../src/net/peer.ts';
import { TrustedProxies, parseCidrs } from '../../src/net/trusted-proxies.ts';
import { SIDE_A, SIDE_B, handshake, newToken } from '../support/bytes.ts';
import { House } from '../support/house.ts';
import type { HouseOptions } from '../support/house.ts';
import { until } from '../support/scratch.ts';
import type { TestClient } from '../support/test-client.ts';
import { WebSocket } from 'ws';

const TRANSPORTS: readonly Transport[] = ['tcp', 'unix', 'websocket'];

async function open(context: TestContext, options: HouseOptions): Promise<House> {
  const house = await House.open(options);
  context.after(() => house.close());
  return house;
}

/** A client that waits for a partner. */
async function waiting(house: House, transport: Transport, token = newToken()): Promise<TestClient> {
  const before = house.hub.census().waiting;
  const client = await house.connect(transport);
  await client.send(handshake(token, SIDE_A));
  await until(() => house.hub.census().waiting === before + 1);
  return client;
}

/** Connects, names a token, and hears `word`. */
async function refused(
  house: House,
  transport: Transport,
  word: string,
  token = newToken(),
  side = SIDE_B,
): Promise<void> {
  const client = await house.connect(transport);
  await client.send(handshake(token, side));
  assert.deepEqual(await client.closed, { reset: false, code: transport === 'websocket' ? 1013 : null });
  assert.equal(client.received.toString(), `${word}\n`);
}

/** The word that a client hears, or `waits` when one more waits. */
async function waitsOrHears(house: House, before: number, word: Promise<string>): Promise<string> {
  let heard: string | null = null;
  void word.then((said) => {
    heard = said;
  });
  await until(() => heard !== null || house.hub.census().waiting > before);
  return heard ?? 'waits';
}

/** Says what a client that is let in hears. */
async function paired(client: TestClient): Promise<void> {
  assert.equal((await client.until(3)).toString(), 'ok\n');
}

for (const transport of TRANSPORTS) {
  describe(`a ${transport} client`, () => {
    test('is told "busy" when there is no room, is counted, and has no record', async (context) => {
      const house = await open(context, { limits: { maxConnections: 2 } });
      const token = newToken();
      const first = await waiting(house, transport, token);
      const second = await waiting(house, 'tcp');
      await refused(house, transport, 'busy', token);
      await until(() => house.reception.refused.connections === 1);
      assert.equal(house.reception.connections, 2);
      // Once somebody has left there is room, and the one that waited has not been harmed.
      second.destroy();
      await until(() => house.reception.connections === 1);
      const partner = await house.connect(transport);
      await partner.send(handshake(token, SIDE_B));
      await paired(partner);
      await paired(first);
      assert.deepEqual(
        house.endings.map(({ mood }) => mood),
        ['lonely'],
      );
    });

    test('is told "busy" when enough clients wait, unless it is the partner of one', async (context) => {
      const house = await open(context, { limits: { maxWaiting: 1 } });
      const token = newToken();
      const first = await waiting(house, transport, token);
      await refused(house, transport, 'busy');
      // Another of the one that waits would wait too.
      await refused(house, transport, 'busy', token, SIDE_A);
      const partner = await house.connect(transport);
      await partner.send(handshake(token, SIDE_B));
      await paired(partner);
      await paired(first);
      await until(() => house.reception.refused.waiting === 2);
      assert.deepEqual(house.endings, []);
    });

    test('is told "over quota" when that is spent, whoever waits for it', async (context) => {
      const house = await open(context, {});
      const token = newToken();
      const first = await waiting(house, transport, token);
      house.reception.isOverQuota = true;
      await refused(house, transport, 'over quota', token);
      await until(() => house.reception.refused.quota === 1);
      house.hub.endWaits();
      assert.equal((await first.until(11)).toString(), 'over quota\n');
      assert.deepEqual(await first.closed, {
        reset: false,
        code: transport === 'websocket' ? 1013 : null,
      });
      const [ending] = await house.recorded(1);
      assert.deepEqual([ending?.mood, house.endings.length], ['lonely', 1]);
      house.reception.isOverQuota = false;
      await waiting(house, transport);
    });

    test('is told "shutting down" when the relay stops, unless somebody waits for it', async (context) => {
      const house = await open(context, {});
      const token = newToken();
      const first = await waiting(house, transport, token);
      house.reception.isStopping = true;
      await refused(house, transport, 'shutting down');
      await refused(house, transport, 'shutting down', token, SIDE_A);
      const partner = await house.connect(transport);
      await partner.send(handshake(token, SIDE_B));
      await paired(partner);
      await paired(first);
      await until(() => house.reception.refused.shutdown === 2);
      assert.deepEqual(house.endings, []);
    });

    test('that is refused says anything at all, or leaves, and there is still no record', async (context) => {
      const house = await open(context, { limits: { maxConnections: 1 } });
      await waiting(house, 'tcp');
      for (const words of ['please relay nonsense\n', `${'x'.repeat(2000)}\n`]) {
        const client = await house.connect(transport);
        await client.send(words);
        await client.closed;
      }
      const silent = await house.connect(transport);
      await silent.send('please');
      silent.end();
      await silent.closed;
      await until(() => house.reception.refused.connections === 3);
      assert.deepEqual(house.endings, []);
    });

    test('pairs, and its pair ends when it has moved more than it may, with its record', async (context) => {
      const house = await open(context, { limits: { pairBytes: 100_000 } });
      const token = newToken();
      const a = await waiting(house, transport, token);
      const b = await house.connect('tcp');
      await b.send(handshake(token, SIDE_B));
      await paired(a);
      await a.send(new Uint8Array(60_000));
      await b.until(60_003);
      assert.equal(house.endings.length, 0);
      await b.send(new Uint8Array(50_000));
      // What was over the limit when it was found out is not lost.
      assert.deepEqual(await a.closed, { reset: false, code: transport === 'websocket' ? 1000 : null });
      assert.deepEqual(await b.closed, { reset: false, code: null });
      const [ending] = await house.recorded(1);
      assert.equal(ending?.mood, 'happy');
      const moved = ending?.totalBytes ?? 0;
      assert.ok(moved > 100_000 && moved <= 110_000, String(moved));
      assert.equal(a.receivedBytes, 3 + moved - 60_000);
      await until(() => house.reception.connections === 0);
    });
  });
}

test('a crowd that says nothing can not keep the relay from answering', async (context) => {
  const house = await open(context, { limits: { maxConnections: 4 }, timeouts: { handshakeMs: 400 } });
  const crowd: Socket[] = [];
  context.after(() => crowd.forEach((socket) => socket.destroy()));
  const heard: Promise<string>[] = [];
  for (let index = 0; index < 4 + LANE_PLACES + 10; index += 1) {
    const socket = connect({ port: house.tcpPort, host: '127.0.0.1' });
    // Where there is no place for it at all, it may see a reset.
    heard.push(text(socket).catch(() => 'reset'));
    crowd.push(socket);
    await once(socket, 'connect');
  }
  await until(() => house.reception.refused.connections >= 10);
  const words = await Promise.all(heard);
  // Those that were let in have nothing to hear.
  assert.deepEqual(words.filter((word) => word === '').length, 4);
  assert.ok(words.every((word) => ['', 'busy\n', 'reset'].includes(word)));
  assert.equal(words.filter((word) => word === 'busy\n').length >= LANE_PLACES, true);
  await until(() => house.reception.refused.connections === LANE_PLACES + 10);
  assert.equal(house.reception.connections, 0);
  assert.equal(house.endings.length, 4);
  await waiting(house, 'tcp');
});

describe('the limits of an address', () => {
  const LOOPBACK = '127.0.0.1';
  const limited = (most: number, proxies?: string): HouseOptions => ({
    limits: { addresses: new AddressLimit({ open: most, newPer: null }, () => performance.now()) },
    ...(proxies === undefined ? {} : { proxies: new TrustedProxies(parseCidrs(proxies)) }),
  });

  for (const transport of ['tcp', 'websocket'] as const) {
    test(`hold for ${transport} clients, until one of it has left`, async (context) => {
      const house = await open(context, limited(1));
      const first = await waiting(house, transport);
      await refused(house, transport, 'busy');
      await until(() => house.reception.refused.address === 1);
      first.destroy();
      await until(() => house.reception.connections === 0);
      await waiting(house, transport);
    });
  }

  for (const [whose, proxies, header] of [
    ['itself', '192.0.2.0/24', ''],
    ['a client of a proxy', '127.0.0.0/8', 'PROXY TCP4 192.0.2.1 127.0.0.1 1111 4001\r\n'],
  ] as const) {
    test(`keep one address, of ${whose}, from taking the room of all others`, async (context) => {
      const options = limited(1, proxies);
      const house = await open(context, { ...options, limits: { ...options.limits, maxConnections: 3 } });
      const crowd = Array.from({ length: LANE_PLACES + 20 }, () => {
        const socket = connect({ port: house.tcpPort, host: LOOPBACK, localAddress: '127.0.0.2' });
        socket.on('error', () => undefined);
        context.after(() => socket.destroy());
        if (header !== '') socket.write(header);
        return socket;
      });
      await until(() => house.reception.refused.address >= 20);
      assert.equal(house.reception.connections, 1);
      await waiting(house, 'tcp');
      for (const socket of crowd) socket.destroy();
      await until(() => house.reception.refused.address === LANE_PLACES + 19);
      await until(() => house.reception.connections === 1);
    });
  }

  test('do not hold for unix-domain sockets', async (context) => {
    const house = await open(context, limited(1));
    await waiting(house, 'unix');
    await waiting(house, 'unix');
  });

  /** What a raw client hears that comes with this header. */
  async function heard(house: House, header: string | Uint8Array, token = newToken()): Promise<string> {
    const socket = connect({ port: house.tcpPort, host: LOOPBACK });
    socket.write(header);
    socket.write(handshake(token, SIDE_A));
    const before = house.hub.census().waiting;
    const word = text(socket).catch(() => 'reset');
    return waitsOrHears(house, before, word);
  }

  const from = (address: string): string => `PROXY TCP4 ${address} 127.0.0.1 1111 4001\r\n`;

  test('hold for whom a trusted proxy names in its header, and not for the proxy', async (context) => {
    const house = await open(context, limited(1, '127.0.0.0/8'));
    assert.equal(await heard(house, from('192.0.2.1')), 'waits');
    assert.equal(await heard(house, from('192.0.2.1')), 'busy\n');
    assert.equal(await heard(house, from('192.0.2.2')), 'waits');
    const version2 = Buffer.concat([
      Buffer.from('\r\n\r\n\0\r\nQUIT\n', 'latin1'),
      Buffer.from([0x21, 0x11, 0, 12, 192, 0, 2, 2, 127, 0, 0, 1, 4, 87, 15, 161]),
    ]);
    assert.equal(await heard(house, version2), 'busy\n');
    for (const header of ['', 'PROXY UNKNOWN\r\n', '']) assert.equal(await heard(house, header), 'waits');
    assert.equal(house.reception.refused.address, 2);
  });

  test('can not be escaped by a header that nobody trusts, or by a second one', async (context) => {
    const untrusted = await open(context, limited(9, '192.0.2.0/24'));
    assert.equal(await heard(untrusted, from('192.0.2.1')), 'bad handshake\n');
    const trusted = await open(context, limited(9, '127.0.0.0/8'));
    assert.equal(await heard(trusted, from('192.0.2.1') + from('192.0.2.2')), 'bad handshake\n');
    assert.equal(await heard(trusted, 'PROXY TCP4 nonsense\r\n'), 'bad handshake\n');
  });

  /** What a WebSocket client hears that comes with these addresses in its X-Forwarded-For. */
  async function heardFor(house: House, forwarded: string): Promise<string> {
    const ws = new WebSocket(`ws://${LOOPBACK}:${house.websocketPort}/`, {
      headers: { 'x-forwarded-for': forwarded },
    });
    await once(ws, 'open');
    const before = house.hub.census().waiting;
    ws.send(Buffer.from(handshake(newToken(), SIDE_A)));
    const word = once(ws, 'message').then(([data]) => String(data));
    return waitsOrHears(house, before, word);
  }

  test('hold for whom a trusted proxy forwards, whatever the client wrote before it', async (context) => {
    const house = await open(context, limited(1, '127.0.0.0/8'));
    assert.equal(await heardFor(house, '192.0.2.1'), 'waits');
    assert.equal(await heardFor(house, '192.0.2.1'), 'busy\n');
    assert.equal(await heardFor(house, '203.0.113.9, 192.0.2.1'), 'busy\n');
    assert.equal(await heardFor(house, '192.0.2.2'), 'waits');
  });

  test('do not look at what is forwarded by somebody who is not trusted', async (context) => {
    const house = await open(context, limited(1, '192.0.2.0/24'));
    assert.equal(await heardFor(house, '192.0.2.1'), 'waits');
    assert.equal(await heardFor(house, '192.0.2.2'), 'busy\n');
  });
});
