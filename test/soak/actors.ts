import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { SIDE_A, SIDE_B, handshake, newToken, randomBytesOf } from '../support/bytes.ts';
import type { Dice } from '../support/dice.ts';
import type { TestClient } from '../support/test-client.ts';
import { OK, expectClosed, expectReply } from './stage.ts';
import type { SoakClients } from './stage.ts';

/**
 * Relay settings that the actors rely on. All timeouts are short, so that they occur often in a soak. The idle timeout is
 * longer than a busy machine keeps a pair from moving bytes.
 */
export const SOAK_SETTINGS = {
  RELAY_HANDSHAKE_TIMEOUT: '2s',
  RELAY_WAIT_TIMEOUT: '2s',
  RELAY_IDLE_TIMEOUT: '5s',
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
const MANY_CLIENTS = 350;

const MANY_CLIENTS_ATTEMPTS = 5;

/** Maximum bytes of a transfer; below the limit per pair. */
const LARGEST_TRANSFER = 8 * 2 ** 20;

/** More than the limit per pair. */
const EXCESS_PAYLOAD = randomBytesOf(6, 32 * 2 ** 20);

/** Pauses of a slow receiver. */
const PAUSES = 20;

/** Byte limit per pair. */
const ALLOWED_BYTES = 24_000_000;

const PIECE_BYTES = 65_536;

const PAYLOAD = randomBytesOf(5, LARGEST_TRANSFER);

/** Connects, does something, checks the relay's response, and disconnects. */
type Actor = (clients: SoakClients, random: Dice) => Promise<void>;

/**
 * Pauses repeatedly until that many bytes have arrived. The kernel takes new bytes only after the receiver has read half of
 * its buffer. That must not take longer than the idle timeout, even if pauses take longer on a busy machine.
 */
async function receiveSlowly(to: TestClient, count: number, random: Dice, pauseMs: number): Promise<void> {
  while (to.receivedBytes < count && !to.isClosed) {
    to.pause();
    await sleep(random.between(0, pauseMs));
    to.resume();
    const next = Math.min(count, to.receivedBytes + count / PAUSES);
    while (to.receivedBytes < next && !to.isClosed) await sleep(1);
  }
}

/**
 * Sends that many bytes in one direction and compares them. The receiver repeatedly pauses for up to
 * `pauseMs`.
 */
async function transfer(clients: SoakClients, random: Dice, length: number, pauseMs: number): Promise<void> {
  const bytes = PAYLOAD.subarray(0, length);
  const [from, to] = await clients.pair(random);
  const sent = from.sendAll(bytes, random.size(PIECE_BYTES) + (length >> 8));
  if (pauseMs > 0) await receiveSlowly(to, length + OK.length, random, pauseMs);
  const received = await to.until(length + OK.length);
  assert.equal(received.length, length + OK.length, 'a transfer is incomplete');
  assert.ok(received.subarray(OK.length).equals(bytes), 'a transfer was corrupted');
  await sent;
  const [leaving, remaining] = random.happens(0.5) ? [from, to] : [to, from];
  leaving.end();
  assert.equal((await remaining.closed).reset, false);
  await leaving.closed;
}

/** Disconnects in several ways while it waits, or exceeds the wait timeout. */
async function waitWithoutPartner(clients: SoakClients, random: Dice): Promise<void> {
  const client = await clients.connect(random, handshake(newToken(), SIDE_A));
  const ending = random.between(0, 2);
  if (ending === 0) client.end();
  if (ending === 1) client.reset();
  if (ending === 2) await expectClosed(client);
  await client.closed;
}

/** Three connections of one side; when the other side connects, one of them is paired. */
async function reconnect(clients: SoakClients, random: Dice): Promise<void> {
  const token = newToken();
  const sameSide = await Promise.all(
    Array.from({ length: 3 }, () => clients.connect(random, handshake(token, SIDE_A))),
  );
  const other = await clients.connect(random, handshake(token, SIDE_B));
  await expectReply(other, OK);
  other.end();
  await Promise.all([...sameSide, other].map((client) => client.closed));
}

/** Sends a bad handshake. */
async function sendBadHandshake(clients: SoakClients, random: Dice): Promise<void> {
  const client = await clients.connect(random, `please ${'x'.repeat(random.between(0, 900))}\n`);
  await expectClosed(client, 'bad handshake\n');
}

/** Sends bytes before it has a partner. */
async function sendEarly(clients: SoakClients, random: Dice): Promise<void> {
  const client = await clients.connect(random, handshake(newToken(), SIDE_A));
  await client.send('hello?');
  await expectClosed(client, 'impatient\n');
}

/** Sends nothing, or too little, until the handshake timeout. */
async function staySilent(clients: SoakClients, random: Dice): Promise<void> {
  const client = await clients.connect(random, random.happens(0.5) ? '' : 'please');
  await expectClosed(client);
}

/** Resets a connection at a random moment of a transfer; the partner is closed cleanly. */
async function resetTransfer(clients: SoakClients, random: Dice): Promise<void> {
  const [from, to] = await clients.pair(random);
  const sent = from.sendAll(PAYLOAD, PIECE_BYTES);
  await sleep(random.between(0, 50));
  const [leaving, remaining] = random.happens(0.5) ? [from, to] : [to, from];
  leaving.reset();
  assert.equal((await remaining.closed).reset, false);
  await Promise.all([sent, leaving.closed]);
}

/** A pair without traffic, because its receiver does not read or its sender sends nothing. */
async function stall(clients: SoakClients, random: Dice): Promise<void> {
  const [from, to] = await clients.pair(random);
  const isStalled = random.happens(0.5);
  if (isStalled) to.pause();
  const sent = isStalled
    ? from.sendAll(EXCESS_PAYLOAD.subarray(0, ALLOWED_BYTES), PIECE_BYTES)
    : from.send('hello?');
  await from.closed;
  to.resume();
  await Promise.all([sent, to.closed]);
}

/** Exceeds the byte limit of a pair. */
async function exceedPairBytes(clients: SoakClients, random: Dice): Promise<void> {
  const [from, to] = await clients.pair(random);
  await from.sendAll(EXCESS_PAYLOAD, PIECE_BYTES);
  await Promise.all([from.closed, to.closed]);
  assert.ok(to.receivedBytes < EXCESS_PAYLOAD.length, 'a pair relayed more bytes than allowed');
}

export const ACTORS: Readonly<Record<string, Actor>> = {
  'small transfers': (clients, random) => transfer(clients, random, random.between(1, 1000), 0),
  transfers: (clients, random) => transfer(clients, random, random.size(LARGEST_TRANSFER), 0),
  'slow receivers': (clients, random) => transfer(clients, random, random.between(1, LARGEST_TRANSFER), 30),
  'no partner': waitWithoutPartner,
  redundant: reconnect,
  'bad handshake': sendBadHandshake,
  impatient: sendEarly,
  silent: staySilent,
  'reset transfers': resetTransfer,
  stalled: stall,
  'too many bytes': exceedPairBytes,
};

/**
 * More clients than may wait. The rest get `busy`. No other client may connect meanwhile. Repeats it if the machine is so
 * busy that the first clients reach the wait timeout before the last ones connect.
 */
export async function manyWaiting(clients: SoakClients, random: Dice): Promise<void> {
  let busyCount = 0;
  for (let attempt = 1; busyCount === 0 && attempt <= MANY_CLIENTS_ATTEMPTS; attempt += 1) {
    const waiting = await Promise.all(
      Array.from({ length: MANY_CLIENTS }, () => clients.connect(random, handshake(newToken(), SIDE_A))),
    );
    await Promise.all(waiting.map((client) => client.closed));
    busyCount = waiting.filter(({ received }) => received.toString('latin1') === 'busy\n').length;
  }
  assert.ok(busyCount > 0, 'at least one client is rejected');
}
