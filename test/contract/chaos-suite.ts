import assert from 'node:assert/strict';
import { randomInt } from 'node:crypto';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { randomBytesOf } from '../support/bytes.ts';
import { Dice } from '../support/dice.ts';
import { until } from '../support/scratch.ts';
import { TRANSPORTS, connectPair } from '../support/test-client.ts';
import type { TestRelayOptions } from '../support/test-relay.ts';
import {
  OK_BYTES,
  PAIRINGS,
  checkPrefix,
  everyPairing,
  receiveRandomly,
  sendRandomly,
  sendUntilOver,
} from './chaos-traffic.ts';
import type { Direction } from './chaos-traffic.ts';
import { sumOf } from './topology.ts';
import type { InProcessTopology, Setup } from './topology.ts';

/** First seed of this run. A failure names its seed, for a run that starts with it. */
const FIRST_SEED = Number(process.env['CHAOS_SEED'] ?? randomInt(2 ** 31));

const MIB = 1_048_576;
const BACKENDS: Readonly<Record<string, TestRelayOptions>> = {
  'the shared buffer': {},
  'the shared buffer without buffer memory': { bufferMemoryBytes: 0 },
  'standard streams': { standardStreams: true },
};

export interface ChaosSuiteOptions {
  /** How often each test runs, each time with another seed. */
  readonly rounds: number;
  /** Maximum number of bytes per direction of a pair. */
  readonly maxBytes: number;
  /** I/O backends to test; by default all of them. */
  readonly backends?: Readonly<Record<string, TestRelayOptions>>;
}

async function checkEmpty(topology: InProcessTopology): Promise<void> {
  await topology.untilEmpty();
  topology.checkConsistency();
  assert.equal(
    sumOf(topology, ({ sessions }) => sessions.pairs),
    0,
  );
  assert.equal(topology.bufferedBytes(), 0);
  assert.equal(
    sumOf(topology, ({ backend }) => backend.scheduler.bufferedBytes),
    0,
  );
}

async function checkAllHappy(topology: InProcessTopology, pairs: number): Promise<void> {
  const moods = (await topology.waitForRecords(pairs)).map(({ mood }) => mood);
  assert.deepEqual(
    moods,
    Array.from({ length: pairs }, () => 'happy'),
  );
}

/** Resolves with the maximum number of buffered bytes during `work`. */
async function maxBufferedBytes(topology: InProcessTopology, work: Promise<unknown>): Promise<number> {
  let highest = 0;
  const timer = setInterval(() => {
    highest = Math.max(highest, topology.bufferedBytes());
  }, 5);
  await work.finally(() => clearInterval(timer));
  return highest;
}

