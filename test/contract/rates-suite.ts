import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { RateLimiter } from '../../src/limits/rate-limiter.ts';
import type { TransportKind } from '../../src/transport/client-transport.ts';
import { SIDE_A, SIDE_B, handshake, newToken, randomBytesOf } from '../support/bytes.ts';
import type { TestClient } from '../support/test-client.ts';
import type { HousePlace, OpenPlace } from './place.ts';

/** What a pair may be ahead by: a read, and what WebSocket frames are around it. */
const READ_BYTES = 17_000;

/** Two that have met; where there are several relays, the first one's has the pair, and both look at its bytes. */
async function pairOf(
  place: HousePlace,
  transport: TransportKind,
): Promise<readonly [TestClient, TestClient]> {
  const token = newToken();
  const clients = [await place.connect(transport), await place.connect(transport)] as const;
  await clients[0].send(handshake(token, SIDE_A));
  await clients[1].send(handshake(token, SIDE_B));
  for (const client of clients) assert.equal((await client.until(3)).toString(), 'ok\n');
  return clients;
}

export interface RatesSuiteOptions {
  /** Where clients are, in front of every name. */
  readonly name: string;
  readonly open: OpenPlace;
  readonly transports: readonly TransportKind[];
  /** Relays on the way of a byte, each with its own rate. */
  readonly hops: number;
  /** For how long the rate is looked at, in tenths of a second. */
  readonly tenths: number;
}

/** How fast pairs are. In a group it is each relay's own rate, and that of the slower of two. */
export function ratesSuite({ name, open, transports, hops, tenths: lastTenth }: RatesSuiteOptions): void {
  const slack = 3 * READ_BYTES;

  for (const transport of transports) {
    describe(`${name}: a rate for ${transport} pairs`, () => {
      for (const [whose, limits, pairs] of [
        ['each', { pairBytesPerSecond: 200_000, totalBytesPerSecond: null }, 2],
        ['all together', { pairBytesPerSecond: null, totalBytesPerSecond: 400_000 }, 2],
      ] as const) {
        test(`of ${whose} lets as much through as the time allows, and every byte of it`, async (context) => {
          let now = 0;
          const place = await open(() => ({ limits: { rateLimiter: new RateLimiter(limits, () => now) } }));
          context.after(() => place.close());
          const payload = randomBytesOf(5, 300_000);
          const couples = [];
          for (let index = 0; index < pairs; index += 1) couples.push(await pairOf(place, transport));
          // One with one busy direction, one with two.
          const [[a, b] = [], [c, d] = []] = couples;
          assert.ok(a !== undefined && b !== undefined && c !== undefined && d !== undefined);
          const sent = [a, c, d].map((client) => client.sendAll(payload, 10_000));
          // No time passes.
          await place.stalled();
          const atOnce = place.incompleteBytes();
          assert.ok(atOnce > 0 && atOnce <= slack, String(atOnce));
          for (let tenths = 1; tenths <= lastTenth; tenths += 1) {
            now += 100;
            await place.stalled();
            const moved = place.incompleteBytes();
            const due = tenths * 40_000;
            assert.ok(Math.abs(moved - due) <= slack, `${moved} bytes after ${tenths} tenths of a second`);
          }
          // Both pairs have had the same.
          const [first, second] = [b.receivedBytes, c.receivedBytes + d.receivedBytes];
          assert.ok(Math.abs(first - second) <= slack, `${first} and ${second} bytes`);
          const hurry = setInterval(() => {
            now += 50;
          }, 5);
          await Promise.all(sent);
          for (const client of [b, c, d])
            assert.ok((await client.until(300_003)).subarray(3).equals(payload));
          a.end();
          c.end();
          // A pair that is held is not read, its FINs neither.
          const summaries = await place.recorded(2);
          clearInterval(hurry);
          assert.deepEqual(
            summaries.map(({ totalBytes }) => totalBytes).toSorted((one, other) => one - other),
            [300_000, 600_000],
          );
          await place.deserted();
        });
      }

      for (let slow = 0; slow < hops; slow += 1) {
        if (hops === 1) break;
        test(`is that of relay ${slow + 1} where no other relay has one`, async (context) => {
          let now = 0;
          const limits = { pairBytesPerSecond: 200_000, totalBytesPerSecond: null };
          let relay = -1;
          const place = await open(() => {
            relay += 1;
            return relay === slow ? { limits: { rateLimiter: new RateLimiter(limits, () => now) } } : {};
          });
          context.after(() => place.close());
          const [a, b] = await pairOf(place, transport);
          const payload = randomBytesOf(7, 1_000_000);
          const sent = a.sendAll(payload, 10_000);
          await place.stalled();
          for (let tenths = 1; tenths <= lastTenth; tenths += 1) {
            now += 100;
            await place.stalled();
          }
          const [arrived, due] = [b.receivedBytes, lastTenth * 20_000];
          assert.ok(Math.abs(arrived - due) <= READ_BYTES, `${arrived} bytes instead of ${due}`);
          const hurry = setInterval(() => {
            now += 100;
          }, 5);
          await sent;
          assert.ok((await b.until(1_000_003)).subarray(3).equals(payload));
          a.end();
          await b.closed;
          clearInterval(hurry);
          await place.deserted();
        });
      }

      test('does not keep a pair that is held from ending', async (context) => {
        const limits = { pairBytesPerSecond: 1000, totalBytesPerSecond: null };
        const place = await open(() => ({ limits: { rateLimiter: new RateLimiter(limits, () => 0) } }));
        context.after(() => place.close());
        const [a, b] = await pairOf(place, transport);
        void a.sendAll(randomBytesOf(6, 200_000), 10_000);
        await place.stalled();
        // It is not read, so that only a reset or the partner can end it.
        b.destroy();
        for (const { sessions } of place.houses) sessions.closePairs();
        await place.recorded(1);
        await place.deserted();
      });
    });
  }
}
