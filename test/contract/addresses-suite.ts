import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { text } from 'node:stream/consumers';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { WebSocket } from 'ws';
import { AddressLimit } from '../../src/limits/address-limit.ts';
import { REJECT_SLOTS } from '../../src/limits/connection-limit.ts';
import { TrustedProxies, parseCidrs } from '../../src/config/trusted-proxies.ts';
import { SIDE_A, SIDE_B, handshake, newToken } from '../support/bytes.ts';
import type { TestRelayOptions } from '../support/test-relay.ts';
import { until } from '../support/scratch.ts';
import { connectionsIn, refusedIn } from './place.ts';
import type { HousePlace, OpenPlace } from './place.ts';
import { refused as rejected, waiting } from './refusals-suite.ts';

const LOOPBACK = '127.0.0.1';

/** The word that a client hears, or `waits` when one more waits. */
async function waitsOrHears(place: HousePlace, others: number, word: Promise<string>): Promise<string> {
  let heard: string | null = null;
  void word.then((said) => {
    heard = said;
  });
  await until(() => heard !== null || place.waiting() > others);
  return heard ?? 'waits';
}

const limited =
  (most: number, proxies?: string, limits: TestRelayOptions['limits'] = {}): (() => TestRelayOptions) =>
  () => ({
    limits: {
      ...limits,
      addressLimit: new AddressLimit({ maxOpen: most, newConnectionRate: null }, () => performance.now()),
    },
    ...(proxies === undefined ? {} : { proxies: new TrustedProxies(parseCidrs(proxies)) }),
  });

export interface AddressesSuiteOptions {
  /** Where clients are, in front of every name. */
  readonly name: string;
  readonly open: OpenPlace;
  /** There are two relays; each counts who comes to it, and a link counts for no address. */
  readonly isPartnerElsewhere: boolean;
}