/** Random writes, random pauses and random ends of clients; every received byte is compared. */
export function chaosSuite(
  { name, open, relayCount }: Setup,
  { rounds, maxBytes, backends = BACKENDS }: ChaosSuiteOptions,
): void {
  for (const [backend, options] of Object.entries(backends)) {
    describe(`${name}: chaos over ${backend}`, () => {
      /** Runs several rounds, each in a topology of its own. Checks that no client is left after each. */
      async function eachRound(
        run: (topology: InProcessTopology, random: Dice) => Promise<void>,
      ): Promise<void> {
        for (let seed = FIRST_SEED; seed < FIRST_SEED + rounds; seed += 1) {
          const topology = await open(() => options);
          try {
            await run(topology, new Dice(seed));
            await checkEmpty(topology);
          } catch (cause) {
            throw new Error(`with CHAOS_SEED=${seed}: ${String(cause)}`, { cause });
          } finally {
            await topology.close();
          }
        }
      }

      /** All clients send and receive, and one of each pair leaves before the transfer is complete. */
      async function withLosses(
        topology: InProcessTopology,
        random: Dice,
        ending: 'end' | 'reset',
      ): Promise<void> {
        const pairs = await everyPairing(topology, random, maxBytes);
        const work = pairs.map(async ([forward, backward]) => {
          const [last, first] = random.happens(0.5) ? [forward, backward] : [backward, forward];
          const { from: leaving, to: remaining } = last;
          const afterMs = random.between(0, 700);
          const traffic = [forward, backward].flatMap((direction) => [
            sendRandomly(direction),
            receiveRandomly(direction),
          ]);
          await sleep(afterMs);
          last.isOver = true;
          leaving[ending]();
          await Promise.all([...traffic, leaving.closed]);
          const code = remaining.transport === 'websocket' ? 1000 : null;
          assert.deepEqual(await remaining.closed, { reset: false, code }, `${remaining.transport} remains`);
          checkPrefix(first);
          const receivedCount = checkPrefix(last);
          if (ending === 'end')
            assert.equal(receivedCount, last.sentBytes, `from ${leaving.transport}, which has ended`);
        });
        await Promise.all(work);
        await checkAllHappy(topology, pairs.length);
      }

      test('every byte arrives, for any pattern of writes and reads', () =>
        eachRound(async (topology, random) => {
          const directions = (await everyPairing(topology, random, maxBytes)).flat();
          const work = directions.flatMap((direction) => [
            sendRandomly(direction),
            receiveRandomly(direction),
          ]);
          assert.ok((await maxBufferedBytes(topology, Promise.all(work))) > 0, 'no receiver has stalled');
          for (const direction of directions) assert.equal(checkPrefix(direction), direction.bytes.length);
          for (const { from } of directions) from.end();
          await topology.waitForRecords(PAIRINGS.length);
          const relayed = topology.summaries.reduce((sum, { totalBytes }) => sum + totalBytes, 0);
          const sent = directions.reduce((sum, { bytes }) => sum + bytes.length, 0);
          assert.equal(relayed, sent);
        }));

      test('after a reset the partner has an exact prefix of the sent bytes', () =>
        eachRound((topology, random) => withLosses(topology, random, 'reset')));

      test('after an end the partner has every byte that was sent before it', () =>
        eachRound((topology, random) => withLosses(topology, random, 'end')));

      // Every pair uses a link between relays, and links may fail.
      if (relayCount > 1)
        test('after a lost link both clients have an exact prefix of the sent bytes', () =>
          eachRound(async (topology, random) => {
            const pairs = await everyPairing(topology, random, maxBytes);
            const directions = pairs.flat();
            const traffic = directions.flatMap((direction) => [
              sendRandomly(direction),
              receiveRandomly(direction),
            ]);
            await sleep(random.between(0, 700));
            topology.cutLinks?.();
            for (const { from } of directions) {
              const code = from.transport === 'websocket' ? 1000 : null;
              assert.deepEqual(await from.closed, { reset: false, code }, from.transport);
            }
            await Promise.all(traffic);
            for (const direction of directions) checkPrefix(direction);
            await checkAllHappy(topology, pairs.length);
          }));

      test('buffered bytes of stalled receivers are not overwritten by other traffic', async (context) => {
        const topology = await open(() => options);
        context.after(() => topology.close());
        // More than the kernel buffers of all connections, which grow, and the memory of the relays.
        const data = randomBytesOf(40, relayCount * 32 * MIB);
        const stalled: Direction[] = [];
        for (const transport of [...TRANSPORTS, ...TRANSPORTS, 'unix', 'unix'] as const) {
          const [from, to] = await connectPair(
            topology,
            stalled.length % 2 === 0 ? 'tcp' : 'websocket',
            transport,
          );
          to.pause();
          // Each pair has different bytes.
          const bytes = data.subarray(stalled.length * 4099);
          stalled.push({ from, to, bytes, random: new Dice(0), sentBytes: 0, isOver: false });
        }
        let finished = 0;
        const sending = stalled.map((direction) => sendUntilOver(direction).then(() => (finished += 1)));
        // Senders that wait for a processor also look stalled.
        await until(() => topology.bufferedBytes() > 0);
        await topology.untilStalled();
        assert.equal(finished, 0, 'a receiver has not stalled');
        assert.ok(topology.bufferedBytes() > 0);

        const others = randomBytesOf(41, maxBytes);
        for (const [first, second] of PAIRINGS) {
          const [from, to] = await connectPair(topology, first, second);
          const [, received] = await Promise.all([
            from.sendAll(others, 1_000_003),
            to.until(others.length + OK_BYTES),
          ]);
          assert.ok(received.subarray(OK_BYTES).equals(others));
          from.end();
          await to.closed;
        }
        assert.equal(finished, 0);

        for (const direction of stalled) {
          direction.isOver = true;
          direction.to.resume();
        }
        await Promise.all(sending);
        for (const direction of stalled) {
          await direction.to.until(direction.sentBytes + OK_BYTES);
          assert.equal(checkPrefix(direction), direction.sentBytes);
          direction.from.end();
        }
        await checkEmpty(topology);
      });
    });
  }
}
