import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { text } from 'node:stream/consumers';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { WebSocket } from 'ws';
import { AddressLimit } from '../../src/limits/address-limit.ts';
import { REJECT_SLOTS } from '../../src/limits/capacity.ts';
import { TrustedProxies, parseCidrs } from '../../src/config/trusted-proxies.ts';
import { SIDE_A, SIDE_B, handshake, newToken } from '../support/bytes.ts';
import { TestClock } from './test-clock.ts';
import type { TestRelayOptions } from '../support/test-relay.ts';
import { until } from '../support/scratch.ts';
import { connectionsIn, rejectedIn } from './topology.ts';
import type { InProcessTopology, Setup } from './topology.ts';
import { expectRejected, startWaiting } from './rejections-suite.ts';

const LOOPBACK = '127.0.0.1';

/** The reply that a client gets, or `waits` if one more client waits. */
async function replyOrWaits(
  topology: InProcessTopology,
  others: number,
  pendingReply: Promise<string>,
): Promise<string> {
  let reply: string | null = null;
  void pendingReply.then((received) => {
    reply = received;
  });
  await until(() => reply !== null || topology.waiting() > others);
  return reply ?? 'waits';
}

const limited =
  (maxOpen: number, proxies?: string, limits: TestRelayOptions['limits'] = {}): (() => TestRelayOptions) =>
  () => ({
    limits: {
      ...limits,
      addressLimit: new AddressLimit({ connectionsPerAddress: maxOpen, newConnectionsPerAddress: null }, () =>
        performance.now(),
      ),
    },
    ...(proxies === undefined ? {} : { proxies: new TrustedProxies(parseCidrs(proxies)) }),
  });

/**
 * Limits per address, and which address a client has. Each relay counts the clients that connect to it; links
 * count for no address.
 */
