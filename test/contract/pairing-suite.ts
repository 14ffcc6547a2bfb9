import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';
import type { TransportKind } from '../../src/transport/client-transport.ts';
import { SIDE_A, SIDE_B, SIDE_C, handshake, newToken, randomBytesOf } from '../support/bytes.ts';
import { until } from '../support/scratch.ts';
import { TRANSPORTS, closedWith, connectPair } from '../support/test-client.ts';
import type { TestClient } from '../support/test-client.ts';
import type { Setup, Topology } from './topology.ts';

const OK = Buffer.from('ok\n');

/**
 * Bytes that a relay may read for a receiver that does not read. They are in kernel buffers, which grow to
 * about 10 MB in total, occasionally more.
 */
const MAX_UNREAD_BYTES = 25_000_000;

/** A sender with so many bytes per relay cannot send all of them to a receiver that does not read. */
const STALLING_BYTES = 32_000_000;

/** The bytes of all tests, which begin at different positions: they take longer to make than to send. */
const NOISE = randomBytesOf(1, 2 * STALLING_BYTES);

function noise(position: number, length: number): Buffer {
  assert.ok(position + length <= NOISE.length);
  return NOISE.subarray(position, position + length);
}

type Pairing = readonly [first: TransportKind, second: TransportKind];

const PAIRINGS = TRANSPORTS.flatMap((first) => TRANSPORTS.map((second): Pairing => [first, second]));

export interface PairingSuiteOptions {
  /** Bytes per direction in the longest test. */
  readonly bulkBytes: number;
  /** Ordered pairs of transports; by default all of them. */
  readonly pairings?: readonly Pairing[];
  /** The test can make the relays check for resets; default: true. */
  readonly canSweep?: boolean;
}

