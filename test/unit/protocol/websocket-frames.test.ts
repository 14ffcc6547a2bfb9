import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import * as fc from 'fast-check';
import { unmask, unmaskJs } from '../../../src/transport/websocket-transport.ts';
import {
  FrameDecoder,
  MAX_MESSAGE_BYTES,
  PING_FRAME,
  encodeClose,
  encodePayload,
  encodePong,
} from '../../../src/protocol/websocket-frames.ts';
import type { FrameErrorCode, Unmask } from '../../../src/protocol/websocket-frames.ts';
import { randomBytesOf } from '../../support/bytes.ts';
import { encodeFrame, readServerFrames } from '../../support/frames.ts';
import type { ClientFrame } from '../../support/frames.ts';

const CONTINUATION = 0;
const TEXT = 1;
const BINARY = 2;
const CLOSE = 8;
const PING = 9;
const PONG = 10;

type End =
  | { readonly kind: 'text' }
  | { readonly kind: 'close'; readonly code: number }
  | { readonly kind: 'fault'; readonly fault: FrameErrorCode };

/** Records the calls of a decoder. */
class FrameCollector {
  readonly #decoder: FrameDecoder;
  readonly #payload: Buffer[] = [];
  /** Messages that have ended, while the decoder preserves message boundaries. */
  readonly messages: Buffer[] = [];
  readonly pings: Buffer[] = [];
  pongs = 0;
  end: End | null = null;
  #message: Buffer[] = [];

  constructor(unmaskImplementation: Unmask, preservesMessages: boolean) {
    this.#decoder = new FrameDecoder(this, unmaskImplementation);
    this.#decoder.preserveMessageBoundaries = preservesMessages;
  }

