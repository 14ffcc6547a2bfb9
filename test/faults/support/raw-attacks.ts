import { randomBytes } from 'node:crypto';
import { SIDE_A, handshake, newToken } from '../../support/bytes.ts';
import type { Behaviour, FloodClient } from './client-flood.ts';

const LINE = handshake(newToken(), SIDE_A);

const NO_NEWLINE = Buffer.alloc(4096, 'x');

/**
 * Noise with a newline at a random position, so that the relay has a line to parse, and more noise after it.
 */
function garbage(index: number): Buffer {
  const noise = randomBytes(1 + (index % 1000)).map((byte) => (byte === 0x0a ? 0 : byte));
  return Buffer.concat([noise, Buffer.from('\n'), randomBytes(index % 1000)]);
}

/** A line without a newline, of random length. */
function half(index: number): string {
  return LINE.slice(0, 1 + (index % (LINE.length - 1)));
}

/** A third sends nothing, a third half a line, a third one byte per second. */
function isSlow({ index }: FloodClient): boolean {
  return index % 3 === 2;
}

/** Attacks on a raw listener. */
export const RAW_ATTACKS = {
  unfinished: {
    onConnect: ({ socket, index }) => {
      if (index % 3 === 1) socket.write(half(index));
    },
    everySecond: (client) => {
      if (isSlow(client)) client.socket.write('p');
    },
  },
  garbage: { onConnect: ({ socket, index }) => void socket.write(garbage(index)) },
  /** Never sends a newline, and never disconnects. */
  endless: {
    staysHalfOpen: true,
    onConnect: ({ socket }) => void socket.write(NO_NEWLINE),
    everySecond: ({ socket }) => {
      if (!socket.writableNeedDrain) socket.write(NO_NEWLINE);
    },
  },
  /** A correct client that never gets a partner. */
  waiting: {
    onConnect: ({ socket }) => void socket.write(handshake(randomBytes(32).toString('hex'), SIDE_A)),
  },
} satisfies Readonly<Record<string, Behaviour>>;