export function addressesSuite({ name, open: openTopology, relayCount }: Setup): void {
  async function open(context: TestContext, options: () => TestRelayOptions): Promise<InProcessTopology> {
    const topology = await openTopology(options);
    context.after(() => topology.close());
    return topology;
  }

  test(`${name}: silent clients cannot keep a relay from answering`, async (context) => {
    const clock = new TestClock();
    const handshakeMs = 50;
    const topology = await open(context, () => ({
      limits: { maxConnections: 4 },
      timeouts: { handshakeMs },
      clock: clock.now,
    }));
    const sockets: Socket[] = [];
    context.after(() => sockets.forEach((socket) => socket.destroy()));
    const replies: Promise<string>[] = [];
    for (let index = 0; index < 4 + REJECT_SLOTS + 10; index += 1) {
      const socket = connect({ port: topology.addresses(0).tcpPort, host: '127.0.0.1' });
      // Without a free reject slot it may see a reset.
      replies.push(text(socket).catch(() => 'reset'));
      sockets.push(socket);
      await once(socket, 'connect');
    }
    await until(() => rejectedIn(topology, 'connections') >= 10);
    // Nothing happens until the accepted and the rejected clients reach their timeout.
    clock.advance(handshakeMs);
    const replyTexts = await Promise.all(replies);
    // Accepted clients get no reply.
    assert.deepEqual(replyTexts.filter((reply) => reply === '').length, 4);
    assert.ok(replyTexts.every((reply) => ['', 'busy\n', 'reset'].includes(reply)));
    assert.equal(replyTexts.filter((reply) => reply === 'busy\n').length >= REJECT_SLOTS, true);
    await until(() => rejectedIn(topology, 'connections') === REJECT_SLOTS + 10);
    assert.equal(connectionsIn(topology), 0);
    assert.equal(topology.summaries.length, 4);
    await startWaiting(topology, 'tcp');
  });

  describe(`${name}: the limits of an address`, () => {
    for (const transport of ['tcp', 'websocket'] as const) {
      test(`apply to ${transport} clients until one client of the address has left`, async (context) => {
        const topology = await open(context, limited(1));
        const first = await startWaiting(topology, transport);
        await expectRejected(await topology.connect(transport, 0), 'busy');
        await until(() => rejectedIn(topology, 'address') === 1);
        first.destroy();
        await until(() => connectionsIn(topology) === 0);
        for (let at = 0; at < topology.relayCount; at += 1)
          await startWaiting(topology, transport, newToken(), at);
      });
    }

    test('count a client once, at the relay it connects to', async (context) => {
      const topology = await open(context, limited(relayCount > 1 ? 1 : 2));
      const token = newToken();
      const first = await startWaiting(topology, 'tcp', token);
      const partner = await topology.connect('websocket', topology.relayCount - 1);
      await partner.send(handshake(token, SIDE_B));
      assert.equal((await partner.until(3)).toString(), 'ok\n');
      assert.equal((await first.until(3)).toString(), 'ok\n');
      for (let at = 0; at < topology.relayCount; at += 1)
        await expectRejected(await topology.connect('tcp', at), 'busy');
      await until(() => rejectedIn(topology, 'address') === topology.relayCount);
      first.end();
      await partner.closed;
      await topology.untilEmpty();
      for (let at = 0; at < topology.relayCount; at += 1) await startWaiting(topology, 'tcp', newToken(), at);
    });

    for (const [whose, proxies, header] of [
      ['a direct client', '192.0.2.0/24', ''],
      ['a client of a proxy', '127.0.0.0/8', 'PROXY TCP4 192.0.2.1 127.0.0.1 1111 4001\r\n'],
    ] as const) {
      test(`prevent one address, of ${whose}, from using all connections`, async (context) => {
        const topology = await open(context, limited(1, proxies, { maxConnections: 3 }));
        const sockets = Array.from({ length: REJECT_SLOTS + 20 }, () => {
          const socket = connect({
            port: topology.addresses(0).tcpPort,
            host: LOOPBACK,
            localAddress: '127.0.0.2',
          });
          socket.on('error', () => undefined);
          context.after(() => socket.destroy());
          if (header !== '') socket.write(header);
          return socket;
        });
        await until(() => rejectedIn(topology, 'address') >= 19);
        await until(() => connectionsIn(topology) === 1);
        await startWaiting(topology, 'tcp');
        for (const socket of sockets) socket.destroy();
        await until(() => rejectedIn(topology, 'address') === REJECT_SLOTS + 19);
        await until(() => connectionsIn(topology) === 1);
      });
    }

    test('do not apply to unix-domain sockets', async (context) => {
      const topology = await open(context, limited(1));
      await startWaiting(topology, 'unix');
      await startWaiting(topology, 'unix');
    });

    /** The reply that a raw client gets if it sends this header. */
    async function replyTo(
      topology: InProcessTopology,
      header: string | Uint8Array,
      token = newToken(),
    ): Promise<string> {
      const socket = connect({ port: topology.addresses(0).tcpPort, host: LOOPBACK });
      socket.write(header);
      socket.write(handshake(token, SIDE_A));
      const others = topology.waiting();
      const pendingReply = text(socket).catch(() => 'reset');
      return replyOrWaits(topology, others, pendingReply);
    }

    const from = (address: string): string => `PROXY TCP4 ${address} 127.0.0.1 1111 4001\r\n`;

    test('apply to the address in the header of a trusted proxy, not to the proxy', async (context) => {
      const topology = await open(context, limited(1, '127.0.0.0/8'));
      assert.equal(await replyTo(topology, from('192.0.2.1')), 'waits');
      assert.equal(await replyTo(topology, from('192.0.2.1')), 'busy\n');
      assert.equal(await replyTo(topology, from('192.0.2.2')), 'waits');
      const version2 = Buffer.concat([
        Buffer.from('\r\n\r\n\0\r\nQUIT\n', 'latin1'),
        Buffer.from([0x21, 0x11, 0, 12, 192, 0, 2, 2, 127, 0, 0, 1, 4, 87, 15, 161]),
      ]);
      assert.equal(await replyTo(topology, version2), 'busy\n');
      for (const header of ['', 'PROXY UNKNOWN\r\n', ''])
        assert.equal(await replyTo(topology, header), 'waits');
      assert.equal(rejectedIn(topology, 'address'), 2);
    });

    test('cannot be bypassed with an untrusted header or a second header', async (context) => {
      const untrusted = await open(context, limited(9, '192.0.2.0/24'));
      assert.equal(await replyTo(untrusted, from('192.0.2.1')), 'bad handshake\n');
      const trusted = await open(context, limited(9, '127.0.0.0/8'));
      assert.equal(await replyTo(trusted, from('192.0.2.1') + from('192.0.2.2')), 'bad handshake\n');
      assert.equal(await replyTo(trusted, 'PROXY TCP4 nonsense\r\n'), 'bad handshake\n');
    });

    /** The reply that a WebSocket client gets with these addresses in its X-Forwarded-For. */
    async function replyFor(topology: InProcessTopology, forwarded: string): Promise<string> {
      const ws = new WebSocket(`ws://${LOOPBACK}:${topology.addresses(0).websocketPort}/`, {
        headers: { 'x-forwarded-for': forwarded },
      });
      await once(ws, 'open');
      const others = topology.waiting();
      ws.send(Buffer.from(handshake(newToken(), SIDE_A)));
      const pendingReply = once(ws, 'message').then(([data]) => String(data));
      return replyOrWaits(topology, others, pendingReply);
    }

    test('apply to the address that a trusted proxy appends, regardless of addresses that the client sent', async (context) => {
      const topology = await open(context, limited(1, '127.0.0.0/8'));
      assert.equal(await replyFor(topology, '192.0.2.1'), 'waits');
      assert.equal(await replyFor(topology, '192.0.2.1'), 'busy\n');
      assert.equal(await replyFor(topology, '203.0.113.9, 192.0.2.1'), 'busy\n');
      assert.equal(await replyFor(topology, '192.0.2.2'), 'waits');
    });

    test('ignore X-Forwarded-For of an untrusted client', async (context) => {
      const topology = await open(context, limited(1, '192.0.2.0/24'));
      assert.equal(await replyFor(topology, '192.0.2.1'), 'waits');
      assert.equal(await replyFor(topology, '192.0.2.2'), 'busy\n');
    });
  });
}
