import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { RateLimiter } from '../../src/limits/rate-limiter.ts';
import type { TransportKind } from '../../src/transport/client-transport.ts';
import { randomBytesOf } from '../support/bytes.ts';
import { until } from '../support/scratch.ts';
import { connectPair } from '../support/test-client.ts';
import type { TestClient } from '../support/test-client.ts';
import type { InProcessTopology, Setup } from './topology.ts';

/** Bytes by which a pair may be ahead: one read plus WebSocket frame headers. */
const READ_BYTES = 17_000;

/** Several checks of the rate limiter, which are 10 ms apart, without a byte. In milliseconds. */
const QUIET_MS = 80;

/** A pair of clients. In a cluster the first client's relay owns it, and both relays measure its bytes. */
const pairOf = (topology: InProcessTopology, transport: TransportKind): Promise<[TestClient, TestClient]> =>
  connectPair(topology, transport, transport);

export interface RatesSuiteOptions {
  readonly transports: readonly TransportKind[];
  /** Duration of the measurement, in tenths of a second. */
  readonly tenths: number;
}

/** Rate limits of pairs. In a cluster each relay has its own limit, and the lower one applies. */
export function ratesSuite(
  { name, open, relayCount }: Setup,
  { transports, tenths: lastTenth }: RatesSuiteOptions,
): void {
  const slack = 3 * READ_BYTES;

  for (const transport of transports) {
    describe(`${name}: the rate limit of ${transport} pairs`, () => {
      for (const [whose, limits, pairs] of [
        ['each pair', { pairBytesPerSecond: 200_000, totalBytesPerSecond: null }, 2],
        ['all pairs together', { pairBytesPerSecond: null, totalBytesPerSecond: 400_000 }, 2],
      ] as const) {
        test(`of ${whose} allows the bytes for the elapsed time, and no byte is lost`, async (context) => {
          let now = 0;
          const topology = await open(() => ({
            limits: { rateLimiter: new RateLimiter(limits, () => now) },
          }));
          context.after(() => topology.close());
          const payload = randomBytesOf(5, 300_000);
          const clientPairs = [];
          for (let index = 0; index < pairs; index += 1) clientPairs.push(await pairOf(topology, transport));
          // One pair with traffic in one direction, one with traffic in both.
          const [[a, b] = [], [c, d] = []] = clientPairs;
          assert.ok(a !== undefined && b !== undefined && c !== undefined && d !== undefined);
          const sent = [a, c, d].map((client) => client.sendAll(payload, 10_000));
          // The clock stands still.
          await until(() => topology.incompleteBytes() > 0);
          await topology.untilStalled(QUIET_MS);
          const initialBytes = topology.incompleteBytes();
          assert.ok(initialBytes > 0 && initialBytes <= slack, String(initialBytes));
          for (let tenths = 1; tenths <= lastTenth; tenths += 1) {
            now += 100;
            const expectedBytes = tenths * 40_000;
            await until(() => topology.incompleteBytes() >= expectedBytes - slack);
            await topology.untilStalled(QUIET_MS);
            const relayedBytes = topology.incompleteBytes();
            assert.ok(
              Math.abs(relayedBytes - expectedBytes) <= slack,
              `${relayedBytes} bytes after ${tenths} tenths of a second`,
            );
          }
          // Both pairs have had the same number of bytes.
          const [first, second] = [b.receivedBytes, c.receivedBytes + d.receivedBytes];
          assert.ok(Math.abs(first - second) <= slack, `${first} and ${second} bytes`);
          const ticking = setInterval(() => {
            now += 50;
          }, 5);
          await Promise.all(sent);
          for (const client of [b, c, d])
            assert.ok((await client.until(300_003)).subarray(3).equals(payload));
          a.end();
          c.end();
          // A throttled pair is not read; its FINs are not read either.
          const summaries = await topology.waitForRecords(2);
          clearInterval(ticking);
          assert.deepEqual(
            summaries.map(({ totalBytes }) => totalBytes).toSorted((one, other) => one - other),
            [300_000, 600_000],
          );
          await topology.untilEmpty();
        });
      }

      // With one relay, the tests above are the same.
      for (const slow of relayCount > 1 ? Array.from({ length: relayCount }, (_, at) => at) : []) {
        test(`is that of relay ${slow + 1} if no other relay has one`, async (context) => {
          let now = 0;
          const limits = { pairBytesPerSecond: 200_000, totalBytesPerSecond: null };
          let relay = -1;
          const topology = await open(() => {
            relay += 1;
            return relay === slow ? { limits: { rateLimiter: new RateLimiter(limits, () => now) } } : {};
          });
          context.after(() => topology.close());
          const [a, b] = await pairOf(topology, transport);
          const payload = randomBytesOf(7, 1_000_000);
          const sent = a.sendAll(payload, 10_000);
          await topology.untilStalled(QUIET_MS);
          for (let tenths = 1; tenths <= lastTenth; tenths += 1) {
            now += 100;
            await until(() => b.receivedBytes >= tenths * 20_000 - READ_BYTES);
            await topology.untilStalled(QUIET_MS);
          }
          const [arrived, expectedBytes] = [b.receivedBytes, lastTenth * 20_000];
          assert.ok(
            Math.abs(arrived - expectedBytes) <= READ_BYTES,
            `${arrived} bytes instead of ${expectedBytes}`,
          );
          const ticking = setInterval(() => {
            now += 100;
          }, 5);
          await sent;
          assert.ok((await b.until(1_000_003)).subarray(3).equals(payload));
          a.end();
          await b.closed;
          clearInterval(ticking);
          await topology.untilEmpty();
        });
      }

      test('does not keep a throttled pair from ending', async (context) => {
        const limits = { pairBytesPerSecond: 1000, totalBytesPerSecond: null };
        const topology = await open(() => ({ limits: { rateLimiter: new RateLimiter(limits, () => 0) } }));
        context.after(() => topology.close());
        const [a, b] = await pairOf(topology, transport);
        void a.sendAll(randomBytesOf(6, 200_000), 10_000);
        await until(() => topology.incompleteBytes() > 0);
        await topology.untilStalled(QUIET_MS);
        // A throttled client is not read. Only a reset or its partner can end it.
        b.destroy();
        for (const { sessions } of topology.relays) sessions.closePairs();
        await topology.waitForRecords(1);
        await topology.untilEmpty();
      });
    });
  }
}