/** How many may come of one address, and whose address that is. */
export function addressesSuite({ name, open: openPlace, isPartnerElsewhere }: AddressesSuiteOptions): void {
  async function open(context: TestContext, options: () => TestRelayOptions): Promise<HousePlace> {
    const place = await openPlace(options);
    context.after(() => place.close());
    return place;
  }

  test(`${name}: a crowd that says nothing can not keep a relay from answering`, async (context) => {
    const place = await open(context, () => ({
      limits: { maxConnections: 4 },
      timeouts: { handshakeMs: 400 },
    }));
    const crowd: Socket[] = [];
    context.after(() => crowd.forEach((socket) => socket.destroy()));
    const heard: Promise<string>[] = [];
    for (let index = 0; index < 4 + REJECT_SLOTS + 10; index += 1) {
      const socket = connect({ port: place.addresses(0).tcpPort, host: '127.0.0.1' });
      // Where there is no place for it at all, it may see a reset.
      heard.push(text(socket).catch(() => 'reset'));
      crowd.push(socket);
      await once(socket, 'connect');
    }
    await until(() => refusedIn(place, 'connections') >= 10);
    const words = await Promise.all(heard);
    // Those that were let in have nothing to hear.
    assert.deepEqual(words.filter((word) => word === '').length, 4);
    assert.ok(words.every((word) => ['', 'busy\n', 'reset'].includes(word)));
    assert.equal(words.filter((word) => word === 'busy\n').length >= REJECT_SLOTS, true);
    await until(() => refusedIn(place, 'connections') === REJECT_SLOTS + 10);
    assert.equal(connectionsIn(place), 0);
    assert.equal(place.endings.length, 4);
    await waiting(place, 'tcp');
  });

  describe(`${name}: the limits of an address`, () => {
    for (const transport of ['tcp', 'websocket'] as const) {
      test(`hold for ${transport} clients, until one of it has left`, async (context) => {
        const place = await open(context, limited(1));
        const first = await waiting(place, transport);
        await rejected(await place.connect(transport, 0), 'busy');
        await until(() => refusedIn(place, 'address') === 1);
        first.destroy();
        await until(() => connectionsIn(place) === 0);
        for (let at = 0; at < place.relays; at += 1) await waiting(place, transport, newToken(), at);
      });
    }

    test('count a client once, where it comes to', async (context) => {
      const place = await open(context, limited(isPartnerElsewhere ? 1 : 2));
      const token = newToken();
      const first = await waiting(place, 'tcp', token);
      const partner = await place.connect('websocket', place.relays - 1);
      await partner.send(handshake(token, SIDE_B));
      assert.equal((await partner.until(3)).toString(), 'ok\n');
      assert.equal((await first.until(3)).toString(), 'ok\n');
      for (let at = 0; at < place.relays; at += 1) await rejected(await place.connect('tcp', at), 'busy');
      await until(() => refusedIn(place, 'address') === place.relays);
      first.end();
      await partner.closed;
      await place.deserted();
      for (let at = 0; at < place.relays; at += 1) await waiting(place, 'tcp', newToken(), at);
    });

    for (const [whose, proxies, header] of [
      ['itself', '192.0.2.0/24', ''],
      ['a client of a proxy', '127.0.0.0/8', 'PROXY TCP4 192.0.2.1 127.0.0.1 1111 4001\r\n'],
    ] as const) {
      test(`keep one address, of ${whose}, from taking the room of all others`, async (context) => {
        const place = await open(context, limited(1, proxies, { maxConnections: 3 }));
        const crowd = Array.from({ length: REJECT_SLOTS + 20 }, () => {
          const socket = connect({
            port: place.addresses(0).tcpPort,
            host: LOOPBACK,
            localAddress: '127.0.0.2',
          });
          socket.on('error', () => undefined);
          context.after(() => socket.destroy());
          if (header !== '') socket.write(header);
          return socket;
        });
        await until(() => refusedIn(place, 'address') >= 19);
        await until(() => connectionsIn(place) === 1);
        await waiting(place, 'tcp');
        for (const socket of crowd) socket.destroy();
        await until(() => refusedIn(place, 'address') === REJECT_SLOTS + 19);
        await until(() => connectionsIn(place) === 1);
      });
    }

    test('do not hold for unix-domain sockets', async (context) => {
      const place = await open(context, limited(1));
      await waiting(place, 'unix');
      await waiting(place, 'unix');
    });

    /** What a raw client hears that comes with this header. */
    async function heard(
      place: HousePlace,
      header: string | Uint8Array,
      token = newToken(),
    ): Promise<string> {
      const socket = connect({ port: place.addresses(0).tcpPort, host: LOOPBACK });
      socket.write(header);
      socket.write(handshake(token, SIDE_A));
      const others = place.waiting();
      const word = text(socket).catch(() => 'reset');
      return waitsOrHears(place, others, word);
    }

    const from = (address: string): string => `PROXY TCP4 ${address} 127.0.0.1 1111 4001\r\n`;

    test('hold for whom a trusted proxy names in its header, and not for the proxy', async (context) => {
      const place = await open(context, limited(1, '127.0.0.0/8'));
      assert.equal(await heard(place, from('192.0.2.1')), 'waits');
      assert.equal(await heard(place, from('192.0.2.1')), 'busy\n');
      assert.equal(await heard(place, from('192.0.2.2')), 'waits');
      const version2 = Buffer.concat([
        Buffer.from('\r\n\r\n\0\r\nQUIT\n', 'latin1'),
        Buffer.from([0x21, 0x11, 0, 12, 192, 0, 2, 2, 127, 0, 0, 1, 4, 87, 15, 161]),
      ]);
      assert.equal(await heard(place, version2), 'busy\n');
      for (const header of ['', 'PROXY UNKNOWN\r\n', '']) assert.equal(await heard(place, header), 'waits');
      assert.equal(refusedIn(place, 'address'), 2);
    });

    test('can not be escaped by a header that nobody trusts, or by a second one', async (context) => {
      const untrusted = await open(context, limited(9, '192.0.2.0/24'));
      assert.equal(await heard(untrusted, from('192.0.2.1')), 'bad handshake\n');
      const trusted = await open(context, limited(9, '127.0.0.0/8'));
      assert.equal(await heard(trusted, from('192.0.2.1') + from('192.0.2.2')), 'bad handshake\n');
      assert.equal(await heard(trusted, 'PROXY TCP4 nonsense\r\n'), 'bad handshake\n');
    });

    /** What a WebSocket client hears that comes with these addresses in its X-Forwarded-For. */
    async function heardFor(place: HousePlace, forwarded: string): Promise<string> {
      const ws = new WebSocket(`ws://${LOOPBACK}:${place.addresses(0).websocketPort}/`, {
        headers: { 'x-forwarded-for': forwarded },
      });
      await once(ws, 'open');
      const others = place.waiting();
      ws.send(Buffer.from(handshake(newToken(), SIDE_A)));
      const word = once(ws, 'message').then(([data]) => String(data));
      return waitsOrHears(place, others, word);
    }

    test('hold for whom a trusted proxy forwards, whatever the client wrote before it', async (context) => {
      const place = await open(context, limited(1, '127.0.0.0/8'));
      assert.equal(await heardFor(place, '192.0.2.1'), 'waits');
      assert.equal(await heardFor(place, '192.0.2.1'), 'busy\n');
      assert.equal(await heardFor(place, '203.0.113.9, 192.0.2.1'), 'busy\n');
      assert.equal(await heardFor(place, '192.0.2.2'), 'waits');
    });

    test('do not look at what is forwarded by somebody who is not trusted', async (context) => {
      const place = await open(context, limited(1, '192.0.2.0/24'));
      assert.equal(await heardFor(place, '192.0.2.1'), 'waits');
      assert.equal(await heardFor(place, '192.0.2.2'), 'busy\n');
    });
  });
}
