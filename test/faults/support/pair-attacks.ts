import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { SIDE_A, SIDE_B, handshake, randomBytesOf } from '../../support/bytes.ts';
import { encodeFrame } from '../../support/frames.ts';
import type { Ends } from './client-flood.ts';
import { PairClient } from './pair-client.ts';
import type { NetTransport, Ports } from './pair-client.ts';

/** An attack in its final state. */
export interface Attacking {
  /** Description of that state. */
  readonly ready: Ends;
  /** Ends the attack. Returns a description of the end. */
  readonly end: () => Ends;
}

export type PairAttack = (ports: Ports, count: number) => Promise<Attacking>;

const PING = 9;
const BINARY = 2;

const CHUNK = randomBytesOf(7, 65_536);

/** Bytes that stalling receivers read first: twice what makes the relay read 512 KiB at a time. */
const READ_BYTES = 2 * 2 ** 20;

/** Bytes per write of the ping floods: largest pings, whose pongs fill the kernel's buffers fastest. */
const PINGS = Buffer.concat(
  Array.from({ length: 500 }, () => encodeFrame({ opcode: PING, payload: CHUNK.subarray(0, 125) })),
);

/** Bytes that each sender of one-byte frames sends. */
const SINGLE_BYTES = 100_000;

/**
 * All senders count as stalled when they have sent less than this much within that time, in milliseconds. A
 * kernel without free TCP memory still accepts a few bytes from time to time.
 */
const STILL_GROWTH = 1.01;
const STILL_MS = 1000;

interface Pair {
  readonly from: NetTransport;
  readonly sender: Socket;
  readonly receiver: Socket;
}

async function pair(ports: Ports, from: NetTransport, to: NetTransport): Promise<Pair> {
  const token = randomBytes(32).toString('hex');
  const [sender, receiver] = [
    new PairClient(ports, from, handshake(token, SIDE_A)),
    new PairClient(ports, to, handshake(token, SIDE_B)),
  ];
  await Promise.all([sender.ok, receiver.ok]);
  return { from, sender: sender.socket, receiver: receiver.socket };
}

/**
 * Limits concurrent connection attempts, so that none waits in the relay's listen backlog.
 * Results are in the order of completion.
 */
async function createAll<T>(count: number, create: (index: number) => Promise<T>): Promise<T[]> {
  const all: T[] = [];
  let next = 0;
  const worker = async (): Promise<void> => {
    for (let index = next; index < count; index = next) {
      next += 1;
      all.push(await create(index));
    }
  };
  await Promise.all(Array.from({ length: 100 }, worker));
  return all;
}

/** Writes as much as the relay accepts while the connection lives. */
function pour(socket: Socket, chunk: Buffer): void {
  const more = (): void => {
    while (!socket.destroyed && socket.write(chunk));
  };
  socket.on('drain', more);
  more();
}

/** Reads that many bytes and no more. */
function readOnly(socket: Socket, count: number): void {
  socket.on('data', () => {
    if (socket.bytesRead >= count) socket.pause();
  });
  socket.resume();
}

function leave(sockets: readonly Socket[]): Ends {
  for (const [index, socket] of sockets.entries()) {
    if (index % 2 === 0) socket.destroy();
    else socket.resetAndDestroy();
  }
  return {};
}

/**
 * Receivers that read enough to make the relay's reads large and then stop, with senders that send as much as
 * possible. Ready when no byte moves any more.
 */
async function stalls(ports: Ports, count: number): Promise<Attacking> {
  const pairs = await createAll(count, (index) =>
    pair(ports, index % 4 === 0 ? 'websocket' : 'tcp', index % 2 === 0 ? 'tcp' : 'websocket'),
  );
  const frame = encodeFrame({ opcode: BINARY, payload: CHUNK });
  for (const { from, sender, receiver } of pairs) {
    readOnly(receiver, READ_BYTES);
    pour(sender, from === 'websocket' ? frame : CHUNK);
  }
  const sent = (): number =>
    pairs.reduce((sum, { sender }) => sum + sender.bytesWritten - sender.writableLength, 0);
  for (let last = -1; sent() > last * STILL_GROWTH;) {
    last = sent();
    await sleep(STILL_MS);
  }
  return {
    ready: { pairs: pairs.length, bytes: sent() },
    end: () => leave(pairs.flatMap(({ sender, receiver }) => [sender, receiver])),
  };
}

/**
 * Continuous pings from clients that read no pong: a third before their handshake, a third waiting, a third
 * in pairs.
 */
async function floodWithPings(ports: Ports, count: number): Promise<Attacking> {
  const flooders = await createAll(count, async (index) => {
    if (index % 3 === 0) return (await pair(ports, 'websocket', 'tcp')).sender;
    const line = index % 3 === 1 ? handshake(randomBytes(32).toString('hex'), SIDE_A) : 'please';
    const { socket, open } = new PairClient(ports, 'websocket', line);
    await open;
    socket.pause();
    return socket;
  });
  for (const socket of flooders) pour(socket, PINGS);
  return { ready: { flooders: flooders.length }, end: () => leave(flooders) };
}

/** Payload in frames of one byte each, all of which must arrive. Ready when they have. */
async function sendSingleBytes(ports: Ports, count: number): Promise<Attacking> {
  const bytes = randomBytesOf(8, SINGLE_BYTES);
  const frames = Buffer.concat(
    Array.from(bytes, (byte) => encodeFrame({ opcode: BINARY, payload: Uint8Array.of(byte) })),
  );
  const pairs = await createAll(count, async () => {
    const { sender, receiver } = await pair(ports, 'websocket', 'tcp');
    let received = 0;
    const all = Promise.withResolvers<void>();
    receiver.on('data', (piece: Buffer) => {
      assert.ok(piece.equals(bytes.subarray(received, received + piece.length)), 'wrong bytes');
      received += piece.length;
      if (received === bytes.length) all.resolve();
    });
    receiver.resume();
    sender.write(frames);
    return { sender, receiver, all: all.promise };
  });
  await Promise.all(pairs.map(({ all }) => all));
  return {
    ready: { pairs: pairs.length, bytes: pairs.length * bytes.length },
    end: () => leave(pairs.flatMap(({ sender, receiver }) => [sender, receiver])),
  };
}

/** Attacks with pairs. */
export const PAIR_ATTACKS = {
  stalls,
  'ping-flood': floodWithPings,
  'frame-per-byte': sendSingleBytes,
} satisfies Readonly<Record<string, PairAttack>>;