  get payload(): Buffer {
    return Buffer.concat(this.#payload);
  }

  /** Feeds a copy, and overwrites it afterwards, so that a later read of it gets garbage. */
  push(bytes: Uint8Array): void {
    const copy = Buffer.from(bytes);
    this.#decoder.push(copy);
    copy.fill(0xa5);
  }

  onPayload(bytes: Uint8Array, endsMessage: boolean): void {
    this.#checkNotEnded();
    const copy = Buffer.from(bytes);
    this.#payload.push(copy);
    this.#message.push(copy);
    if (!endsMessage) return;
    this.messages.push(Buffer.concat(this.#message));
    this.#message = [];
  }

  onPing(payload: Uint8Array): void {
    this.#checkNotEnded();
    this.pings.push(Buffer.from(payload));
  }

  onPong(): void {
    this.#checkNotEnded();
    this.pongs += 1;
  }

  onText(): void {
    this.#end({ kind: 'text' });
  }

  onCloseFrame(code: number): void {
    this.#end({ kind: 'close', code });
  }

  onProtocolError(error: FrameErrorCode): void {
    this.#end({ kind: 'fault', fault: error });
  }

  #end(end: End): void {
    this.#checkNotEnded();
    this.end = end;
  }

  #checkNotEnded(): void {
    assert.equal(this.end, null, 'the handler was called after the end');
  }
}

/** Cuts bytes before each of these positions. */
function cutAt(bytes: Buffer, positions: readonly number[]): Buffer[] {
  const innerPositions = [...new Set(positions)].filter((at) => at > 0 && at < bytes.length);
  const cuts = [0, ...innerPositions.toSorted((a, b) => a - b), bytes.length];
  return cuts.slice(1).map((to, index) => bytes.subarray(cuts[index], to));
}

const everyByte = (bytes: Buffer): number[] => Array.from(bytes, (_, index) => index);

function decode(
  chunks: readonly Uint8Array[],
  preservesMessages = false,
  unmaskImplementation: Unmask = unmask,
): FrameCollector {
  const collector = new FrameCollector(unmaskImplementation, preservesMessages);
  for (const chunk of chunks) collector.push(chunk);
  return collector;
}

/** The recorded calls in a form that can be compared. */
interface Calls {
  readonly payload: string;
  readonly pings: readonly string[];
  readonly pongs: number;
  readonly end: End | null;
}

function callsOf({ payload, pings, pongs, end }: FrameCollector): Calls {
  return {
    payload: payload.toString('latin1'),
    pings: pings.map((ping) => ping.toString('latin1')),
    pongs,
    end,
  };
}

/** Cases of the Autobahn test suite, with its numbers, as a relay has to handle them. */
interface Case extends Partial<Calls> {
  readonly name: string;
  readonly frames: readonly ClientFrame[];
}

const error = (code: FrameErrorCode): End => ({ kind: 'fault', fault: code });
const closed = (code: number): End => ({ kind: 'close', code });
const binary = (payload: Uint8Array | string, isFinal = true): ClientFrame => ({
  opcode: BINARY,
  payload,
  isFinal,
});
const more = (payload: Uint8Array | string, isFinal: boolean): ClientFrame => ({
  opcode: CONTINUATION,
  payload,
  isFinal,
});
const ping = (payload: Uint8Array | string = ''): ClientFrame => ({ opcode: PING, payload });
const pong = (payload: Uint8Array | string = ''): ClientFrame => ({ opcode: PONG, payload });
const close = (code: number, reason: Uint8Array | string = ''): ClientFrame => ({
  opcode: CLOSE,
  payload: Buffer.concat([Buffer.of(code >> 8, code & 0xff), Buffer.from(reason)]),
});
const LONG = 'p'.repeat(125);

const framing: Case[] = [0, 1, 125, 126, 127, 128, 65_535, 65_536].flatMap((length) => {
  const payload = 'b'.repeat(length);
  return [
    { name: `1.2: a message of ${length} bytes`, frames: [binary(payload)], payload },
    {
      name: `1.2: a message of ${length} bytes whose length is not in its shortest form`,
      frames: [{ ...binary(payload), lengthBytes: 8 }],
      payload,
    },
  ];
});

const pingsAndPongs: Case[] = [
  { name: '2.1: an empty ping', frames: [ping()], pings: [''] },
  { name: '2.2: a ping with text', frames: [ping('Hello, world!')], pings: ['Hello, world!'] },
  { name: '2.3: a ping with bytes', frames: [ping(Buffer.of(0, 255, 254))], pings: ['\0\xff\xfe'] },
  { name: '2.4, 2.6: a ping of 125 bytes', frames: [ping(LONG)], pings: [LONG] },
  { name: '2.5: a ping of 126 bytes', frames: [ping(`${LONG}p`)], end: error(1002) },
  { name: '2.7, 2.8: unsolicited pongs', frames: [pong(), pong('x')], pongs: 2 },
  { name: '2.9: a pong, then a ping', frames: [pong('x'), ping('y')], pongs: 1, pings: ['y'] },
  {
    name: '2.10: ten pings at once',
    frames: Array.from({ length: 10 }, (_, index) => ping(`${index}`)),
    pings: ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9'],
  },
];

const reserved: Case[] = [1, 2, 3, 4, 5, 6, 7].flatMap((bits) => [
  {
    name: `3: reserved bits ${bits} of a message`,
    frames: [binary('a'), { ...binary('b'), reserved: bits }, ping()],
    payload: 'a',
    end: error(1002),
  },
  { name: `3: reserved bits ${bits} of a ping`, frames: [{ ...ping(), reserved: bits }], end: error(1002) },
  {
    name: `3: reserved bits ${bits} of a close`,
    frames: [{ ...close(1000), reserved: bits }],
    end: error(1002),
  },
]);

const opcodes: Case[] = [3, 4, 5, 6, 7, 11, 12, 13, 14, 15].flatMap((opcode) => [
  { name: `4: opcode ${opcode}`, frames: [{ opcode }], end: error(1002) },
  {
    name: `4: opcode ${opcode} with payload, after a message`,
    frames: [binary('a'), { opcode, payload: 'x' }, ping()],
    payload: 'a',
    end: error(1002),
  },
]);

const fragmentation: Case[] = [
  {
    name: '5.1: a ping in two fragments',
    frames: [{ ...ping('a'), isFinal: false }, more('b', true)],
    end: error(1002),
  },
  {
    name: '5.2: a pong in two fragments',
    frames: [{ ...pong('a'), isFinal: false }, more('b', true)],
    end: error(1002),
  },
  { name: '5.3: a message in two fragments', frames: [binary('a', false), more('b', true)], payload: 'ab' },
  {
    name: '5.6: a ping between two fragments',
    frames: [binary('a', false), ping('p'), more('b', true)],
    payload: 'ab',
    pings: ['p'],
  },
  {
    name: '5.9, 5.11: a continuation without a message',
    frames: [more('a', true), binary('b')],
    end: error(1002),
  },
  {
    name: '5.12, 5.14: a continuation without a message, not the last fragment',
    frames: [more('a', false), binary('b')],
    end: error(1002),
  },
  {
    name: '5.15: a continuation of a message that has ended',
    frames: [binary('a', false), more('b', true), more('c', false), binary('d')],
    payload: 'ab',
    end: error(1002),
  },
  {
    name: '5.18: a new message inside another',
    frames: [binary('a', false), binary('b')],
    payload: 'a',
    end: error(1002),
  },
  {
    name: '5.18: a text message inside another',
    frames: [binary('a', false), { opcode: TEXT, payload: 'b' }],
    payload: 'a',
    end: error(1002),
  },
  {
    name: '5.19: five fragments and two pings between them',
    frames: [
      binary('1', false),
      more('2', false),
      ping('one'),
      more('3', false),
      more('4', false),
      ping('two'),
      more('5', true),
    ],
    payload: '12345',
    pings: ['one', 'two'],
  },
  {
    name: '6.1: empty fragments',
    frames: [binary('', false), more('', false), pong(), more('', true), binary('a')],
    payload: 'a',
    pongs: 1,
  },
  {
    name: 'a text message',
    frames: [binary('a'), { opcode: TEXT, payload: 'b' }, ping()],
    payload: 'a',
    end: { kind: 'text' },
  },
  { name: 'an empty text message', frames: [{ opcode: TEXT }], end: { kind: 'text' } },
  { name: 'the first fragment of a text', frames: [{ opcode: TEXT, isFinal: false }], end: { kind: 'text' } },
];

const VALID_CODES = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999];
const INVALID_CODES = [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535];

