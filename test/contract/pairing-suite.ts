import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';
import type { TransportKind } from '../../src/transport/client-transport.ts';
import { SIDE_A, SIDE_B, SIDE_C, handshake, newToken, randomBytesOf } from '../support/bytes.ts';
import { until } from '../support/scratch.ts';
import type { TestClient } from '../support/test-client.ts';
import type { Place } from './place.ts';

const TRANSPORTS: readonly TransportKind[] = ['tcp', 'unix', 'websocket'];
const OK = Buffer.from('ok\n');

interface Pairing {
  readonly first: TransportKind;
  readonly second: TransportKind;
}

const PAIRINGS: readonly Pairing[] = TRANSPORTS.flatMap((first) =>
  TRANSPORTS.map((second) => ({ first, second })),
);

/** What a client sees that was closed without a fault. */
function closedCleanly(transport: TransportKind, code = 1000): { reset: boolean; code: number | null } {
  return { reset: false, code: transport === 'websocket' ? code : null };
}

export interface PairingSuiteOptions {
  /** What the house is, in front of every name. */
  readonly name: string;
  readonly open: () => Promise<Place>;
  /** Relays on the way of a byte: each has a kernel's buffers on either side. */
  readonly hops: number;
  /** Ordered pairs of transports; without it, all of them. */
  readonly pairings?: readonly Pairing[];
  /** Its relays can be told to look for resets. */
  readonly canSweep: boolean;
  /** What goes each way in the longest of the tests. */
  readonly bulkBytes: number;
}

