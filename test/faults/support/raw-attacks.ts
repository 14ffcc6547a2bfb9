import { randomBytes } from 'node:crypto';
import { SIDE_A, handshake, newToken } from '../../support/bytes.ts';
import type { Behaviour, Stranger } from './crowd.ts';

const LINE = handshake(newToken(), SIDE_A);

const NO_NEWLINE = Buffer.alloc(4096, 'x');

/** Noise with a newline somewhere, so that the relay has something to judge, and more noise behind it. */
function garbage(index: number): Buffer {
  const noise = randomBytes(1 + (index % 1000)).map((byte) => (byte === 0x0a ? 0 : byte));
  return Buffer.concat([noise, Buffer.from('\n'), randomBytes(index % 1000)]);
}

/** As much of a line as it likes, but never its newline. */
function half(index: number): string {
  return LINE.slice(0, 1 + (index % (LINE.length - 1)));
}

/** A third says nothing, a third half a line, a third a byte a second. */
function isSlow({ index }: Stranger): boolean {
  return index % 3 === 2;
}

/** What strangers may do to a raw listener. */
export const RAW_ATTACKS = {
  unfinished: {
    connected: ({ socket, index }) => {
      if (index % 3 === 1) socket.write(half(index));
    },
    everySecond: (stranger) => {
      if (isSlow(stranger)) stranger.socket.write('p');
    },
  },
  garbage: { connected: ({ socket, index }) => void socket.write(garbage(index)) },
  /** Never a newline, and no end either, whatever the relay does. */
  endless: {
    staysHalfOpen: true,
    connected: ({ socket }) => void socket.write(NO_NEWLINE),
    everySecond: ({ socket }) => {
      if (!socket.writableNeedDrain) socket.write(NO_NEWLINE);
    },
  },
  /** A client as the protocol wants it, but nobody will ever come for it. */
  waiting: {
    connected: ({ socket }) => void socket.write(handshake(randomBytes(32).toString('hex'), SIDE_A)),
  },
} satisfies Readonly<Record<string, Behaviour>>;
