import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { TestContext } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { ByteStream } from '../../src/transport/byte-stream.ts';
import { ReadScheduler } from '../../src/transport/read-scheduler.ts';
import { WebSocketTransport } from '../../src/transport/websocket-transport.ts';
import { SIDE_A, handshake, newToken } from '../support/bytes.ts';
import { encodeFrame, readServerFrames } from '../support/frames.ts';

/** A wire that nothing comes from by itself. */
class QuietWire implements ByteStream {
  readonly kind = 'tcp';
  readonly addresses = null;
  bufferedBytes = 0;
  deliveredBytes = 0;
  askedForLess = 0;
  isPaused = false;
  isDestroyed = false;
  readonly written: Uint8Array[] = [];
  start(): void {
    // Bytes come from the test.
  }
  detach(): never {
    throw new Error('there is no socket');
  }
  write(bytes: Uint8Array): boolean {
    this.written.push(bytes);
    return true;
  }
  writeParts(): boolean {
    return true;
  }
  pause(): void {
    this.isPaused = true;
  }
  resume(): void {
    this.isPaused = false;
  }
  limitReadSize(): void {
    this.askedForLess += 1;
  }
  detectReset(): void {
    // Never reset.
  }
  setKeepAlive(): void {
    // There is no network.
  }
  end(): void {
    // Never closed.
  }
  abort(): void {
    this.isDestroyed = true;
  }
}

/** Masked binary frames of one byte each, as short as a client can make them. */
function tinyFrames(count: number): Uint8Array {
  const bytes = new Uint8Array(count * 7);
  for (let at = 0; at < bytes.length; at += 7) bytes.set([0x82, 0x81, 1, 2, 3, 4, 0x55], at);
  return bytes;
}

test('a client that sends a frame for each byte is read in small pieces', (context) => {
  const stream = new QuietWire();
  const transport = new WebSocketTransport(stream, {
    pingIntervalMs: 30_000,
    deferredWork: new ReadScheduler(0),
  });
  context.after(() => transport.onClose());
  let payload = 0;
  transport.start({
    onData: (bytes) => {
      payload += bytes.length;
    },
    onText: () => undefined,
    onWritable: () => undefined,
    onEnd: () => undefined,
    onClose: () => undefined,
  });
  transport.onBytes(tinyFrames(200));
  assert.equal(stream.askedForLess, 0);
  transport.onBytes(tinyFrames(1000));
  assert.equal(stream.askedForLess, 1);
  assert.ok(payload > 0);
});

interface PeerPlace {
  readonly wire: QuietWire;
  readonly pool: ReadScheduler;
  readonly peer: WebSocketTransport;
  /** Payload that came, as text. */
  readonly received: () => string;
}

function peerOf(context: TestContext): PeerPlace {
  const stream = new QuietWire();
  const pool = new ReadScheduler(0);
  const transport = new WebSocketTransport(stream, { pingIntervalMs: 30_000, deferredWork: pool });
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
  return { wire: stream, pool, peer: transport, received: () => received };
}

const LINE = handshake(newToken(), SIDE_A);

/** The line, and each character of `text` in a frame of its own. */
function framesOf(text: string): Buffer {
  return Buffer.concat([LINE, ...text.split('')].map((payload) => encodeFrame({ opcode: 2, payload })));
}

test('very many frames are read a few at a time, in their order, and nothing else is read meanwhile', async (context) => {
  const { wire: stream, pool, peer: transport, received } = peerOf(context);
  const text = '0123456789'.repeat(200);
  transport.onBytes(framesOf(text));
  assert.ok(received().length < LINE.length + 500, `${received().length} at once`);
  assert.ok(stream.isPaused && pool.bufferedBytes > 0);
  // The receiver does not keep up for a moment.
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
  assert.deepEqual([stream.isPaused, pool.bufferedBytes], [false, 0]);
});

test('ordinary messages get through at once while frames of others are queued', (context) => {
  const { pool, peer: transport, received } = peerOf(context);
  pool.defer(() => undefined);
  transport.onBytes(framesOf('abc'));
  assert.equal(received(), `${LINE}abc`);
});