const closing: Case[] = [
  {
    name: '7.1.1: a message, then a close',
    frames: [binary('a'), close(1000)],
    payload: 'a',
    end: closed(1000),
  },
  { name: '7.1.2: two closes', frames: [close(1000), close(1001)], end: closed(1000) },
  { name: '7.1.3: a ping after a close', frames: [close(1000), ping()], end: closed(1000) },
  { name: '7.1.4: a message after a close', frames: [close(1000), binary('a')], end: closed(1000) },
  {
    name: '7.1.5: a close between two fragments',
    frames: [binary('a', false), close(1000), more('b', true)],
    payload: 'a',
    end: closed(1000),
  },
  { name: 'garbage after a close', frames: [close(1000), { opcode: 15, reserved: 7 }], end: closed(1000) },
  { name: '7.3.1: a close without a code', frames: [{ opcode: CLOSE }], end: closed(1005) },
  { name: '7.3.2: a close of one byte', frames: [{ opcode: CLOSE, payload: 'x' }], end: error(1002) },
  { name: '7.3.4: a close with a reason', frames: [close(1000, 'Grüße')], end: closed(1000) },
  {
    name: '7.3.5: a close with the longest reason',
    frames: [close(1000, 'r'.repeat(123))],
    end: closed(1000),
  },
  { name: '7.3.6: a close with a longer reason', frames: [close(1000, 'r'.repeat(124))], end: error(1002) },
  { name: 'a close in two fragments', frames: [{ ...close(1000), isFinal: false }], end: error(1002) },
  {
    name: '7.5.1: a reason that is not UTF-8',
    frames: [close(1000, Buffer.from('cebae1bdb9cf83cebcceb5eda080656469746564', 'hex'))],
    end: error(1007),
  },
  {
    name: '7.5.1: a reason that ends inside a character',
    frames: [close(1000, Buffer.of(0xc3))],
    end: error(1007),
  },
  ...VALID_CODES.map((code) => ({
    name: `7.7: a close with ${code}`,
    frames: [close(code)],
    end: closed(code),
  })),
  ...INVALID_CODES.map((code) => ({
    name: `7.9, 7.13: a close with ${code}`,
    frames: [close(code, 'because')],
    end: error(1002),
  })),
];

