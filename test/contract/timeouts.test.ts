import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { buffer } from 'node:stream/consumers';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import type { Transport } from '../../src/net/peer.ts';
import { SIDE_A, SIDE_B, handshake, newToken } from '../support/bytes.ts';
import { House } from '../support/house.ts';
import type { HouseOptions } from '../support/house.ts';
import { until } from '../support/scratch.ts';

const TRANSPORTS: readonly Transport[] = ['tcp', 'unix', 'websocket'];

async function open(context: TestContext, timeouts: HouseOptions['timeouts']): Promise<House> {
  const house = await House.open({ timeouts: timeouts ?? {} });
  context.after(() => house.close());
  return house;
}

for (const transport of TRANSPORTS) {
  describe(`a ${transport} client that takes too long`, () => {
    const code = transport === 'websocket' ? 1000 : null;

    test('for its line is closed without a word, however much of it there is', async (context) => {
      const house = await open(context, { handshakeMs: 200 });
      const silent = await house.connect(transport);
      const slow = await house.connect(transport);
      await slow.send('please relay ');
      for (const client of [silent, slow]) {
        assert.deepEqual(await client.closed, { reset: false, code });
        assert.equal(client.receivedBytes, 0);
      }
      const endings = await house.recorded(2);
      assert.deepEqual(
        endings.map(({ mood }) => mood),
        ['empty', 'empty'],
      );
      await until(() => house.reception.connections === 0);
    });

    test('to find a partner is closed, and its token is free', async (context) => {
      const house = await open(context, { waitMs: 200 });
      const token = newToken();
      const client = await house.connect(transport);
      await client.send(handshake(token, SIDE_A));
      assert.deepEqual(await client.closed, { reset: false, code });
      const [ending] = await house.recorded(1);
      assert.deepEqual([ending?.mood, ending?.waitingMs], ['lonely', null]);
      assert.equal(house.hub.census().waiting, 0);
      await until(() => house.reception.connections === 0);
    });

    test('to say anything ends its pair, which has its record', async (context) => {
      const house = await open(context, { idleMs: 300 });
      const token = newToken();
      const [a, b] = [await house.connect(transport), await house.connect('tcp')];
      await a.send(handshake(token, SIDE_A));
      await b.send(handshake(token, SIDE_B));
      await until(() => a.receivedBytes >= 3);
      await a.send('some bytes');
      await until(() => b.receivedBytes === 13);
      assert.deepEqual(await a.closed, { reset: false, code });
      assert.deepEqual(await b.closed, { reset: false, code: null });
      assert.equal(b.received.toString(), 'ok\nsome bytes');
      const [ending, ...more] = await house.recorded(1);
      assert.deepEqual([ending?.mood, ending?.totalBytes, more], ['happy', 10, []]);
      await until(() => house.reception.connections === 0);
    });

    test('before, is let alone in its next state', async (context) => {
      const house = await open(context, { handshakeMs: 150, waitMs: 400 });
      const token = newToken();
      const a = await house.connect(transport);
      await a.send(handshake(token, SIDE_A));
      await until(() => house.hub.census().waiting === 1);
      const quick = await house.connect(transport);
      await quick.closed;
      assert.equal(house.hub.census().waiting, 1);
      const b = await house.connect(transport);
      await b.send(handshake(token, SIDE_B));
      await until(() => a.receivedBytes >= 3);
      const late = await house.connect(transport);
      await late.send(handshake(newToken(), SIDE_A));
      await late.closed;
      assert.equal(house.hub.pairs, 1);
    });
  });
}

test('an upgrade that is never finished ends with the time for a handshake', async (context) => {
  const house = await open(context, { handshakeMs: 200 });
  const socket = connect(house.websocketPort, '127.0.0.1');
  socket.write('GET / HTTP/1.1\r\nHost: relay\r\n');
  const answer = await buffer(socket);
  assert.match(answer.toString(), /^HTTP\/1\.1 408 /u);
  assert.deepEqual(house.endings, []);
});