test('a connection that ends gives back the memory of frames that were not read', (context) => {
  const { pool, peer: transport } = peerOf(context);
  transport.onBytes(framesOf('x'.repeat(1000)));
  assert.ok(pool.bufferedBytes > 0);
  transport.onClose();
  assert.equal(pool.bufferedBytes, 0);
});

test('a client that goes on sending small frames after the relay has closed is ignored', async (context) => {
  const { wire: stream, pool, peer: transport } = peerOf(context);
  transport.closeGracefully(1000, false);
  transport.onBytes(framesOf('x'.repeat(1000)));
  assert.deepEqual([stream.isPaused, pool.bufferedBytes, pool.isBusy], [false, 0, false]);
  await nextTurn();
});

test('of many pings that come at once the last one is answered', (context) => {
  const { wire: stream, peer: transport } = peerOf(context);
  const pings = Array.from({ length: 100 }, (_, index) => encodeFrame({ opcode: 9, payload: `${index}` }));
  transport.onBytes(Buffer.concat(pings));
  assert.deepEqual(
    stream.written.map((bytes) => readServerFrames(Buffer.from(bytes))),
    [[{ opcode: 10, payload: Buffer.from('99') }]],
  );
});

/** A client with pings each second of a mocked clock, and with what it was sent. */
function pingedPeerOf(context: TestContext): { readonly wire: QuietWire; readonly peer: WebSocketTransport } {
  context.mock.timers.enable({ apis: ['setInterval', 'setTimeout'] });
  const stream = new QuietWire();
  const transport = new WebSocketTransport(stream, {
    pingIntervalMs: 1000,
    deferredWork: new ReadScheduler(0),
  });
  context.after(() => transport.onClose());
  return { wire: stream, peer: transport };
}

const PONG = encodeFrame({ opcode: 10, payload: '' });

test('a client that has answered pings is closed in the eleventh interval of its silence', (context) => {
  const { wire: stream, peer: transport } = pingedPeerOf(context);
  transport.onBytes(PONG);
  context.mock.timers.tick(10_000);
  assert.equal(stream.isDestroyed, false);
  context.mock.timers.tick(1000);
  assert.equal(stream.isDestroyed, true);
});

test('any byte of a client starts the count of its unanswered pings again', (context) => {
  const { wire: stream, peer: transport } = pingedPeerOf(context);
  transport.onBytes(PONG);
  for (const byte of encodeFrame({ opcode: 2, payload: 'please relay' })) {
    context.mock.timers.tick(9000);
    transport.onBytes(Uint8Array.of(byte));
  }
  assert.equal(stream.isDestroyed, false);
});

for (const { state, held, sent, isClosed } of [
  { state: 'while something is held for it', held: 1, sent: 0, isClosed: false },
  { state: 'while pings may wait behind payload', held: 0, sent: 65_537, isClosed: false },
  { state: 'otherwise', held: 0, sent: 65_536, isClosed: true },
]) {
  test(`a silent client is ${isClosed ? 'closed' : 'left to TCP'} ${state}`, (context) => {
    const { wire: stream, peer: transport } = pingedPeerOf(context);
    stream.deliveredBytes = 1_000_000;
    transport.onBytes(PONG);
    stream.bufferedBytes = held;
    stream.deliveredBytes += sent;
    context.mock.timers.tick(3_600_000);
    assert.equal(stream.isDestroyed, isClosed);
  });
}

test('a client that has never answered a ping is not closed for its silence', (context) => {
  const { wire: stream } = pingedPeerOf(context);
  context.mock.timers.tick(3_600_000);
  assert.equal(stream.isDestroyed, false);
});

test('a client that the relay does not read from is not silent', (context) => {
  const { wire: stream, peer: transport } = pingedPeerOf(context);
  transport.onBytes(PONG);
  transport.pause();
  context.mock.timers.tick(3_600_000);
  assert.equal(stream.isDestroyed, false);
});