/** Behaviour of a pair, over ordered pairs of transports. */
export function pairingSuite(
  { name, open, relayCount }: Setup<Topology>,
  { bulkBytes: size, pairings = PAIRINGS, canSweep = true }: PairingSuiteOptions,
): void {
  for (const [first, second] of pairings) {
    describe(`${name}: a ${first} client waits, a ${second} client connects`, () => {
      let relay: Topology;
      before(async () => {
        relay = await open();
      });
      afterEach(async () => {
        relay.checkConsistency();
        await relay.clearSummaries();
      });
      after(() => relay.close());

      const pair = (): Promise<[TestClient, TestClient]> => connectPair(relay, first, second);

      test('both clients get ok, then the bytes of the other one', async () => {
        const [a, b] = await pair();
        await a.send('from a');
        await b.send('from b');
        assert.equal((await a.until(9)).toString(), 'ok\nfrom b');
        assert.equal((await b.until(9)).toString(), 'ok\nfrom a');
        a.end();
        assert.deepEqual(await b.closed, closedWith(second));
        const [summary] = await relay.waitForRecords(1);
        assert.equal(summary?.mood, 'happy');
        assert.equal(summary?.totalBytes, 12);
        assert.ok(
          summary !== undefined && summary.waitingMs !== null && summary.waitingMs <= summary.totalMs,
        );
      });

      test('a client without a side matches clients with and without a side', async () => {
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
        assert.equal((await relay.waitForRecords(2)).length, 2);
      });

      // The older connection is probably dead: its client has reconnected, for example after its network
      // changed.
      test('of two connections of one side the newer one is paired and the older one is redundant', async () => {
        const token = newToken();
        const a = await relay.connect(first);
        await a.send(handshake(token, SIDE_A));
        await until(() => relay.waiting() === 1);
        const newer = await relay.connect(second);
        await newer.send(handshake(token, SIDE_A));
        await until(() => relay.waiting() === 2);
        const b = await relay.connect(second);
        await b.send(handshake(token, SIDE_C));
        assert.deepEqual(await b.until(3), OK);
        assert.deepEqual(await a.closed, closedWith(first));
        assert.equal(a.receivedBytes, 0);
        assert.deepEqual(await newer.until(3), OK);
        b.end();
        await newer.closed;
        const moods = (await relay.waitForRecords(2)).map((summary) => summary.mood);
        assert.deepEqual(moods.toSorted(), ['happy', 'redundant']);
      });

      test('bytes after the handshake of the second client are delivered', async () => {
        const token = newToken();
        const a = await relay.connect(first);
        await a.send(handshake(token, SIDE_A));
        // If two clients connect at once to different relays, either may be the second.
        await until(() => relay.waiting() === 1);
        const b = await relay.connect(second);
        await b.send(`${handshake(token, SIDE_B)}early`);
        assert.equal((await a.until(8)).toString(), 'ok\nearly');
        b.end();
        await a.closed;
        assert.equal((await relay.waitForRecords(1))[0]?.totalBytes, 5);
      });

      test(`${size / 1e6} MB in both directions at once arrive unchanged`, async () => {
        const [a, b] = await pair();
        const fromA = noise(0, size);
        const fromB = noise(1_000_003, size);
        await Promise.all([a.sendAll(fromA, 300_007), b.sendAll(fromB, 70_001)]);
        const [receivedByA, receivedByB] = await Promise.all([a.until(size + 3), b.until(size + 3)]);
        assert.ok(receivedByA.subarray(3).equals(fromB));
        assert.ok(receivedByB.subarray(3).equals(fromA));
        for (const client of [a, b]) assert.ok(Math.max(0, ...client.messageSizes) <= 32_768);
        a.end();
        await b.closed;
        assert.equal((await relay.waitForRecords(1))[0]?.totalBytes, 2 * size);
      });

      test('bytes sent before a FIN are delivered, also to a slow receiver', async () => {
        const [a, b] = await pair();
        const bytes = noise(3, 8_000_000);
        b.pause();
        const sent = a.sendAll(bytes, 65_536);
        b.resume();
        await sent;
        a.end();
        assert.deepEqual(await b.closed, closedWith(second));
        assert.ok(b.received.subarray(3).equals(bytes));
      });

      test('a reset ends the pair after the bytes sent before it have been delivered', async () => {
        const [a, b] = await pair();
        const bytes = noise(4, 100_000);
        await a.send(bytes);
        await b.until(100_003);
        a.reset();
        assert.deepEqual(await b.closed, closedWith(second));
        assert.ok(b.received.subarray(3).equals(bytes));
        assert.equal((await relay.waitForRecords(1))[0]?.mood, 'happy');
      });

      test('a receiver that stops reading pauses its sender, and gets everything when it resumes', async () => {
        const [a, b] = await pair();
        b.pause();
        const bytes = noise(0, relayCount * STALLING_BYTES);
        const sent = a.sendAll(bytes, 65_536);
        await relay.untilStalled();
        const relayed = relay.incompleteBytes();
        assert.ok(
          relayed < relayCount * MAX_UNREAD_BYTES,
          `${relayed} bytes were read for a receiver that does not read`,
        );
        const buffered = relay.bufferedBytes();
        assert.ok(buffered <= relayCount * 2_000_000, `${buffered} bytes are buffered in the process`);
        b.resume();
        await sent;
        const received = await b.until(bytes.length + 3);
        assert.ok(received.subarray(3).equals(bytes));
        a.end();
        await b.closed;
      });

      test('a stalled receiver that is reset ends the pair', async () => {
        const [a, b] = await pair();
        b.pause();
        const sent = a.sendAll(noise(0, relayCount * STALLING_BYTES), 65_536);
        await relay.untilStalled();
        a.discardUnsentAtEnd();
        b.reset();
        assert.deepEqual(await a.closed, closedWith(first));
        assert.equal((await relay.waitForRecords(1))[0]?.mood, 'happy');
        await sent;
      });

      // Other topologies check such senders every 15 s, which is too long for a test.
      if (!canSweep) return;
      test('the relay notices a reset of a paused sender', async () => {
        const { sweep } = relay;
        assert.ok(sweep !== null);
        const [a, b] = await pair();
        b.pause();
        const sent = a.sendAll(noise(0, relayCount * STALLING_BYTES), 65_536);
        await relay.untilStalled();
        a.reset();
        await sent;
        // The first sweep stores the position of the receiver. The next one finds it unchanged and probes.
        while (relay.summaries.length === 0) {
          sweep();
          await new Promise((resolve) => setImmediate(resolve));
        }
        assert.equal(relay.summaries[0]?.mood, 'happy');
        b.resume();
        await b.closed;
      });
    });
  }
}
