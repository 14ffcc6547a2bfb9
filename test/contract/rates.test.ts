import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Pacer } from '../../src/limits/pacer.ts';
import type { Transport } from '../../src/net/peer.ts';
import { SIDE_A, SIDE_B, handshake, newToken, randomBytesOf } from '../support/bytes.ts';
import { House } from '../support/house.ts';
import { until } from '../support/scratch.ts';
import type { TestClient } from '../support/test-client.ts';

const TRANSPORTS: readonly Transport[] = ['tcp', 'unix', 'websocket'];

/** What a pair may be ahead by: a read, and what WebSocket frames are around it. */
const READ_BYTES = 17_000;

async function pairOf(house: House, transport: Transport): Promise<readonly [TestClient, TestClient]> {
  const token = newToken();
  const clients = [await house.connect(transport), await house.connect(transport)] as const;
  await clients[0].send(handshake(token, SIDE_A));
  await clients[1].send(handshake(token, SIDE_B));
  for (const client of clients) assert.equal((await client.until(3)).toString(), 'ok\n');
  return clients;
}

for (const transport of TRANSPORTS) {
  describe(`a rate for ${transport} pairs`, () => {
    for (const [whose, limits, pairs] of [
      ['each', { pairBytesPerSecond: 200_000, totalBytesPerSecond: null }, 2],
      ['all together', { pairBytesPerSecond: null, totalBytesPerSecond: 400_000 }, 2],
    ] as const) {
      test(`of ${whose} lets as much through as the time allows, and every byte of it`, async (context) => {
        let now = 0;
        const pacer = new Pacer(limits, () => now);
        const house = await House.open({ limits: { pacer } });
        context.after(() => house.close());
        const payload = randomBytesOf(5, 300_000);
        const couples = [];
        for (let index = 0; index < pairs; index += 1) couples.push(await pairOf(house, transport));
        // One with one busy direction, one with two.
        const [[a, b] = [], [c, d] = []] = couples;
        assert.ok(a !== undefined && b !== undefined && c !== undefined && d !== undefined);
        const sent = [a, c, d].map((client) => client.sendAll(payload, 10_000));
        // No time passes.
        await house.stalled();
        const atOnce = house.hub.census().relayedBytes;
        assert.ok(atOnce > 0 && atOnce <= 3 * READ_BYTES, String(atOnce));
        for (let tenths = 1; tenths <= 5; tenths += 1) {
          now += 100;
          await house.stalled();
          const moved = house.hub.census().relayedBytes;
          const due = tenths * 40_000;
          assert.ok(
            Math.abs(moved - due) <= 3 * READ_BYTES,
            `${moved} bytes after ${tenths} tenths of a second`,
          );
        }
        // Both pairs have had the same.
        const [first, second] = [b.receivedBytes, c.receivedBytes + d.receivedBytes];
        assert.ok(Math.abs(first - second) <= 3 * READ_BYTES, `${first} and ${second} bytes`);
        const hurry = setInterval(() => {
          now += 50;
        }, 5);
        await Promise.all(sent);
        for (const client of [b, c, d]) assert.ok((await client.until(300_003)).subarray(3).equals(payload));
        a.end();
        c.end();
        // A pair that is held is not read, its FINs neither.
        const endings = await house.recorded(2);
        clearInterval(hurry);
        assert.deepEqual(
          endings.map(({ totalBytes }) => totalBytes).toSorted((one, other) => one - other),
          [300_000, 600_000],
        );
        await until(() => house.reception.connections === 0);
      });
    }

    test('does not keep a pair that is held from ending', async (context) => {
      const pacer = new Pacer({ pairBytesPerSecond: 1000, totalBytesPerSecond: null }, () => 0);
      const house = await House.open({ limits: { pacer } });
      context.after(() => house.close());
      const [a, b] = await pairOf(house, transport);
      void a.sendAll(randomBytesOf(6, 200_000), 10_000);
      await house.stalled();
      // It is not read, so that only a reset or the partner can end it.
      b.destroy();
      house.hub.endPairs();
      await house.recorded(1);
      await until(() => house.reception.connections === 0);
    });
  });
}
