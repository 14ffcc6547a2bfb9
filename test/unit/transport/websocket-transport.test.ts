import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Unmask } from '../../../src/protocol/websocket-frames.ts';
import { ReadScheduler } from '../../../src/transport/read-scheduler.ts';
import {
  WebSocketTransport,
  hasNativeUnmask,
  unmask,
  unmaskJs,
} from '../../../src/transport/websocket-transport.ts';
import { SIDE_A, handshake, newToken, randomBytesOf } from '../../support/bytes.ts';
import { encodeFrame, readServerFrames } from '../../support/frames.ts';
import { ScriptedStream } from '../../support/scripted-stream.ts';

/** Records what the transport does with it. The test passes received bytes to the transport. */
class FakeStream extends ScriptedStream {
  override bufferedBytes = 0;
  override deliveredBytes = 0;
  limitedReads = 0;
  isAborted = false;
  readonly written: Uint8Array[] = [];

  override write(bytes: Uint8Array): boolean {
    this.written.push(bytes);
    return true;
  }

  override limitReadSize(): void {
    this.limitedReads += 1;
  }

  override end(): void {
    // The client does not answer.
  }

  override abort(): void {
    this.isAborted = true;
  }
}

/** Masked binary frames of one byte each, the smallest possible. */
function tinyFrames(count: number): Uint8Array {
  const bytes = new Uint8Array(count * 7);
  for (let at = 0; at < bytes.length; at += 7) bytes.set([0x82, 0x81, 1, 2, 3, 4, 0x55], at);
  return bytes;
}

interface OpenTransport {
  readonly stream: FakeStream;
  readonly scheduler: ReadScheduler;
  readonly transport: WebSocketTransport;
  /** The received payload as text. */
  readonly received: () => string;
}

function open(context: TestContext): OpenTransport {
  const stream = new FakeStream();
  const scheduler = new ReadScheduler(0);
  const transport = new WebSocketTransport(stream, scheduler, 30_000);
  context.after(() => transport.onClose());
  let received = '';
  transport.start({
    onData: (bytes) => {
      received += Buffer.from(bytes).toString('latin1');
    },
    onText: () => undefined,
    onWritable: () => undefined,
    onEnd: () => undefined,
    onClose: () => undefined,
  });
  return { stream, scheduler, transport, received: () => received };
}

test('keeps reads small for a client that sends one frame per byte', (context) => {
  const { stream, transport, received } = open(context);
  transport.onBytes(tinyFrames(200));
  assert.equal(stream.limitedReads, 0);
  transport.onBytes(tinyFrames(1000));
  assert.equal(stream.limitedReads, 1);
  assert.ok(received().length > 0);
});

const LINE = handshake(newToken(), SIDE_A);

/** The handshake line, then each character of `text` in its own frame. */
function framesOf(text: string): Buffer {
  return Buffer.concat([LINE, ...text.split('')].map((payload) => encodeFrame({ opcode: 2, payload })));
}

test('reads a large number of frames in small batches and in order, and pauses the stream meanwhile', async (context) => {
  const { stream, scheduler, transport, received } = open(context);
  const text = '0123456789'.repeat(200);
  transport.onBytes(framesOf(text));
  assert.ok(received().length < LINE.length + 500, `${received().length} immediately`);
  assert.ok(stream.isPaused && scheduler.bufferedBytes > 0);
  // The receiver is slow for a moment.
  transport.pause();
  await nextTurn();
  const before = received();
  await nextTurn();
  assert.equal(received(), before);
  transport.resume();
  assert.ok(stream.isPaused, 'frames are left');
  while (received().length < LINE.length + text.length) await nextTurn();
  await nextTurn();
  assert.equal(received(), LINE + text);
  assert.deepEqual([stream.isPaused, scheduler.bufferedBytes], [false, 0]);
});

test('forwards small messages at once while frames of other clients are queued', (context) => {
  const { scheduler, transport, received } = open(context);
  scheduler.tasks.defer(() => undefined);
  transport.onBytes(framesOf('abc'));
  assert.equal(received(), `${LINE}abc`);
});

test('releases the memory of unread frames at close', (context) => {
  const { scheduler, transport } = open(context);
  transport.onBytes(framesOf('x'.repeat(1000)));
  assert.ok(scheduler.bufferedBytes > 0);
  transport.onClose();
  assert.equal(scheduler.bufferedBytes, 0);
});

test('ignores a client that keeps sending small frames after the relay has closed', async (context) => {
  const { stream, scheduler, transport } = open(context);
  transport.closeGracefully(1000, false);
  transport.onBytes(framesOf('x'.repeat(1000)));
  assert.deepEqual([stream.isPaused, scheduler.bufferedBytes, scheduler.tasks.isBusy], [false, 0, false]);
  await nextTurn();
});

test('answers only the last of many pings that arrive together', (context) => {
  const { stream, transport } = open(context);
  const pings = Array.from({ length: 100 }, (_, index) => encodeFrame({ opcode: 9, payload: `${index}` }));
  transport.onBytes(Buffer.concat(pings));
  assert.deepEqual(
    stream.written.map((bytes) => readServerFrames(Buffer.from(bytes))),
    [[{ opcode: 10, payload: Buffer.from('99') }]],
  );
});

/** A client that gets a ping every second of a mocked clock. */
function openWithPings(context: TestContext): Pick<OpenTransport, 'stream' | 'transport'> {
  context.mock.timers.enable({ apis: ['setInterval', 'setTimeout'] });
  const stream = new FakeStream();
  const transport = new WebSocketTransport(stream, new ReadScheduler(0), 1000);
  context.after(() => transport.onClose());
  return { stream, transport };
}

