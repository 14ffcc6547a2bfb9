import assert from 'node:assert/strict';
import { randomInt } from 'node:crypto';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Transport } from '../../src/net/peer.ts';
import { SIDE_A, SIDE_B, handshake, newToken, randomBytesOf } from '../support/bytes.ts';
import { Dice } from '../support/dice.ts';
import { House } from '../support/house.ts';
import type { HouseOptions } from '../support/house.ts';
import { until } from '../support/scratch.ts';
import type { TestClient } from '../support/test-client.ts';

/** Seeds of this run: from this one on. A failure names its own, for a run that begins with it. */
const FIRST_SEED = Number(process.env['CHAOS_SEED'] ?? randomInt(2 ** 31));

const ROUNDS = 3;

const MIB = 1_048_576;
const LARGEST_WRITE_BYTES = MIB;
const OK = Buffer.from('ok\n');

const TRANSPORTS: readonly Transport[] = ['tcp', 'unix', 'websocket'];
const PAIRINGS = TRANSPORTS.flatMap((first) => TRANSPORTS.map((second) => [first, second] as const));

const PLANES: Readonly<Record<string, HouseOptions>> = {
  'the shared buffer': {},
  'the shared buffer and no memory to spare': { bufferMemoryBytes: 0 },
  'ordinary streams': { ordinaryStreams: true },
};

/** One direction of a pair. */
interface Way {
  readonly from: TestClient;
  readonly to: TestClient;
  readonly bytes: Buffer;
  readonly dice: Dice;
}

/** Several rounds in a house of their own, each with other dice. Leaves an empty house behind each time. */
async function rounds(
  options: HouseOptions,
  run: (house: House, dice: Dice) => Promise<void>,
): Promise<void> {
  for (let seed = FIRST_SEED; seed < FIRST_SEED + ROUNDS; seed += 1) {
    const house = await House.open(options);
    try {
      await run(house, new Dice(seed));
      await allGone(house);
    } catch (cause) {
      throw new Error(`with CHAOS_SEED=${seed}: ${String(cause)}`, { cause });
    } finally {
      await house.close();
    }
  }
}

async function pair(house: House, first: Transport, second: Transport): Promise<[TestClient, TestClient]> {
  const token = newToken();
  const a = await house.connect(first);
  await a.send(handshake(token, SIDE_A));
  const b = await house.connect(second);
  await b.send(handshake(token, SIDE_B));
  await Promise.all([a.until(OK.length), b.until(OK.length)]);
  return [a, b];
}

/** Both ways of a pair over each ordered pair of transports. */
async function everyPairing(house: House, dice: Dice, bytesEachWay: number): Promise<[Way, Way][]> {
  const pairs: [Way, Way][] = [];
  for (const [first, second] of PAIRINGS) {
    const [a, b] = await pair(house, first, second);
    const way = (from: TestClient, to: TestClient): Way => {
      const length = dice.between(bytesEachWay / 2, bytesEachWay);
      const seed = dice.between(0, 2 ** 31);
      return { from, to, bytes: randomBytesOf(seed, length), dice: new Dice(seed) };
    };
    pairs.push([way(a, b), way(b, a)]);
  }
  return pairs;
}

/** Sends everything, or as much as the connection lives for. */
async function sendRandomly({ from, bytes, dice }: Way): Promise<void> {
  for (let at = 0; at < bytes.length && !from.isClosed;) {
    const sent: Promise<void>[] = [];
    for (let writes = dice.size(20); writes > 0; writes -= 1) {
      const size = dice.size(LARGEST_WRITE_BYTES);
      sent.push(from.send(bytes.subarray(at, at + size)));
      at += size;
    }
    await Promise.race([Promise.all(sent), from.closed]);
    if (dice.happens(0.2)) await sleep(dice.between(0, 5));
  }
}

/** Stops and goes on receiving until everything is there or the connection has ended. The first stop is long. */
async function receiveRandomly({ to, bytes, dice }: Way): Promise<void> {
  let longestMs = 500;
  while (to.receivedBytes < bytes.length + OK.length && !to.isClosed) {
    to.pause();
    await sleep(dice.between(0, longestMs));
    to.resume();
    await sleep(dice.between(0, 10));
    longestMs = dice.happens(0.1) ? 200 : 20;
  }
}

/** Throws unless the receiver has got the beginning of what was sent, byte by byte. Returns how much that is. */
function checkPrefix({ from, to, bytes }: Way): number {
  const received = to.received;
  const where = `from ${from.transport} to ${to.transport}`;
  const ok = received.subarray(0, OK.length);
  assert.deepEqual(ok, OK.subarray(0, ok.length), where);
  const payload = received.subarray(OK.length);
  assert.ok(payload.length <= bytes.length, `${where}: ${payload.length} bytes of ${bytes.length}`);
  if (!payload.equals(bytes.subarray(0, payload.length))) {
    const wrong = payload.findIndex((byte, index) => byte !== bytes[index]);
    assert.fail(`${where}: byte ${wrong} of ${payload.length} is wrong`);
  }
  return payload.length;
}

