import assert from 'node:assert/strict';
import { randomInt } from 'node:crypto';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { randomBytesOf } from '../support/bytes.ts';
import { Dice } from '../support/dice.ts';
import type { TestRelayOptions } from '../support/test-relay.ts';
import {
  OK_BYTES,
  PAIRINGS,
  TRANSPORTS,
  checkPrefix,
  everyPairing,
  pair,
  receiveRandomly,
  sendRandomly,
  sendUntilOver,
} from './chaos-ways.ts';
import type { Way } from './chaos-ways.ts';
import { sumOf } from './place.ts';
import type { HousePlace, OpenPlace } from './place.ts';

/** Seeds of this run: from this one on. A failure names its own, for a run that begins with it. */
const FIRST_SEED = Number(process.env['CHAOS_SEED'] ?? randomInt(2 ** 31));

const MIB = 1_048_576;
const PLANES: Readonly<Record<string, TestRelayOptions>> = {
  'the shared buffer': {},
  'the shared buffer and no memory to spare': { bufferMemoryBytes: 0 },
  'standard streams': { standardStreams: true },
};

export interface ChaosSuiteOptions {
  /** Where clients are, in front of every name. */
  readonly name: string;
  readonly open: OpenPlace;
  /** Relays on the way of a byte: each has a kernel's buffers on either side. */
  readonly hops: number;
  /** How often each test is done, with other dice each time. */
  readonly rounds: number;
  /** What goes each way of each pair at most. */
  readonly mostBytes: number;
  /** How bytes are moved; without it, each of the ways there are. */
  readonly planes?: Readonly<Record<string, TestRelayOptions>>;
  /** There are links, which may fail: each pair has one. */
  readonly linksFail: boolean;
}

async function allGone(place: HousePlace): Promise<void> {
  await place.deserted();
  place.checkConsistency();
  assert.equal(
    sumOf(place, ({ sessions }) => sessions.pairs),
    0,
  );
  assert.equal(place.heldBytes(), 0);
  assert.equal(
    sumOf(place, ({ backend }) => backend.bufferedBytes),
    0,
  );
}

async function allHappy(place: HousePlace, pairs: number): Promise<void> {
  const moods = (await place.recorded(pairs)).map(({ mood }) => mood);
  assert.deepEqual(
    moods,
    Array.from({ length: pairs }, () => 'happy'),
  );
}

/** Resolves with the most that the place has held while `work` was done. */
async function mostHeld(place: HousePlace, work: Promise<unknown>): Promise<number> {
  let most = 0;
  const timer = setInterval(() => {
    most = Math.max(most, place.heldBytes());
  }, 5);
  await work.finally(() => clearInterval(timer));
  return most;
}