const PONG = encodeFrame({ opcode: 10, payload: '' });

test('closes a client that has answered pings in the eleventh interval of its silence', (context) => {
  const { stream, transport } = openWithPings(context);
  transport.onBytes(PONG);
  context.mock.timers.tick(10_000);
  assert.equal(stream.isAborted, false);
  context.mock.timers.tick(1000);
  assert.equal(stream.isAborted, true);
});

test('resets the count of unanswered pings at any byte of the client', (context) => {
  const { stream, transport } = openWithPings(context);
  transport.onBytes(PONG);
  for (const byte of encodeFrame({ opcode: 2, payload: 'please relay' })) {
    context.mock.timers.tick(9000);
    transport.onBytes(Uint8Array.of(byte));
  }
  assert.equal(stream.isAborted, false);
});

for (const { state, buffered, sent, isClosed } of [
  { state: 'with buffered bytes', buffered: 1, sent: 0, isClosed: false },
  { state: 'while pings may be queued behind payload', buffered: 0, sent: 65_537, isClosed: false },
  { state: 'without buffered bytes and queued pings', buffered: 0, sent: 65_536, isClosed: true },
]) {
  test(`${isClosed ? 'closes' : 'does not close'} a silent client ${state}`, (context) => {
    const { stream, transport } = openWithPings(context);
    stream.deliveredBytes = 1_000_000;
    transport.onBytes(PONG);
    stream.bufferedBytes = buffered;
    stream.deliveredBytes += sent;
    context.mock.timers.tick(3_600_000);
    assert.equal(stream.isAborted, isClosed);
  });
}

test('does not close a silent client that has never answered a ping', (context) => {
  const { stream } = openWithPings(context);
  context.mock.timers.tick(3_600_000);
  assert.equal(stream.isAborted, false);
});

test('does not count a client as silent while the relay does not read from it', (context) => {
  const { stream, transport } = openWithPings(context);
  transport.onBytes(PONG);
  transport.pause();
  context.mock.timers.tick(3_600_000);
  assert.equal(stream.isAborted, false);
});

const KEY = Uint8Array.of(0x37, 0xfa, 0x21, 0x80);
const LARGE = [4095, 65_536, 1_048_573];

/** Bytes after the output, which detect a write past its end. */
const MARGIN = 8;

const random = randomBytesOf(30, 1_048_573);
const unmasked = random.map((byte, index) => byte ^ (KEY[index % 4] ?? 0));

/** Allocates memory that starts at an address with this alignment. */
function memoryAt(alignment: number, length: number): Buffer {
  return Buffer.from(new ArrayBuffer(alignment + length), alignment);
}

/** Unmasks from memory with one alignment to memory with another. */
function checkCopy(implementation: Unmask, from: number, to: number, length: number): void {
  const source = memoryAt(from, length);
  random.copy(source, 0, 0, length);
  const output = memoryAt(0, to + length + MARGIN);
  implementation(source, KEY, output, to, length);
  const message = `${length} bytes from ${from} to ${to}`;
  assert.ok(output.subarray(to, to + length).equals(unmasked.subarray(0, length)), message);
  assert.ok(source.equals(random.subarray(0, length)), `${message}: the source has changed`);
  assert.ok(
    output.subarray(0, to).every((byte) => byte === 0) && !output.subarray(-MARGIN).some(Boolean),
    message,
  );
}

/** Unmasks within one buffer that starts at `alignment`, to a position `distance` bytes to the left. */
function checkMove(implementation: Unmask, alignment: number, distance: number, length: number): void {
  const memory = memoryAt(alignment, distance + length + MARGIN);
  random.copy(memory, distance, 0, length);
  implementation(memory.subarray(distance, distance + length), KEY, memory, 0, length);
  const message = `${length} bytes at ${alignment}, ${distance} to the left`;
  assert.ok(memory.subarray(0, length).equals(unmasked.subarray(0, length)), message);
  assert.ok(!memory.subarray(-MARGIN).some(Boolean), message);
}

const IMPLEMENTATIONS: readonly (readonly [string, Unmask])[] = [
  ['native code', unmask],
  ['JavaScript', unmaskJs],
];

for (const [name, implementation] of IMPLEMENTATIONS) {
  describe(`unmasking in ${name}`, { skip: implementation === unmask && !hasNativeUnmask }, () => {
    test('gives the result of a loop over the bytes, for every alignment', () => {
      for (let from = 0; from < 16; from += 1) {
        for (let to = 0; to < 16; to += 1) {
          for (let length = 0; length <= 200; length += 1) checkCopy(implementation, from, to, length);
        }
      }
      for (const length of LARGE) {
        for (let from = 0; from < 4; from += 1) {
          for (let to = 0; to < 4; to += 1) checkCopy(implementation, from, to, length);
        }
      }
    });

    test('works in place with overlapping memory', () => {
      for (let alignment = 0; alignment < 16; alignment += 1) {
        for (let distance = 0; distance <= 20; distance += 1) {
          for (let length = 0; length <= 200; length += 1)
            checkMove(implementation, alignment, distance, length);
        }
      }
      for (const length of LARGE) {
        for (const distance of [0, 1, 2, 4, 6, 8, 14, 1000]) checkMove(implementation, 3, distance, length);
      }
    });
  });
}