async function allGone(house: House): Promise<void> {
  await until(() => house.reception.connections === 0);
  house.hub.checkConsistency();
  assert.equal(house.hub.pairs, 0);
  assert.equal(house.hub.heldBytes, 0);
  assert.equal(house.plane.heldBytes, 0);
}

/** Resolves with the most that the house has held while `work` was done. */
async function mostHeld(house: House, work: Promise<unknown>): Promise<number> {
  let most = 0;
  const timer = setInterval(() => {
    most = Math.max(most, house.hub.heldBytes);
  }, 5);
  await work.finally(() => clearInterval(timer));
  return most;
}

for (const [name, options] of Object.entries(PLANES)) {
  describe(`chaos over ${name}`, () => {
    test('every byte arrives, whatever is written and however it is received', { timeout: 120_000 }, () =>
      rounds(options, async (house, dice) => {
        const ways = (await everyPairing(house, dice, 8 * MIB)).flat();
        const work = ways.flatMap((way) => [sendRandomly(way), receiveRandomly(way)]);
        assert.ok((await mostHeld(house, Promise.all(work))) > 0, 'no receiver has stalled');
        for (const way of ways) assert.equal(checkPrefix(way), way.bytes.length);
        for (const { from } of ways) from.end();
        await house.recorded(PAIRINGS.length);
        const relayed = house.endings.reduce((sum, { totalBytes }) => sum + totalBytes, 0);
        const sent = ways.reduce((sum, { bytes }) => sum + bytes.length, 0);
        assert.equal(relayed, sent);
      }),
    );

    test('who survives a reset has the beginning of what was sent, byte by byte', { timeout: 120_000 }, () =>
      rounds(options, async (house, dice) => {
        const pairs = await everyPairing(house, dice, 8 * MIB);
        const work = pairs.map(async ([there, back]) => {
          const [goes, stays] = dice.happens(0.5) ? [there.from, there.to] : [there.to, there.from];
          const afterMs = dice.between(0, 700);
          const traffic = [there, back].flatMap((way) => [sendRandomly(way), receiveRandomly(way)]);
          await sleep(afterMs);
          goes.reset();
          await Promise.all([...traffic, goes.closed]);
          const code = stays.transport === 'websocket' ? 1000 : null;
          assert.deepEqual(await stays.closed, { reset: false, code }, `${stays.transport} stays`);
        });
        await Promise.all(work);
        for (const way of pairs.flat()) checkPrefix(way);
        const moods = (await house.recorded(pairs.length)).map(({ mood }) => mood);
        assert.deepEqual(
          moods,
          pairs.map(() => 'happy'),
        );
      }),
    );

    test(
      'what is held for stalled receivers is not spoilt by what others send',
      { timeout: 60_000 },
      async (context) => {
        const house = await House.open(options);
        context.after(() => house.close());
        const much = randomBytesOf(40, 24 * MIB);
        const stalled: Way[] = [];
        for (const transport of [...TRANSPORTS, ...TRANSPORTS, 'unix', 'unix'] as const) {
          const [from, to] = await pair(house, stalled.length % 2 === 0 ? 'tcp' : 'websocket', transport);
          to.pause();
          // To each his own.
          const bytes = much.subarray(stalled.length * 4099, transport === 'unix' ? 12 * MIB : undefined);
          stalled.push({ from, to, bytes, dice: new Dice(0) });
        }
        let finished = 0;
        const sending = stalled.map(({ from, bytes }) =>
          from.sendAll(bytes, 300_007).then(() => {
            finished += 1;
          }),
        );
        await house.stalled();
        assert.equal(finished, 0, 'a receiver has not stalled');
        assert.ok(house.hub.heldBytes > 0);

        const others = randomBytesOf(41, 10 * MIB);
        for (const [first, second] of PAIRINGS) {
          const [from, to] = await pair(house, first, second);
          const [, got] = await Promise.all([
            from.sendAll(others, 1_000_003),
            to.until(others.length + OK.length),
          ]);
          assert.ok(got.subarray(OK.length).equals(others));
          from.end();
          await to.closed;
        }
        assert.equal(finished, 0);

        for (const { to } of stalled) to.resume();
        await Promise.all(sending);
        for (const way of stalled) {
          await way.to.until(way.bytes.length + OK.length);
          assert.equal(checkPrefix(way), way.bytes.length);
          way.from.end();
        }
        await allGone(house);
      },
    );
  });
}