const limits: Case[] = [
  {
    name: 'an unmasked message',
    frames: [binary('a'), { ...binary('b'), key: null }],
    payload: 'a',
    end: error(1002),
  },
  { name: 'an unmasked text', frames: [{ opcode: TEXT, key: null }], end: error(1002) },
  { name: 'an unmasked ping', frames: [{ ...ping(), key: null }], end: error(1002) },
  { name: 'an unmasked close', frames: [{ ...close(1000), key: null }], end: error(1002) },
  { name: 'a length of 2^63', frames: [{ ...binary(''), announced: 2n ** 63n }], end: error(1002) },
  { name: 'a length of 2^64 - 1', frames: [{ ...binary(''), announced: 2n ** 64n - 1n }], end: error(1002) },
  { name: 'a length of 2^63 - 1', frames: [{ ...binary(''), announced: 2n ** 63n - 1n }], end: error(1009) },
  { name: 'a length of 2^53', frames: [{ ...binary(''), announced: 2n ** 53n }], end: error(1009) },
  {
    name: 'a length of 2^53 - 1',
    frames: [{ ...binary('the beginning'), announced: 2n ** 53n - 1n }],
    payload: 'the beginning',
  },
];

const SECTIONS = { framing, pingsAndPongs, reserved, opcodes, fragmentation, closing, limits };

for (const [section, cases] of Object.entries(SECTIONS)) {
  describe(`frames: ${section}`, () => {
    for (const { name, frames, payload = '', pings = [], pongs = 0, end = null } of cases) {
      test(name, () => {
        const bytes = Buffer.concat(frames.map(encodeFrame));
        const expected: Calls = { payload, pings, pongs, end };
        assert.deepEqual(callsOf(decode([bytes])), expected, 'in one piece');
        assert.deepEqual(callsOf(decode(cutAt(bytes, everyByte(bytes)))), expected, 'byte by byte');
        assert.deepEqual(callsOf(decode([bytes], true)), expected, 'with message boundaries');
        if (bytes.length > 1000) return;
        for (const cut of everyByte(bytes)) {
          assert.deepEqual(callsOf(decode(cutAt(bytes, [cut]))), expected, `cut at ${cut}`);
        }
      });
    }
  });
}

