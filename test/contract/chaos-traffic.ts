import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { randomBytesOf } from '../support/bytes.ts';
import { Dice } from '../support/dice.ts';
import { TRANSPORTS, connectPair } from '../support/test-client.ts';
import type { TestClient } from '../support/test-client.ts';
import type { InProcessTopology } from './topology.ts';

const LARGEST_WRITE_BYTES = 1_048_576;

/** Options of clients that never pause. */
const PIECE_BYTES = 300_007;

/** The reply when a client is paired, in bytes. */
export const OK_BYTES = 3;

export const PAIRINGS = TRANSPORTS.flatMap((first) => TRANSPORTS.map((second) => [first, second] as const));

/** One direction of a pair. */
export interface Direction {
  readonly from: TestClient;
  readonly to: TestClient;
  readonly bytes: Buffer;
  readonly random: Dice;
  /** Bytes passed to the sender so far. */
  sentBytes: number;
  /** The sender stops. */
  isOver: boolean;
}

/** Both directions of a pair, for each ordered pair of transports. */
export async function everyPairing(
  topology: InProcessTopology,
  random: Dice,
  bytesEachWay: number,
): Promise<[Direction, Direction][]> {
  const pairs: [Direction, Direction][] = [];
  for (const [first, second] of PAIRINGS) {
    const [a, b] = await connectPair(topology, first, second);
    const direction = (from: TestClient, to: TestClient): Direction => {
      const length = random.between(bytesEachWay / 2, bytesEachWay);
      const seed = random.between(0, 2 ** 31);
      return {
        from,
        to,
        bytes: randomBytesOf(seed, length),
        random: new Dice(seed),
        sentBytes: 0,
        isOver: false,
      };
    };
    pairs.push([direction(a, b), direction(b, a)]);
  }
  return pairs;
}

/** Sends everything, or as much as possible before the connection closes. */
export async function sendRandomly(direction: Direction): Promise<void> {
  const { from, bytes, random } = direction;
  for (let at = 0; at < bytes.length && !direction.isOver && !from.isClosed;) {
    const sent: Promise<void>[] = [];
    for (let writes = random.size(20); writes > 0; writes -= 1) {
      const size = random.size(LARGEST_WRITE_BYTES);
      sent.push(from.send(bytes.subarray(at, at + size)));
      at += size;
      direction.sentBytes = Math.min(at, bytes.length);
    }
    await Promise.race([Promise.all(sent), from.closed]);
    if (random.happens(0.2)) await sleep(random.between(0, 5));
  }
}

/**
 * Receives with random pauses until everything has arrived or the connection has closed. The first pause is
 * long.
 */
export async function receiveRandomly({ to, bytes, random }: Direction): Promise<void> {
  let longestMs = 500;
  while (to.receivedBytes < bytes.length + OK_BYTES && !to.isClosed) {
    to.pause();
    await sleep(random.between(0, longestMs));
    to.resume();
    await sleep(random.between(0, 10));
    longestMs = random.happens(0.1) ? 200 : 20;
  }
}

/** Throws unless the receiver has an exact prefix of what was sent. Returns its length. */
export function checkPrefix({ from, to, bytes }: Direction): number {
  const received = to.received;
  const where = `from ${from.transport} to ${to.transport}`;
  const ok = received.subarray(0, OK_BYTES);
  assert.deepEqual(ok, Buffer.from('ok\n').subarray(0, ok.length), where);
  const payload = received.subarray(OK_BYTES);
  assert.ok(payload.length <= bytes.length, `${where}: ${payload.length} bytes of ${bytes.length}`);
  if (!payload.equals(bytes.subarray(0, payload.length))) {
    const wrong = payload.findIndex((byte, index) => byte !== bytes[index]);
    assert.fail(`${where}: byte ${wrong} of ${payload.length} is wrong`);
  }
  return payload.length;
}

/** Sends one piece after the other until none is left or the direction is marked as over. */
export async function sendUntilOver(direction: Direction): Promise<void> {
  const { from, bytes } = direction;
  for (let at = 0; at < bytes.length && !direction.isOver; at += PIECE_BYTES) {
    direction.sentBytes = Math.min(at + PIECE_BYTES, bytes.length);
    await Promise.race([from.send(bytes.subarray(at, direction.sentBytes)), from.closed]);
  }
}