/** What any two clients may expect of each other, over ordered pairs of transports. */
export function pairingSuite(options: PairingSuiteOptions): void {
  for (const { first, second } of options.pairings ?? PAIRINGS) {
    describe(`${options.name}: a ${first} client waits, a ${second} client comes`, () => {
      let relay: Place;
      before(async () => {
        relay = await options.open();
      });
      afterEach(async () => {
        relay.checkConsistency();
        await relay.forgetEndings();
      });
      after(() => relay.close());

      async function pair(): Promise<[TestClient, TestClient]> {
        const token = newToken();
        const a = await relay.connect(first);
        await a.send(handshake(token, SIDE_A));
        const b = await relay.connect(second);
        await b.send(handshake(token, SIDE_B));
        assert.deepEqual(await a.until(3), OK);
        assert.deepEqual(await b.until(3), OK);
        return [a, b];
      }

      test('both get ok, and then what the other sends', async () => {
        const [a, b] = await pair();
        await a.send('from a');
        await b.send('from b');
        assert.equal((await a.until(9)).toString(), 'ok\nfrom b');
        assert.equal((await b.until(9)).toString(), 'ok\nfrom a');
        a.end();
        assert.deepEqual(await b.closed, closedCleanly(second));
        const [summary] = await relay.recorded(1);
        assert.equal(summary?.mood, 'happy');
        assert.equal(summary?.totalBytes, 12);
        assert.ok(
          summary !== undefined && summary.waitingMs !== null && summary.waitingMs <= summary.totalMs,
        );
      });

      test('an unsided client matches a sided one and another unsided one', async () => {
        for (const side of [SIDE_B, null]) {
          const token = newToken();
          const a = await relay.connect(first);
          await a.send(handshake(token));
          const b = await relay.connect(second);
          await b.send(handshake(token, side));
          assert.deepEqual(await a.until(3), OK);
          assert.deepEqual(await b.until(3), OK);
          a.end();
          await b.closed;
        }
        assert.equal((await relay.recorded(2)).length, 2);
      });

      // The older connection is most likely dead: its client has reconnected, for instance after its network changed.
      test('of two connections of one side the newer one is paired, and the older one is redundant', async () => {
        const token = newToken();
        const a = await relay.connect(first);
        await a.send(handshake(token, SIDE_A));
        await until(() => relay.waiting() === 1);
        const again = await relay.connect(second);
        await again.send(handshake(token, SIDE_A));
        await until(() => relay.waiting() === 2);
        const b = await relay.connect(second);
        await b.send(handshake(token, SIDE_C));
        assert.deepEqual(await b.until(3), OK);
        assert.deepEqual(await a.closed, closedCleanly(first));
        assert.equal(a.receivedBytes, 0);
        assert.deepEqual(await again.until(3), OK);
        b.end();
        await again.closed;
        const moods = (await relay.recorded(2)).map((summary) => summary.mood);
        assert.deepEqual(moods.toSorted(), ['happy', 'redundant']);
      });

      test('bytes behind the handshake of the second client are delivered', async () => {
        const token = newToken();
        const a = await relay.connect(first);
        await a.send(handshake(token, SIDE_A));
        // Of two that come at once to different relays, either may be the second.
        await until(() => relay.waiting() === 1);
        const b = await relay.connect(second);
        await b.send(`${handshake(token, SIDE_B)}early`);
        assert.equal((await a.until(8)).toString(), 'ok\nearly');
        b.end();
        await a.closed;
        assert.equal((await relay.recorded(1))[0]?.totalBytes, 5);
      });

      const size = options.bulkBytes;
      test(`${size / 1e6} MB go both ways at once, byte by byte`, { timeout: 120_000 }, async () => {
        const [a, b] = await pair();
        const fromA = randomBytesOf(1, size);
        const fromB = randomBytesOf(2, size);
        await Promise.all([a.sendAll(fromA, 300_007), b.sendAll(fromB, 70_001)]);
        const [gotA, gotB] = await Promise.all([a.until(size + 3), b.until(size + 3)]);
        assert.ok(gotA.subarray(3).equals(fromB));
        assert.ok(gotB.subarray(3).equals(fromA));
        for (const client of [a, b]) assert.ok(Math.max(0, ...client.messageSizes) <= 32_768);
        a.end();
        await b.closed;
        assert.equal((await relay.recorded(1))[0]?.totalBytes, 2 * size);
      });

      test('what was sent before a FIN is delivered, also to a slow receiver', async () => {
        const [a, b] = await pair();
        const bytes = randomBytesOf(3, 8_000_000);
        b.pause();
        const sent = a.sendAll(bytes, 65_536);
        b.resume();
        await sent;
        a.end();
        assert.deepEqual(await b.closed, closedCleanly(second));
        assert.ok(b.received.subarray(3).equals(bytes));
      });

      test('a reset ends the pair after what was sent has been delivered', async () => {
        const [a, b] = await pair();
        const bytes = randomBytesOf(4, 100_000);
        await a.send(bytes);
        await b.until(100_003);
        a.reset();
        assert.deepEqual(await b.closed, closedCleanly(second));
        assert.ok(b.received.subarray(3).equals(bytes));
        assert.equal((await relay.recorded(1))[0]?.mood, 'happy');
      });

      test(
        'a receiver that stops reading stops its sender, and gets everything when it goes on',
        { timeout: 60_000 },
        async () => {
          const [a, b] = await pair();
          b.pause();
          const bytes = randomBytesOf(5, 64_000_000);
          const sent = a.sendAll(bytes, 65_536);
          await relay.stalled();
          const relayed = relay.incompleteBytes();
          // What has been taken fills kernel buffers, which machines let grow to about 10 MB in all, and now and then to more.
          assert.ok(
            relayed < options.hops * 25_000_000,
            `${relayed} bytes were taken for a receiver that does not read`,
          );
          const held = relay.heldBytes();
          assert.ok(held <= options.hops * 2_000_000, `${held} bytes are held in the process`);
          b.resume();
          await sent;
          const got = await b.until(bytes.length + 3);
          assert.ok(got.subarray(3).equals(bytes));
          a.end();
          await b.closed;
        },
      );

      test('a stalled receiver that is reset ends the pair', async () => {
        const [a, b] = await pair();
        b.pause();
        const sent = a.sendAll(randomBytesOf(6, 64_000_000), 65_536);
        await relay.stalled();
        b.reset();
        assert.deepEqual(await a.closed, closedCleanly(first));
        assert.equal((await relay.recorded(1))[0]?.mood, 'happy');
        await sent;
      });

      // Others look after such senders every 15 s, too seldom to wait for.
      if (!options.canSweep) return;
      test('a paused sender that is reset is noticed', async () => {
        const { sweep } = relay;
        assert.ok(sweep !== null);
        const [a, b] = await pair();
        b.pause();
        const sent = a.sendAll(randomBytesOf(7, 64_000_000), 65_536);
        await relay.stalled();
        a.reset();
        await sent;
        // The first sweep remembers how far the receiver is, the next one finds it where it was and asks.
        while (relay.endings.length === 0) {
          sweep();
          await new Promise((resolve) => setImmediate(resolve));
        }
        assert.equal(relay.endings[0]?.mood, 'happy');
        b.resume();
        await b.closed;
      });
    });
  }
}
