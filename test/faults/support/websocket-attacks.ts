import { randomBytes } from 'node:crypto';
import { encodeFrame, readServerFrames } from '../../support/frames.ts';
import type { Behaviour, Stranger } from './crowd.ts';

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

const A_HEADER_LINE = `X-More: ${'x'.repeat(500)}\r\n`;

/** The server's frames, as far as they are there; null before it has answered the upgrade. */
function framesOf(heard: Buffer): Buffer | null {
  const end = heard.indexOf(HEADER_END);
  return end < 0 ? null : heard.subarray(end + HEADER_END.length);
}

/** The HTTP status, and the close code where there is one. */
function nameOf(heard: Buffer): string {
  const [status = ''] = heard.toString('latin1').split('\r\n', 1);
  const frames = framesOf(heard);
  if (!status.startsWith('HTTP/1.1 101') || frames === null)
    return status.replace(/^HTTP\/1.1 (\d*).*$/u, '$1');
  const close = readServerFrames(frames).find(({ opcode }) => opcode === CLOSE);
  return close === undefined
    ? '101'
    : `close ${close.payload.length < 2 ? '' : close.payload.readUInt16BE()}`;
}

/** Sends frames once it may; half of the strangers do not wait for that, and send them behind the request. */
function framing(frames: (index: number) => Buffer): Behaviour {
  const isEager = ({ index }: Stranger): boolean => index % 2 === 0;
  const greeted = new WeakSet<Stranger>();
  return {
    nameOf,
    connected: (stranger) => {
      const { socket, index } = stranger;
      socket.write(isEager(stranger) ? Buffer.concat([Buffer.from(UPGRADE), frames(index)]) : UPGRADE);
    },
    hears: (stranger) => {
      const { socket, heard, index } = stranger;
      const answer = framesOf(heard);
      if (answer === null) return;
      if (!isEager(stranger) && !greeted.has(stranger)) {
        greeted.add(stranger);
        socket.write(frames(index));
      }
      // Who stays when it is told to go is in the tests of raw connections: it takes the relay half a minute.
      if (answer.length > 0) socket.end();
    },
  };
}

const unmasked = (opcode: number): Buffer => encodeFrame({ opcode, payload: 'please', key: null });

/** What strangers may do to a WebSocket listener. */
export const WEBSOCKET_ATTACKS = {
  /** Nothing, part of a request, a byte of it a second, header after header. */
  'unfinished-upgrade': {
    nameOf,
    connected: ({ socket, index }) => {
      if (index % 4 === 1) socket.write(UPGRADE.slice(0, 1 + (index % (UPGRADE.length - 1))));
      if (index % 4 === 2) socket.write(REQUEST_LINE.slice(0, 7));
      if (index % 4 === 3) socket.write(REQUEST_LINE);
    },
    everySecond: ({ socket, index }) => {
      if (index % 4 === 2) socket.write('x');
      if (index % 4 === 3) socket.write(A_HEADER_LINE);
    },
  },
  /** The upgrade, and then nothing. */
  'no-frame': framing(() => Buffer.alloc(0)),
  /** Lengths that say 2^62 bytes, 2^63 bytes (which is forbidden), and 2^40 bytes of a handshake. */
  'length-2^62': framing(() => encodeFrame({ opcode: BINARY, payload: 'please', announced: 2n ** 62n })),
  'length-2^63': framing(() => encodeFrame({ opcode: BINARY, payload: 'please', announced: 2n ** 63n })),
  'length-2^40': framing(() => encodeFrame({ opcode: BINARY, payload: 'please', announced: 2n ** 40n })),
  'unmasked-binary': framing(() => unmasked(BINARY)),
  'unmasked-ping': framing(() => unmasked(PING)),
  'long-ping': framing(() => encodeFrame({ opcode: PING, payload: randomBytes(126) })),
  'fragmented-ping': framing(() => encodeFrame({ opcode: PING, payload: 'p', isFinal: false })),
  'reserved-bits': framing((index) =>
    encodeFrame({ opcode: BINARY, payload: 'p', reserved: 1 + (index % 7) }),
  ),
  'reserved-opcode': framing((index) =>
    encodeFrame({ opcode: index % 4 < 2 ? 3 + (index % 2) : 11 + (index % 4) }),
  ),
  'continued-nothing': framing(() => encodeFrame({ opcode: 0, payload: 'please' })),
  text: framing(() => encodeFrame({ opcode: TEXT, payload: 'please' })),
  'close-of-one-byte': framing(() => encodeFrame({ opcode: CLOSE, payload: 'x' })),
  'close-that-is-no-text': framing(() =>
    encodeFrame({ opcode: CLOSE, payload: Uint8Array.of(0x03, 0xe8, 0xff, 0xfe) }),
  ),
} satisfies Readonly<Record<string, Behaviour>>;
