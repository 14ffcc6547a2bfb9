import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { SIDE_A, SIDE_B, handshake, newToken, randomBytesOf } from '../support/bytes.ts';
import type { Dice } from '../support/dice.ts';
import type { TestClient } from '../support/test-client.ts';
import { OK, hears, isClosed } from './stage.ts';
import type { Stage } from './stage.ts';

/** Relay settings that the actors rely on. All timeouts are short, so that they occur often in a soak. */
export const SOAK_SETTINGS = {
  RELAY_HANDSHAKE_TIMEOUT: '2s',
  RELAY_WAIT_TIMEOUT: '2s',
  RELAY_IDLE_TIMEOUT: '2s',
  RELAY_MAX_CONNECTIONS: '600',
  RELAY_MAX_WAITING: '300',
  RELAY_MAX_CONNECTIONS_PER_ADDRESS: '1000',
  RELAY_NEW_CONNECTIONS_PER_ADDRESS: '1000000/min',
  RELAY_PAIR_RATE: '200MB/s',
  RELAY_TOTAL_RATE: '400MB/s',
  RELAY_PAIR_BYTES: '24MB',
  RELAY_QUOTA: '1000TB/month',
  RELAY_BUFFER_MEMORY: '8MiB',
} as const;

/** More clients than may wait. */
const CROWD = 350;

/** Maximum bytes of a transfer; below the limit per pair. */
const LARGEST_TRANSFER = 8 * 2 ** 20;

/** More than the limit per pair. */
const TOO_MUCH = randomBytesOf(6, 32 * 2 ** 20);

/** Byte limit per pair. */
const ALLOWED_BYTES = 24_000_000;

const PIECE_BYTES = 65_536;

const NOISE = randomBytesOf(5, LARGEST_TRANSFER);

/** Connects, does something, checks the relay's response, and disconnects. */
type Actor = (stage: Stage, dice: Dice) => Promise<void>;

/** Pauses repeatedly until that many bytes have arrived. */
async function receiveSlowly(to: TestClient, count: number, dice: Dice, pauseMs: number): Promise<void> {
  while (to.receivedBytes < count && !to.isClosed) {
    to.pause();
    await sleep(dice.between(0, pauseMs));
    to.resume();
    await sleep(1);
  }
}

/**
 * Sends that many bytes in one direction and compares them. The receiver repeatedly pauses for up to
 * `pauseMs`.
 */
async function transfer(stage: Stage, dice: Dice, length: number, pauseMs: number): Promise<void> {
  const bytes = NOISE.subarray(0, length);
  const [from, to] = await stage.pair(dice);
  const sent = from.sendAll(bytes, dice.size(PIECE_BYTES) + (length >> 8));
  if (pauseMs > 0) await receiveSlowly(to, length + OK.length, dice, pauseMs);
  const received = await to.until(length + OK.length);
  assert.ok(received.subarray(OK.length).equals(bytes), 'a transfer was spoilt');
  await sent;
  const [goes, stays] = dice.happens(0.5) ? [from, to] : [to, from];
  goes.end();
  assert.equal((await stays.closed).reset, false);
  await goes.closed;
}

/** Disconnects in several ways while it waits, or exceeds the wait timeout. */
async function waitInVain(stage: Stage, dice: Dice): Promise<void> {
  const client = await stage.client(dice, handshake(newToken(), SIDE_A));
  const way = dice.between(0, 2);
  if (way === 0) client.end();
  if (way === 1) client.reset();
  if (way === 2) await isClosed(client);
  await client.closed;
}

/** Three connections of one side; when the other side connects, one of them is paired. */
async function beRedundant(stage: Stage, dice: Dice): Promise<void> {
  const token = newToken();
  const many: TestClient[] = [];
  for (let count = 0; count < 3; count += 1) many.push(await stage.client(dice, handshake(token, SIDE_A)));
  const other = await stage.client(dice, handshake(token, SIDE_B));
  await hears(other, OK);
  other.end();
  await Promise.all([...many, other].map((client) => client.closed));
}

/** Sends a bad handshake. */
async function beWrong(stage: Stage, dice: Dice): Promise<void> {
  const client = await stage.client(dice, `please ${'x'.repeat(dice.between(0, 900))}\n`);
  await isClosed(client, 'bad handshake\n');
}

/** Sends bytes before it has a partner. */
async function beImpatient(stage: Stage, dice: Dice): Promise<void> {
  const client = await stage.client(dice, handshake(newToken(), SIDE_A));
  await client.send('hello?');
  await isClosed(client, 'impatient\n');
}

/** Sends nothing, or too little, until the handshake timeout. */
async function beSilent(stage: Stage, dice: Dice): Promise<void> {
  const client = await stage.client(dice, dice.happens(0.5) ? '' : 'please');
  await isClosed(client);
}

/** Resets a connection at a random moment of a transfer; the partner is closed cleanly. */
async function breakOff(stage: Stage, dice: Dice): Promise<void> {
  const [from, to] = await stage.pair(dice);
  const sent = from.sendAll(NOISE, PIECE_BYTES);
  await sleep(dice.between(0, 50));
  const [goes, stays] = dice.happens(0.5) ? [from, to] : [to, from];
  goes.reset();
  assert.equal((await stays.closed).reset, false);
  await Promise.all([sent, goes.closed]);
}

/** A pair without traffic, because its receiver does not read or its sender sends nothing. */
async function standStill(stage: Stage, dice: Dice): Promise<void> {
  const [from, to] = await stage.pair(dice);
  const isStalled = dice.happens(0.5);
  if (isStalled) to.pause();
  const sent = isStalled
    ? from.sendAll(TOO_MUCH.subarray(0, ALLOWED_BYTES), PIECE_BYTES)
    : from.send('hello?');
  await from.closed;
  to.resume();
  await Promise.all([sent, to.closed]);
}

/** Exceeds the byte limit of a pair. */
async function sendTooMuch(stage: Stage, dice: Dice): Promise<void> {
  const [from, to] = await stage.pair(dice);
  await from.sendAll(TOO_MUCH, PIECE_BYTES);
  await Promise.all([from.closed, to.closed]);
  assert.ok(to.receivedBytes < TOO_MUCH.length, 'a pair moved more than it may');
}

export const ACTORS: Readonly<Record<string, Actor>> = {
  'tiny transfers': (stage, dice) => transfer(stage, dice, dice.between(1, 1000), 0),
  transfers: (stage, dice) => transfer(stage, dice, dice.size(LARGEST_TRANSFER), 0),
  'slow receivers': (stage, dice) => transfer(stage, dice, dice.between(1, LARGEST_TRANSFER), 30),
  'in vain': waitInVain,
  redundant: beRedundant,
  wrong: beWrong,
  impatient: beImpatient,
  silent: beSilent,
  'broken off': breakOff,
  stalled: standStill,
  'too much': sendTooMuch,
};

/** More clients than may wait. The rest get `busy`. No other client may connect meanwhile. */
export async function manyWaiting(stage: Stage, dice: Dice): Promise<void> {
  const clients: TestClient[] = [];
  while (clients.length < CROWD) clients.push(await stage.client(dice, handshake(newToken(), SIDE_A)));
  await Promise.all(clients.map((client) => client.closed));
  const busy = clients.filter(({ received }) => received.toString('latin1') === 'busy\n');
  assert.ok(busy.length > 0, 'everybody may wait');
}