/** What is written, and when who stops, goes on or goes, is up to dice; each byte that arrives is compared. */
export function chaosSuite(suite: ChaosSuiteOptions): void {
  const { name, open, hops, rounds, mostBytes, linksFail, planes = PLANES } = suite;
  for (const [backend, options] of Object.entries(planes)) {
    describe(`${name}: chaos over ${backend}`, () => {
      /** Several rounds in a place of their own. Leaves nobody behind each time. */
      async function eachRound(run: (place: HousePlace, dice: Dice) => Promise<void>): Promise<void> {
        for (let seed = FIRST_SEED; seed < FIRST_SEED + rounds; seed += 1) {
          const place = await open(() => options);
          try {
            await run(place, new Dice(seed));
            await allGone(place);
          } catch (cause) {
            throw new Error(`with CHAOS_SEED=${seed}: ${String(cause)}`, { cause });
          } finally {
            await place.close();
          }
        }
      }

      /** Everybody sends and receives, and one of each pair goes before all is over. */
      async function withLosses(place: HousePlace, dice: Dice, goes: 'end' | 'reset'): Promise<void> {
        const pairs = await everyPairing(place, dice, mostBytes);
        const work = pairs.map(async ([there, back]) => {
          const [last, first] = dice.happens(0.5) ? [there, back] : [back, there];
          const { from: one, to: other } = last;
          const afterMs = dice.between(0, 700);
          const traffic = [there, back].flatMap((way) => [sendRandomly(way), receiveRandomly(way)]);
          await sleep(afterMs);
          last.isOver = true;
          one[goes]();
          await Promise.all([...traffic, one.closed]);
          const code = other.transport === 'websocket' ? 1000 : null;
          assert.deepEqual(await other.closed, { reset: false, code }, `${other.transport} stays`);
          checkPrefix(first);
          const arrived = checkPrefix(last);
          if (goes === 'end') assert.equal(arrived, last.sentBytes, `from ${one.transport}, which has ended`);
        });
        await Promise.all(work);
        await allHappy(place, pairs.length);
      }

      test('every byte arrives, whatever is written and however it is received', { timeout: 120_000 }, () =>
        eachRound(async (place, dice) => {
          const ways = (await everyPairing(place, dice, mostBytes)).flat();
          const work = ways.flatMap((way) => [sendRandomly(way), receiveRandomly(way)]);
          assert.ok((await mostHeld(place, Promise.all(work))) > 0, 'no receiver has stalled');
          for (const way of ways) assert.equal(checkPrefix(way), way.bytes.length);
          for (const { from } of ways) from.end();
          await place.recorded(PAIRINGS.length);
          const relayed = place.endings.reduce((sum, { totalBytes }) => sum + totalBytes, 0);
          const sent = ways.reduce((sum, { bytes }) => sum + bytes.length, 0);
          assert.equal(relayed, sent);
        }),
      );

      test(
        'who survives a reset has the beginning of what was sent, byte by byte',
        { timeout: 120_000 },
        () => eachRound((place, dice) => withLosses(place, dice, 'reset')),
      );

      test('who is left has all that was sent before the end, byte by byte', { timeout: 120_000 }, () =>
        eachRound((place, dice) => withLosses(place, dice, 'end')),
      );

      if (linksFail)
        test('who loses a link has the beginning of what was sent, byte by byte', { timeout: 120_000 }, () =>
          eachRound(async (place, dice) => {
            const pairs = await everyPairing(place, dice, mostBytes);
            const ways = pairs.flat();
            const traffic = ways.flatMap((way) => [sendRandomly(way), receiveRandomly(way)]);
            await sleep(dice.between(0, 700));
            place.cutLinks?.();
            for (const { from } of ways) {
              const code = from.transport === 'websocket' ? 1000 : null;
              assert.deepEqual(await from.closed, { reset: false, code }, from.transport);
            }
            await Promise.all(traffic);
            for (const way of ways) checkPrefix(way);
            await allHappy(place, pairs.length);
          }),
        );

      test(
        'what is held for stalled receivers is not spoilt by what others send',
        { timeout: 60_000 },
        async (context) => {
          const place = await open(() => options);
          context.after(() => place.close());
          const much = randomBytesOf(40, hops * 24 * MIB);
          const stalled: Way[] = [];
          for (const transport of [...TRANSPORTS, ...TRANSPORTS, 'unix', 'unix'] as const) {
            const [from, to] = await pair(place, stalled.length % 2 === 0 ? 'tcp' : 'websocket', transport);
            to.pause();
            // To each his own.
            const bytes = much.subarray(stalled.length * 4099);
            stalled.push({ from, to, bytes, dice: new Dice(0), sentBytes: 0, isOver: false });
          }
          let finished = 0;
          const sending = stalled.map((way) => sendUntilOver(way).then(() => (finished += 1)));
          await place.stalled();
          assert.equal(finished, 0, 'a receiver has not stalled');
          assert.ok(place.heldBytes() > 0);

          const others = randomBytesOf(41, mostBytes);
          for (const [first, second] of PAIRINGS) {
            const [from, to] = await pair(place, first, second);
            const [, got] = await Promise.all([
              from.sendAll(others, 1_000_003),
              to.until(others.length + OK_BYTES),
            ]);
            assert.ok(got.subarray(OK_BYTES).equals(others));
            from.end();
            await to.closed;
          }
          assert.equal(finished, 0);

          for (const way of stalled) {
            way.isOver = true;
            way.to.resume();
          }
          await Promise.all(sending);
          for (const way of stalled) {
            await way.to.until(way.sentBytes + OK_BYTES);
            assert.equal(checkPrefix(way), way.sentBytes);
            way.from.end();
          }
          await allGone(place);
        },
      );
    });
  }
}
