import { randomBytes } from 'node:crypto';
import { SIDE_A, handshake } from '../../support/bytes.ts';
import { encodeFrame, readServerFrames } from '../../support/frames.ts';
import type { ServerFrame } from '../../support/frames.ts';
import type { Behaviour, FloodClient } from './client-flood.ts';

const TEXT = 1;
const BINARY = 2;
const CLOSE = 8;
const PING = 9;

const REQUEST_LINE = 'GET /relay HTTP/1.1\r\n';

export const UPGRADE = `${REQUEST_LINE}${[
  'Host: relay.example',
  'Connection: Upgrade',
  'Upgrade: websocket',
  'Sec-WebSocket-Version: 13',
  `Sec-WebSocket-Key: ${randomBytes(16).toString('base64')}`,
  '\r\n',
].join('\r\n')}`;

const HEADER_END = '\r\n\r\n';

/** Short enough that the request is not too long (8 KiB) before all others are connected on a slow machine. */
const A_HEADER_LINE = `X-More: ${'x'.repeat(20)}\r\n`;

/** Complete frames of the server; null before it has answered the upgrade. */
function framesOf(received: Buffer): Buffer | null {
  const end = received.indexOf(HEADER_END);
  return end < 0 ? null : received.subarray(end + HEADER_END.length);
}

function isUpgraded({ received }: FloodClient): boolean {
  return framesOf(received) !== null;
}

function closeFrameOf(received: Buffer): ServerFrame | null {
  return (
    readServerFrames(framesOf(received) ?? Buffer.alloc(0)).find(({ opcode }) => opcode === CLOSE) ?? null
  );
}

/** The HTTP status, or the close code if there is one. */
function answerOf({ received }: FloodClient): string {
  const [status = ''] = received.toString('latin1').split('\r\n', 1);
  if (!status.startsWith('HTTP/1.1 101') || framesOf(received) === null)
    return status.replace(/^HTTP\/1.1 (\d*).*$/u, '$1');
  const close = closeFrameOf(received);
  return close === null ? '101' : `close ${close.payload.length < 2 ? '' : close.payload.readUInt16BE()}`;
}

const unmasked = (opcode: number): Buffer => encodeFrame({ opcode, payload: 'please', key: null });

/** Invalid frames by name. */
const WRONG_FRAMES: readonly (readonly [name: string, frames: (index: number) => Buffer])[] = Object.entries({
  none: () => Buffer.alloc(0),
  // After a short handshake. Lengths of 2^63 bytes and more are forbidden.
  'length 2^40': () => encodeFrame({ opcode: BINARY, payload: 'please', announced: 2n ** 40n }),
  'length 2^62': () => encodeFrame({ opcode: BINARY, payload: 'please', announced: 2n ** 62n }),
  'length 2^63': () => encodeFrame({ opcode: BINARY, payload: 'please', announced: 2n ** 63n }),
  'unmasked binary': () => unmasked(BINARY),
  'unmasked ping': () => unmasked(PING),
  'long ping': () => encodeFrame({ opcode: PING, payload: randomBytes(126) }),
  'fragmented ping': () => encodeFrame({ opcode: PING, payload: 'p', isFinal: false }),
  'reserved bits': (index: number) =>
    encodeFrame({ opcode: BINARY, payload: 'p', reserved: 1 + (index % 7) }),
  'reserved opcode': (index: number) => encodeFrame({ opcode: index % 2 === 0 ? 3 : 11 }),
  'continued nothing': () => encodeFrame({ opcode: 0, payload: 'please' }),
  text: () => encodeFrame({ opcode: TEXT, payload: 'please' }),
  'a close frame of one byte': () => encodeFrame({ opcode: CLOSE, payload: 'x' }),
  'a close frame with invalid text': () =>
    encodeFrame({ opcode: CLOSE, payload: Uint8Array.of(0x03, 0xe8, 0xff, 0xfe) }),
});

function wrongFramesOf(index: number): (typeof WRONG_FRAMES)[number] {
  return WRONG_FRAMES[index % WRONG_FRAMES.length] ?? ['', () => Buffer.alloc(0)];
}

/** Attacks on a WebSocket listener. */
export const WEBSOCKET_ATTACKS = {
  /** Sends nothing, part of a request, one byte of it per second, or endless headers. */
  'unfinished-upgrade': {
    nameOf: answerOf,
    onConnect: ({ socket, index }) => {
      if (index % 4 === 1) socket.write(UPGRADE.slice(0, 1 + (index % (UPGRADE.length - 1))));
      if (index % 4 === 2) socket.write(REQUEST_LINE.slice(0, 7));
      if (index % 4 === 3) socket.write(REQUEST_LINE);
    },
    everySecond: ({ socket, index }) => {
      if (index % 4 === 2) socket.write('x');
      if (index % 4 === 3) socket.write(A_HEADER_LINE);
    },
  },
  /** A correct client that never gets a partner. It disconnects when it receives a close frame; the relay also sends pings. */
  'waiting-by-websocket': {
    nameOf: answerOf,
    isReady: isUpgraded,
    onConnect: ({ socket }) => {
      const line = handshake(randomBytes(32).toString('hex'), SIDE_A);
      socket.write(Buffer.concat([Buffer.from(UPGRADE), encodeFrame({ opcode: BINARY, payload: line })]));
    },
    onData: ({ socket, received }) => {
      if (closeFrameOf(received) !== null) socket.end();
    },
  },
  /** The same number of each kind. Every other client does not wait for the response to its upgrade. */
  'wrong-frames': {
    nameOf: (client) => `${wrongFramesOf(client.index)[0]}: ${answerOf(client)}`,
    isReady: isUpgraded,
    onConnect: ({ socket, index }) => {
      const [, frames] = wrongFramesOf(index);
      socket.write(isEager(index) ? Buffer.concat([Buffer.from(UPGRADE), frames(index)]) : UPGRADE);
    },
    onData: ({ socket, received, index }) => {
      const answer = framesOf(received);
      if (answer === null) return;
      const [, frames] = wrongFramesOf(index);
      // The response to the upgrade arrives alone unless there are already further replies.
      if (!isEager(index) && answer.length === 0) socket.write(frames(index));
      // Clients that stay after their reply are in the tests of raw connections: closing them takes half a
      // minute.
      if (closeFrameOf(received) !== null) socket.end();
    },
  },
} satisfies Readonly<Record<string, Behaviour>>;

function isEager(index: number): boolean {
  return Math.floor(index / WRONG_FRAMES.length) % 2 === 0;
}
