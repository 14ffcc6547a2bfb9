import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { buffer } from 'node:stream/consumers';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import type { TransportKind } from '../../src/transport/client-transport.ts';
import { SIDE_A, SIDE_B, handshake, newToken } from '../support/bytes.ts';
import type { TestRelayOptions } from '../support/test-relay.ts';
import { until } from '../support/scratch.ts';
import { sumOf } from './place.ts';
import type { HousePlace, OpenPlace } from './place.ts';

const TRANSPORTS: readonly TransportKind[] = ['tcp', 'unix', 'websocket'];

/**
 * How long clients have for what. The time for a line runs where a client comes to; who waits, or is in a pair, has its time at the
 * relay that owns its token.
 *
 * @param name where they are, in front of every name
 */
export function timeoutsSuite(name: string, openPlace: OpenPlace): void {
  async function open(
    context: TestContext,
    timeouts: NonNullable<TestRelayOptions['timeouts']>,
  ): Promise<HousePlace> {
    const place = await openPlace(() => ({ timeouts }));
    context.after(() => place.close());
    return place;
  }

  for (const transport of TRANSPORTS) {
    describe(`${name}: a ${transport} client that takes too long`, () => {
      const code = transport === 'websocket' ? 1000 : null;

      test('for its line is closed without a word, however much of it there is', async (context) => {
        const place = await open(context, { handshakeMs: 200 });
        const silent = await place.connect(transport);
        const slow = await place.connect(transport);
        await slow.send('please relay ');
        for (const client of [silent, slow]) {
          assert.deepEqual(await client.closed, { reset: false, code });
          assert.equal(client.receivedBytes, 0);
        }
        const summaries = await place.recorded(2);
        assert.deepEqual(
          summaries.map(({ mood }) => mood),
          ['empty', 'empty'],
        );
        await place.deserted();
      });

      test('to find a partner is closed, and its token is free', async (context) => {
        const place = await open(context, { waitMs: 200 });
        const token = newToken();
        const client = await place.connect(transport);
        await client.send(handshake(token, SIDE_A));
        assert.deepEqual(await client.closed, { reset: false, code });
        const [summary] = await place.recorded(1);
        assert.deepEqual([summary?.mood, summary?.waitingMs], ['lonely', null]);
        assert.equal(place.waiting(), 0);
        await place.deserted();
      });

      test('to find a partner is closed where another of its side waits too', async (context) => {
        const place = await open(context, { waitMs: 300 });
        const token = newToken();
        const first = await place.connect('tcp');
        await first.send(handshake(token, SIDE_A));
        await until(() => place.waiting() === 1);
        const client = await place.connect(transport);
        await client.send(handshake(token, SIDE_A));
        await until(() => place.waiting() === 2);
        assert.deepEqual(await client.closed, { reset: false, code });
        assert.equal(client.receivedBytes, 0);
        await first.closed;
        assert.deepEqual(
          (await place.recorded(2)).map(({ mood }) => mood),
          ['lonely', 'lonely'],
        );
        await place.deserted();
      });

      test('to say anything ends its pair, which has its record', async (context) => {
        const place = await open(context, { idleMs: 300 });
        const token = newToken();
        const [a, b] = [await place.connect(transport), await place.connect('tcp')];
        await a.send(handshake(token, SIDE_A));
        await b.send(handshake(token, SIDE_B));
        await until(() => a.receivedBytes >= 3);
        await a.send('some bytes');
        await until(() => b.receivedBytes === 13);
        assert.deepEqual(await a.closed, { reset: false, code });
        assert.deepEqual(await b.closed, { reset: false, code: null });
        assert.equal(b.received.toString(), 'ok\nsome bytes');
        const [summary, ...more] = await place.recorded(1);
        assert.deepEqual([summary?.mood, summary?.totalBytes, more], ['happy', 10, []]);
        await place.deserted();
      });

      test('before, is let alone in its next state', async (context) => {
        const place = await open(context, { handshakeMs: 150, waitMs: 400 });
        const token = newToken();
        const a = await place.connect(transport);
        await a.send(handshake(token, SIDE_A));
        await until(() => place.waiting() === 1);
        const quick = await place.connect(transport);
        await quick.closed;
        assert.equal(place.waiting(), 1);
        const b = await place.connect(transport);
        await b.send(handshake(token, SIDE_B));
        await until(() => a.receivedBytes >= 3);
        const late = await place.connect(transport);
        await late.send(handshake(newToken(), SIDE_A));
        await late.closed;
        assert.equal(
          sumOf(place, ({ sessions }) => sessions.pairs),
          1,
        );
      });
    });
  }

  test(`${name}: an upgrade that is never finished ends with the time for a handshake`, async (context) => {
    const place = await open(context, { handshakeMs: 200 });
    const socket = connect(place.addresses().websocketPort, '127.0.0.1');
    socket.write('GET / HTTP/1.1\r\nHost: relay\r\n');
    const answer = await buffer(socket);
    assert.match(answer.toString(), /^HTTP\/1\.1 408 /u);
    assert.deepEqual(place.endings, []);
  });
}
