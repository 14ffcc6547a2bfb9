import assert from 'node:assert/strict';
import { get } from 'node:http';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { after, afterEach, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { WebSocket } from 'ws';
import { SIDE_A, SIDE_B, handshake, newToken, randomBytesOf } from '../support/bytes.ts';
import { until } from '../support/scratch.ts';
import type { TestClient } from '../support/test-client.ts';
import { connectionsIn } from './topology.ts';
import type { InProcessTopology, Setup } from './topology.ts';

/** Interval of the relay's pings, in milliseconds. Tests count pings, so that a late one does not matter. */
const PING_INTERVAL_MS = 20;

function lineOf(token: string): string {
  return handshake(token, SIDE_A);
}

/** Behaviour of WebSocket clients only. */
export function webSocketSuite({ name, open }: Setup): void {
  describe(`${name}: a WebSocket client`, () => {
    let topology: InProcessTopology;
    before(async () => {
      topology = await open();
    });
    afterEach(async () => {
      topology.checkConsistency();
      await topology.clearSummaries();
    });
    after(() => topology.close());

    /** Pairs `client` with a raw client and returns that one. */
    async function partnerOf(client: TestClient, token: string): Promise<TestClient> {
      const partner = await topology.connect('tcp');
      await partner.send(handshake(token, SIDE_B));
      assert.equal((await partner.until(3)).toString(), 'ok\n');
      assert.equal((await client.until(3)).toString(), 'ok\n');
      return partner;
    }

    /** A client that is paired with a raw client. In a cluster the second client of the two is forwarded. */
    async function pairClients(
      order: 'first' | 'second',
    ): Promise<readonly [client: TestClient, partner: TestClient]> {
      const token = newToken();
      if (order === 'first') {
        const client = await topology.connect('websocket');
        await client.send(lineOf(token));
        await until(() => topology.waiting() === 1);
        return [client, await partnerOf(client, token)];
      }
      const partner = await topology.connect('tcp');
      await partner.send(handshake(token, SIDE_B));
      await until(() => topology.waiting() === 1);
      const client = await topology.connect('websocket');
      await client.send(lineOf(token));
      await Promise.all([client.until(3), partner.until(3)]);
      return [client, partner];
    }

    const forms: Record<string, (token: string) => string[]> = {
      'with a newline': (token) => [lineOf(token)],
      'without a newline': (token) => [lineOf(token).trimEnd()],
      'without a side and a newline': (token) => [handshake(token).trimEnd()],
      'split after the token': (token) => [lineOf(token).slice(0, 77), lineOf(token).slice(77)],
      'with the newline in a message of its own': (token) => [lineOf(token).trimEnd(), '\n'],
      'with an empty message before it': (token) => ['', lineOf(token)],
    };
    for (const [form, messagesOf] of Object.entries(forms)) {
      test(`may send its handshake ${form}`, async () => {
        const token = newToken();
        const client = await topology.connect('websocket');
        for (const message of messagesOf(token)) await client.send(message);
        const partner = await partnerOf(client, token);
        await client.send('payload');
        assert.equal((await partner.until(10)).toString(), 'ok\npayload');
        client.end();
        await partner.closed;
      });
    }

    test('pairs immediately with a waiting partner, with or without a newline, and its first message is delivered', async () => {
      const token = newToken();
      const partner = await topology.connect('tcp');
      await partner.send(handshake(token, SIDE_B));
      const client = await topology.connect('websocket');
      await client.send(lineOf(token).trimEnd());
      await client.send('right behind');
      assert.equal((await partner.until(15)).toString(), 'ok\nright behind');
      client.end();
      await partner.closed;
    });

    test('is closed with 1003 for a text message before and while it waits', async () => {
      const early = await topology.connect('websocket');
      early.sendText('please relay');
      assert.equal((await early.closed).code, 1003);

      const waiting = await topology.connect('websocket');
      await waiting.send(lineOf(newToken()));
      waiting.sendText('hello');
      assert.equal((await waiting.closed).code, 1003);
      const moods = (await topology.waitForRecords(2)).map(({ mood }) => mood);
      assert.deepEqual(moods.toSorted(), ['empty', 'impatient']);
    });

    for (const order of ['first', 'second'] as const) {
      test(`that connects ${order} is closed with 1003 for a text message in its pair`, async () => {
        const [client, partner] = await pairClients(order);
        client.sendText('hello');
        assert.equal((await client.closed).code, 1003);
        await partner.closed;
        assert.equal(partner.received.toString(), 'ok\n');
        const moods = (await topology.waitForRecords(1)).map(({ mood }) => mood);
        assert.deepEqual(moods, ['happy']);
      });

      test(`that connects ${order} gets no message of more than 32 KiB`, async () => {
        const [client, partner] = await pairClients(order);
        const bytes = randomBytesOf(9, 5_000_000);
        await partner.sendAll(bytes, bytes.length);
        assert.ok((await client.until(bytes.length + 3)).subarray(3).equals(bytes));
        assert.equal(Math.max(...client.messageSizes), 32_768);
        partner.end();
        assert.deepEqual(await client.closed, { reset: false, code: 1000 });
      });

      test(`that connects ${order} may send a message of any length, which is forwarded before it is complete`, async () => {
        const [client, partner] = await pairClients(order);
        const bytes = randomBytesOf(10, 12_000_000);
        partner.pause();
        const sent = client.send(bytes);
        // More than the kernel and the relay buffer for a partner that does not read: the message is
        // incomplete.
        await until(() => topology.incompleteBytes() > 1_000_000);
        partner.resume();
        await sent;
        assert.ok((await partner.until(bytes.length + 3)).subarray(3).equals(bytes));
        client.end();
        await partner.closed;
      });
    }

    test('gets pongs for its pings, and no compression', async () => {
      const ws = new WebSocket(`ws://127.0.0.1:${topology.addresses().websocketPort}/v1`);
      await once(ws, 'open');
      assert.equal(ws.extensions, '');
      ws.ping('are you there');
      const [pong] = await once(ws, 'pong');
      assert.equal(String(pong), 'are you there');
      ws.terminate();
    });

    test('gets a one-line description if it connects without an upgrade', async () => {
      const request = get(`http://127.0.0.1:${topology.addresses().websocketPort}/`);
      const [response] = await once(request, 'response');
      assert.equal(response.statusCode, 200);
      assert.match(await text(response), /transit relay/u);
      await until(() => connectionsIn(topology) === 0);
    });
  });

  describe(`${name}: a WebSocket client that gets pings`, () => {
    let topology: InProcessTopology;
    before(async () => {
      topology = await open(() => ({ pingIntervalMs: PING_INTERVAL_MS }));
    });
    after(() => topology.close());

    async function connect(autoPong: boolean): Promise<WebSocket> {
      const ws = new WebSocket(`ws://127.0.0.1:${topology.addresses().websocketPort}/`, { autoPong });
      await once(ws, 'open');
      return ws;
    }

    test('is closed after ten pings without a pong', async () => {
      const silent = await connect(false);
      const awake = await connect(true);
      silent.send(Buffer.from(handshake(newToken(), SIDE_A)));
      awake.send(Buffer.from(handshake(newToken(), SIDE_A)));
      await once(silent, 'ping');
      silent.pong();
      let pings = 0;
      silent.on('ping', () => {
        pings += 1;
      });
      const [code] = await once(silent, 'close');
      assert.equal(code, 1006);
      // The pong may reach the relay only after the next ping.
      assert.ok(pings === 10 || pings === 11, `${pings} pings`);
      assert.equal((await topology.waitForRecords(1))[0]?.mood, 'lonely');
      await once(awake, 'ping');
      assert.equal(awake.readyState, WebSocket.OPEN);
      awake.terminate();
    });

    test('stays connected if it has never answered a ping, and is paired', async () => {
      const token = newToken();
      const silent = await connect(false);
      silent.send(Buffer.from(handshake(token, SIDE_A)));
      for (let pings = 0; pings < 15; pings += 1) await once(silent, 'ping');
      const partner = await topology.connect('tcp');
      await partner.send(handshake(token, SIDE_B));
      assert.equal((await partner.until(3)).toString(), 'ok\n');
      silent.send('ignored text', { binary: true });
      assert.equal((await partner.until(15)).toString(), 'ok\nignored text');
      for (let pings = 0; pings < 15; pings += 1) await once(silent, 'ping');
      silent.terminate();
      await partner.closed;
    });

    test('stays connected if it answers no further ping but writes', async () => {
      const token = newToken();
      const writer = await connect(false);
      writer.send(Buffer.from(handshake(token, SIDE_A)));
      const partner = await topology.connect('tcp');
      await partner.send(handshake(token, SIDE_B));
      await partner.until(3);
      await once(writer, 'ping');
      writer.pong();
      for (let pings = 0; pings < 15; pings += 1) {
        await once(writer, 'ping');
        writer.send(Buffer.from('x'));
      }
      assert.equal((await partner.until(18)).toString(), `ok\n${'x'.repeat(15)}`);
      writer.terminate();
      await partner.closed;
    });

    test('stays connected while the relay does not read from it', async () => {
      const token = newToken();
      const sender = await connect(true);
      // It has answered a ping, so missing pongs count.
      await once(sender, 'ping');
      sender.send(Buffer.from(handshake(token, SIDE_A)));
      const receiver = await topology.connect('tcp');
      await receiver.send(handshake(token, SIDE_B));
      await receiver.until(3);
      receiver.pause();
      const bytes = randomBytesOf(11, 32_000_000);
      sender.send(bytes);
      await topology.untilStalled();
      // Sixteen intervals: a client that counts as silent would be closed after eleven.
      await sleep(16 * PING_INTERVAL_MS);
      assert.equal(sender.readyState, WebSocket.OPEN);
      receiver.resume();
      const received = (await receiver.until(100_000)).subarray(3);
      assert.ok(received.equals(bytes.subarray(0, received.length)));
      sender.terminate();
      await receiver.closed;
    });
  });
}