describe('a decoder of frames', () => {
  test('detects a text, an unmasked and a reserved frame by their first two bytes', () => {
    const cases: [ClientFrame, End][] = [
      [{ opcode: TEXT, payload: 't'.repeat(1000) }, { kind: 'text' }],
      [{ ...binary('b'.repeat(1000)), key: null }, error(1002)],
      [{ ...binary('b'.repeat(1000)), reserved: 1 }, error(1002)],
      [{ opcode: 3, payload: 'x'.repeat(1000) }, error(1002)],
      [ping('x'.repeat(1000)), error(1002)],
      [more('x'.repeat(1000), true), error(1002)],
    ];
    for (const [frame, end] of cases) {
      const collector = decode([encodeFrame(frame).subarray(0, 1)]);
      assert.equal(collector.end, null);
      collector.push(encodeFrame(frame).subarray(1, 2));
      assert.deepEqual(collector.end, end);
    }
  });

  test('emits the payload of a frame of 4 GiB as it arrives, in the memory of the input', () => {
    const buffers: Uint8Array[] = [];
    const ignore = (): void => undefined;
    const decoder = new FrameDecoder(
      {
        onPayload: (bytes) => buffers.push(bytes),
        onPing: ignore,
        onPong: ignore,
        onText: () => assert.fail('a text'),
        onCloseFrame: () => assert.fail('a close'),
        onProtocolError: () => assert.fail('a fault'),
      },
      unmask,
    );
    const payload = randomBytesOf(20, 4_000_000);
    const frame = encodeFrame({ ...binary(payload), announced: 2n ** 32n });
    for (let at = 0; at < frame.length; at += 65_537) {
      // A buffer of its own, which has to contain the payload.
      const chunk = Uint8Array.from(frame.subarray(at, at + 65_537));
      decoder.push(chunk);
      const [piece, ...others] = buffers.splice(0);
      assert.deepEqual(others, []);
      assert.equal(piece?.buffer, chunk.buffer);
      const range = { from: Math.max(0, at - 14), to: Math.min(frame.length, at + 65_537) - 14 };
      assert.ok(payload.subarray(range.from, range.to).equals(piece));
    }
  });

  test('emits the payload of one push as one piece, however many messages it contains', () => {
    const messages = Array.from({ length: 100 }, (_, index) => randomBytesOf(index, index * 7));
    const buffers: Buffer[] = [];
    const collector = new FrameCollector(unmask, false);
    collector.onPayload = (bytes) => buffers.push(Buffer.from(bytes));
    collector.push(Buffer.concat(messages.map((message) => encodeFrame(binary(message)))));
    assert.deepEqual(buffers, [Buffer.concat(messages)]);
  });

  test('can stop preserving message boundaries in the middle of a push', () => {
    const pieces: string[] = [];
    const decoder: FrameDecoder = new FrameDecoder(
      {
        onPayload(bytes, endsMessage) {
          pieces.push(`${Buffer.from(bytes).toString()}${endsMessage ? '.' : ''}`);
          decoder.preserveMessageBoundaries = pieces.length < 2;
        },
        onPing: () => assert.fail('a ping'),
        onPong: () => assert.fail('a pong'),
        onText: () => assert.fail('a text'),
        onCloseFrame: () => assert.fail('a close'),
        onProtocolError: () => assert.fail('a fault'),
      },
      unmask,
    );
    const frames = ['one', 'two', 'three', 'four'].map((message) => encodeFrame(binary(message)));
    decoder.push(Buffer.concat(frames));
    assert.deepEqual(pieces, ['one.', 'two.', 'threefour']);
  });
});

/** A message as a client may send it: its fragments, each with control frames before it. */
interface Message {
  readonly fragments: readonly {
    readonly payload: Buffer;
    readonly key: Uint8Array;
    readonly before: readonly { readonly isPing: boolean; readonly payload: Uint8Array }[];
  }[];
}

const anyKey = fc.uint8Array({ minLength: 4, maxLength: 4 });
const anySize = fc.oneof(
  { weight: 4, arbitrary: fc.integer({ min: 0, max: 300 }) },
  { weight: 1, arbitrary: fc.integer({ min: 0, max: 70_000 }) },
);
const anyMessage: fc.Arbitrary<Message> = fc.record({
  fragments: fc.array(
    fc.record({
      payload: fc.tuple(fc.nat(), anySize).map(([seed, size]) => randomBytesOf(seed, size)),
      key: anyKey,
      before: fc.array(fc.record({ isPing: fc.boolean(), payload: fc.uint8Array({ maxLength: 125 }) }), {
        maxLength: 2,
      }),
    }),
    { minLength: 1, maxLength: 4 },
  ),
});

function framesOf(message: Message): ClientFrame[] {
  const last = message.fragments.length - 1;
  return message.fragments.flatMap(({ payload, key, before }, index) => [
    ...before.map((control) => ({ opcode: control.isPing ? PING : PONG, payload: control.payload, key })),
    { opcode: index === 0 ? BINARY : CONTINUATION, isFinal: index === last, payload, key },
  ]);
}

