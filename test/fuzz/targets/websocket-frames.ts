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
class RecordingHandler implements FrameHandler {
  readonly events: Events = { messages: [''], pings: [], pongs: 0, end: null };
  readonly #preservesMessages: boolean;
  /** Frames that the decoder may read at once. */
  readonly #maxFrames: number;
  /** Received bytes, and reported payload, which cannot be more. */
  #receivedBytes = 0;
  #reportedBytes = 0;

  constructor(preservesMessages: boolean, maxFrames: number) {
    this.#preservesMessages = preservesMessages;
    this.#maxFrames = maxFrames;
  }

  feed(decoder: FrameDecoder, bytes: Uint8Array): void {
    // At an odd offset in memory, because words of four bytes may be unaligned.
    const start = (this.#receivedBytes + 1) % 4;
    const copy = Buffer.alloc(start + bytes.length).subarray(start);
    copy.set(bytes);
    this.#receivedBytes += copy.length;
    let rest: Uint8Array = copy;
    while (rest.length > 0) {
      const consumed = decoder.push(rest, this.#maxFrames);
      expectTrue(consumed > 0 && consumed <= rest.length, 'no progress');
      rest = rest.subarray(consumed);
    }
    // Overwritten, so that a later access is noticed.
    copy.fill(0xa5);
  }

  onPayload(bytes: Uint8Array, endsMessage: boolean): void {
    this.#checkNotEnded();
    this.#reportedBytes += bytes.length;
    expectTrue(this.#reportedBytes <= this.#receivedBytes, 'more payload than received bytes');
    expectTrue(
      this.#preservesMessages || !endsMessage,
      'the end of a message is reported without message boundaries',
    );
    const { messages } = this.events;
    messages.push((messages.pop() ?? '') + Buffer.from(bytes).toString('latin1'));
    if (endsMessage) messages.push('');
  }

  onPing(payload: Uint8Array): void {
    this.#checkNotEnded();
    expectTrue(payload.length <= 125, 'a ping that is too long');
    this.events.pings.push(Buffer.from(payload).toString('latin1'));
  }

  onPong(): void {
    this.#checkNotEnded();
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
    this.#checkNotEnded();
    this.events.end = end;
  }

  #checkNotEnded(): void {
    expectTrue(this.events.end === null, 'an event after the end');
  }
}

const MODES: readonly (readonly [
  preservesMessages: boolean,
  unmaskImplementation: Unmask,
  maxFrames: number,
])[] = [
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

const FALSE_LENGTHS: Choices<bigint> = [0n, 126n, 65_536n, 2n ** 53n - 1n, 2n ** 53n, 2n ** 63n];

export const websocketFrames: Target = {
  dictionary: DICTIONARY,

  make(random) {
    const bytes = (maxLength: number): Buffer =>
      Buffer.from(
        many(random, 0, maxLength, () => pick(random, ['a', '\0', '\xff', 'z'])),
        'latin1',
      );
    const close = (): Buffer =>
      Buffer.from([0, 0, ...pick(random, [bytes(5), Buffer.from('é'), Buffer.from('bye')])]).fill(
        Buffer.of(pick(random, [3, 11, 19, 0, 15]), pick(random, [0xe8, 0xec, 0xed, 0xf6, 0xf7, 0xb8, 0x87])),
        0,
        2,
      );
    let isInMessage = false;
    const frame = (): string => {
      const kind = random.happens(0.05) ? random.between(0, 15) : pick(random, [2, 2, 2, 9, 10, 8]);
      const isControl = kind >= 8;
      const opcode = kind === 2 && isInMessage ? 0 : kind;
      const isFinal = isControl || random.happens(0.6);
      if (!isControl) isInMessage = !isFinal;
      const payload =
        kind === 8 ? pick(random, [close(), bytes(2)]) : bytes(isControl ? 10 : random.size(300));
      const frameBytes = encodeFrame({
        opcode,
        isFinal,
        payload,
        key: random.happens(0.98) ? Buffer.from(bytes(4).toString('latin1').padEnd(4, 'k'), 'latin1') : null,
        reserved: random.happens(0.02) ? random.between(1, 7) : 0,
        ...pick<Partial<ClientFrame>>(random, [
          {},
          {},
          {},
          {},
          {},
          payload.length < 126 ? { lengthBytes: pick(random, [2, 8]) } : {},
          random.happens(0.2) ? { announced: pick(random, FALSE_LENGTHS) } : {},
        ]),
      });
      return frameBytes.toString('latin1');
    };
    return many(random, 1, 8, frame);
  },

  check(input, random) {
    const expected = expectedEvents(input);
    for (const [preservesMessages, unmaskImplementation, maxFrames] of MODES) {
      for (const chunks of splitsOf(input, random)) {
        const handler = new RecordingHandler(preservesMessages, maxFrames);
        const decoder = new FrameDecoder(handler, unmaskImplementation);
        decoder.preserveMessageBoundaries = preservesMessages;
        for (const chunk of chunks) handler.feed(decoder, chunk);
        const { events } = handler;
        const label = `${preservesMessages ? 'messages' : 'the stream'} in ${chunks.length} chunks`;
        expectSame(
          events,
          preservesMessages ? expected : { ...expected, messages: [expected.messages.join('')] },
          label,
        );
      }
    }
  },
};
