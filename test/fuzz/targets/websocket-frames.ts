import { unmask, unmaskJs } from '../../../src/transport/websocket-transport.ts';
import { FrameDecoder } from '../../../src/protocol/websocket-frames.ts';
import type { FrameHandler, Unmask } from '../../../src/protocol/websocket-frames.ts';
import { encodeFrame } from '../../support/frames.ts';
import type { ClientFrame } from '../../support/frames.ts';
import { expectSame, expectTrue, many, pick, splitsOf } from '../target.ts';
import type { Choices, Target } from '../target.ts';
import { expectedEvents } from './frames-reference.ts';
import type { Events } from './frames-reference.ts';

const KEY = '\x37\xfa\x21\x3d';

/** Records the events of a decoder, and checks that none follows the end. */
class Listener implements FrameHandler {
  readonly events: Events = { messages: [''], pings: [], pongs: 0, end: null };
  readonly #apart: boolean;
  /** Frames that the decoder may read at once. */
  readonly #maxFrames: number;
  /** Received bytes, and reported payload, which cannot be more. */
  #came = 0;
  #told = 0;

  constructor(apart: boolean, maxFrames: number) {
    this.#apart = apart;
    this.#maxFrames = maxFrames;
  }

  feed(decoder: FrameDecoder, bytes: Uint8Array): void {
    // At an odd offset in memory, because words of four bytes may be unaligned.
    const start = (this.#came + 1) % 4;
    const copy = Buffer.alloc(start + bytes.length).subarray(start);
    copy.set(bytes);
    this.#came += copy.length;
    let rest: Uint8Array = copy;
    while (rest.length > 0) {
      const taken = decoder.push(rest, this.#maxFrames);
      expectTrue(taken > 0 && taken <= rest.length, 'no progress');
      rest = rest.subarray(taken);
    }
    // Overwritten, so that a later access is noticed.
    copy.fill(0xa5);
  }

  onPayload(bytes: Uint8Array, endsMessage: boolean): void {
    this.#alive();
    this.#told += bytes.length;
    expectTrue(this.#told <= this.#came, 'more payload than came');
    expectTrue(this.#apart || !endsMessage, 'messages are told apart');
    const { messages } = this.events;
    messages.push((messages.pop() ?? '') + Buffer.from(bytes).toString('latin1'));
    if (endsMessage) messages.push('');
  }

  onPing(payload: Uint8Array): void {
    this.#alive();
    expectTrue(payload.length <= 125, 'a ping that is too long');
    this.events.pings.push(Buffer.from(payload).toString('latin1'));
  }

  onPong(): void {
    this.#alive();
    this.events.pongs += 1;
  }

  onText(): void {
    this.#end('text');
  }

  onCloseFrame(code: number): void {
    this.#end(`close ${code}`);
  }

  onProtocolError(error: number): void {
    this.#end(`fault ${error}`);
  }

  #end(end: string): void {
    this.#alive();
    this.events.end = end;
  }

  #alive(): void {
    expectTrue(this.events.end === null, 'an event after the end');
  }
}

const MODES: readonly (readonly [apart: boolean, how: Unmask, maxFrames: number])[] = [
  [true, unmask, Infinity],
  [true, unmask, 1],
  [false, unmask, 2],
  [false, unmaskJs, Infinity],
];

const DICTIONARY: Choices<string> = [
  `\x82\x80${KEY}`,
  `\x82\x81${KEY}x`,
  `\x02\x83${KEY}abc`,
  `\x00\x83${KEY}abc`,
  `\x80\x80${KEY}`,
  `\x89\x84${KEY}ping`,
  `\x8a\x80${KEY}`,
  `\x88\x80${KEY}`,
  `\x88\x82${KEY}\x34\x12`,
  `\x88\x86${KEY}\x34\x12\xff\xfe\xfd`,
  '\x81\x80',
  '\x82\xfe',
  '\x82\xfe\x00\x7e',
  '\x82\xff',
  '\x82\xff\x00\x00\x00\x00\x00\x00\x00\x05',
  '\x82\xff\x00\x20\x00\x00\x00\x00\x00\x00',
  '\xff'.repeat(8),
  '\0\0\0\0',
];

const LYING_LENGTHS: Choices<bigint> = [0n, 126n, 65_536n, 2n ** 53n - 1n, 2n ** 53n, 2n ** 63n];

export const websocketFrames: Target = {
  dictionary: DICTIONARY,

  make(dice) {
    const bytes = (most: number): Buffer =>
      Buffer.from(
        many(dice, 0, most, () => pick(dice, ['a', '\0', '\xff', 'z'])),
        'latin1',
      );
    const close = (): Buffer =>
      Buffer.from([0, 0, ...pick(dice, [bytes(5), Buffer.from('é'), Buffer.from('bye')])]).fill(
        Buffer.of(pick(dice, [3, 11, 19, 0, 15]), pick(dice, [0xe8, 0xec, 0xed, 0xf6, 0xf7, 0xb8, 0x87])),
        0,
        2,
      );
    let isInside = false;
    const frame = (): string => {
      const kind = dice.happens(0.05) ? dice.between(0, 15) : pick(dice, [2, 2, 2, 9, 10, 8]);
      const isControl = kind >= 8;
      const opcode = kind === 2 && isInside ? 0 : kind;
      const isFinal = isControl || dice.happens(0.6);
      if (!isControl) isInside = !isFinal;
      const payload = kind === 8 ? pick(dice, [close(), bytes(2)]) : bytes(isControl ? 10 : dice.size(300));
      const frameBytes = encodeFrame({
        opcode,
        isFinal,
        payload,
        key: dice.happens(0.98) ? Buffer.from(bytes(4).toString('latin1').padEnd(4, 'k'), 'latin1') : null,
        reserved: dice.happens(0.02) ? dice.between(1, 7) : 0,
        ...pick<Partial<ClientFrame>>(dice, [
          {},
          {},
          {},
          {},
          {},
          payload.length < 126 ? { lengthBytes: pick(dice, [2, 8]) } : {},
          dice.happens(0.2) ? { announced: pick(dice, LYING_LENGTHS) } : {},
        ]),
      });
      return frameBytes.toString('latin1');
    };
    return many(dice, 1, 8, frame);
  },

  check(input, dice) {
    const expected = expectedEvents(input);
    for (const [apart, how, maxFrames] of MODES) {
      for (const chunks of splitsOf(input, dice)) {
        const listener = new Listener(apart, maxFrames);
        const decoder = new FrameDecoder(listener, how);
        decoder.preserveMessageBoundaries = apart;
        for (const chunk of chunks) listener.feed(decoder, chunk);
        const { events } = listener;
        const what = `${apart ? 'messages' : 'the stream'} in ${chunks.length} chunks`;
        expectSame(events, apart ? expected : { ...expected, messages: [expected.messages.join('')] }, what);
      }
    }
  },
};