describe('any frames in any pieces', () => {
  for (const [implementationName, unmaskImplementation] of [
    ['machine code', unmask],
    ['script', unmaskJs],
  ] as const) {
    test(`give the same payload, pings and messages, unmasked in ${implementationName}`, () => {
      const property = fc.property(
        fc.array(anyMessage, { minLength: 1, maxLength: 6 }),
        fc.array(fc.nat({ max: 1_000_000 }), { maxLength: 40 }),
        fc.boolean(),
        (messages, positions, preservesMessages) => {
          const bytes = Buffer.concat(messages.flatMap(framesOf).map(encodeFrame));
          const cuts = positions.map((position) => position % bytes.length);
          const collector = decode(cutAt(bytes, cuts), preservesMessages, unmaskImplementation);
          const controls = messages.flatMap(({ fragments }) => fragments.flatMap(({ before }) => before));
          const pings = controls.filter(({ isPing }) => isPing).map(({ payload }) => Buffer.from(payload));
          const payloads = messages.map(({ fragments }) =>
            Buffer.concat(fragments.map(({ payload }) => payload)),
          );
          assert.equal(collector.end, null);
          assert.ok(collector.payload.equals(Buffer.concat(payloads)));
          assert.deepEqual(collector.pings, pings);
          assert.equal(collector.pongs, controls.length - pings.length);
          if (!preservesMessages) return;
          assert.equal(collector.messages.length, payloads.length);
          for (const [index, message] of payloads.entries())
            assert.ok(collector.messages[index]?.equals(message));
        },
      );
      fc.assert(property, { numRuns: 150 });
    });
  }

  test('never throw, and the handler is not called after the end', () => {
    const plausible = fc
      .tuple(fc.constantFrom(0x00, 0x02, 0x80, 0x82, 0x88, 0x89, 0x8a), fc.integer({ min: 0x80, max: 0xff }))
      .map(([first, second]) => Uint8Array.of(first, second));
    const chunk = fc.oneof(fc.uint8Array({ maxLength: 200 }), plausible);
    const property = fc.property(
      fc.array(chunk, { maxLength: 20 }),
      fc.boolean(),
      (chunks, preservesMessages) => {
        decode(chunks, preservesMessages);
      },
    );
    fc.assert(property, { numRuns: 2000 });
  });
});

describe('encoding', () => {
  for (const size of [0, 1, 125, 126, 32_767, 32_768, 32_769, 65_536, 100_000]) {
    test(`turns ${size} bytes into messages of at most 32 KiB`, () => {
      const bytes = randomBytesOf(21, size);
      const frames = readServerFrames(Buffer.concat(encodePayload(bytes)));
      assert.ok(Buffer.concat(frames.map(({ payload }) => payload)).equals(bytes));
      assert.ok(frames.every(({ opcode }) => opcode === BINARY));
      assert.ok(frames.every(({ payload }) => payload.length > 0 && payload.length <= MAX_MESSAGE_BYTES));
      assert.equal(frames.length, Math.ceil(size / 32_768));
    });
  }

  test('sends a pong with the payload of its ping', () => {
    for (const size of [0, 1, 125]) {
      const payload = randomBytesOf(22, size);
      assert.deepEqual(readServerFrames(Buffer.from(encodePong(payload))), [{ opcode: PONG, payload }]);
    }
  });

  test('sends an empty ping', () => {
    assert.deepEqual(readServerFrames(Buffer.from(PING_FRAME)), [{ opcode: PING, payload: Buffer.alloc(0) }]);
  });

  test('sends a close frame with its code, and without a code for 1005', () => {
    const payloadOf = (code: number): string => {
      const [frame, ...others] = readServerFrames(Buffer.from(encodeClose(code)));
      assert.deepEqual(others, []);
      assert.equal(frame?.opcode, CLOSE);
      return frame.payload.toString('hex');
    };
    assert.equal(payloadOf(1000), '03e8');
    assert.equal(payloadOf(1009), '03f1');
    assert.equal(payloadOf(4999), '1387');
    assert.equal(payloadOf(1005), '');
  });
});
