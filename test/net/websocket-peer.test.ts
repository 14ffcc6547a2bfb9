import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { TestContext } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { ReadPool } from '../../src/net/read-pool.ts';
import { WebSocketPeer } from '../../src/net/websocket-peer.ts';
import type { Wire } from '../../src/net/wire.ts';
import { SIDE_A, handshake, newToken } from '../support/bytes.ts';
import { encodeFrame, readServerFrames } from '../support/frames.ts';

/** A wire that nothing comes from by itself. */
class QuietWire implements Wire {
  readonly kind = 'tcp';
  readonly ends = null;
  heldBytes = 0;
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
  readLess(): void {
    this.askedForLess += 1;
  }
  probe(): void {
    // Never reset.
  }
  keepAlive(): void {
    // There is no network.
  }
  end(): void {
    // Never closed.
  }
  destroy(): void {
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
  const wire = new QuietWire();
  const peer = new WebSocketPeer(wire, { pingIntervalMs: 30_000, backlog: new ReadPool(0) });
  context.after(() => peer.onLost());
  let payload = 0;
  peer.start({
    onData: (bytes) => {
      payload += bytes.length;
    },
    onText: () => undefined,
    onDrain: () => undefined,
    onLeft: () => undefined,
    onLost: () => undefined,
  });
  peer.onBytes(tinyFrames(200));
  assert.equal(wire.askedForLess, 0);
  peer.onBytes(tinyFrames(1000));
  assert.equal(wire.askedForLess, 1);
  assert.ok(payload > 0);
});

interface PeerPlace {
  readonly wire: QuietWire;
  readonly pool: ReadPool;
  readonly peer: WebSocketPeer;
  /** Payload that came, as text. */
  readonly received: () => string;
}

function peerOf(context: TestContext): PeerPlace {
  const wire = new QuietWire();
  const pool = new ReadPool(0);
  const peer = new WebSocketPeer(wire, { pingIntervalMs: 30_000, backlog: pool });
  context.after(() => peer.onLost());
  let received = '';
  peer.start({
    onData: (bytes) => {
      received += Buffer.from(bytes).toString('latin1');
    },
    onText: () => undefined,
    onDrain: () => undefined,
    onLeft: () => undefined,
    onLost: () => undefined,
  });
  return { wire, pool, peer, received: () => received };
}

const LINE = handshake(newToken(), SIDE_A);

/** The line, and each character of `text` in a frame of its own. */
function framesOf(text: string): Buffer {
  return Buffer.concat([LINE, ...text.split('')].map((payload) => encodeFrame({ opcode: 2, payload })));
}

test('very many frames are read a few at a time, in their order, and nothing else is read meanwhile', async (context) => {
  const { wire, pool, peer, received } = peerOf(context);
  const text = '0123456789'.repeat(200);
  peer.onBytes(framesOf(text));
  assert.ok(received().length < LINE.length + 500, `${received().length} at once`);
  assert.ok(wire.isPaused && pool.heldBytes > 0);
  // The receiver does not keep up for a moment.
  peer.pause();
  await nextTurn();
  const before = received();
  await nextTurn();
  assert.equal(received(), before);
  peer.resume();
  assert.ok(wire.isPaused, 'frames are left');
  while (received().length < LINE.length + text.length) await nextTurn();
  await nextTurn();
  assert.equal(received(), LINE + text);
  assert.deepEqual([wire.isPaused, pool.heldBytes], [false, 0]);
});

test('ordinary messages get through at once while frames of others are queued', (context) => {
  const { pool, peer, received } = peerOf(context);
  pool.defer(() => undefined);
  peer.onBytes(framesOf('abc'));
  assert.equal(received(), `${LINE}abc`);
});

test('a connection that ends gives back the memory of frames that were not read', (context) => {
  const { pool, peer } = peerOf(context);
  peer.onBytes(framesOf('x'.repeat(1000)));
  assert.ok(pool.heldBytes > 0);
  peer.onLost();
  assert.equal(pool.heldBytes, 0);
});

test('a client that goes on sending small frames after the relay has closed is ignored', async (context) => {
  const { wire, pool, peer } = peerOf(context);
  peer.finish(1000, false);
  peer.onBytes(framesOf('x'.repeat(1000)));
  assert.deepEqual([wire.isPaused, pool.heldBytes, pool.isBusy], [false, 0, false]);
  await nextTurn();
});

test('of many pings that come at once the last one is answered', (context) => {
  const { wire, peer } = peerOf(context);
  const pings = Array.from({ length: 100 }, (_, index) => encodeFrame({ opcode: 9, payload: `${index}` }));
  peer.onBytes(Buffer.concat(pings));
  assert.deepEqual(
    wire.written.map((bytes) => readServerFrames(Buffer.from(bytes))),
    [[{ opcode: 10, payload: Buffer.from('99') }]],
  );
});

/** A client with pings each second of a mocked clock, and with what it was sent. */
function pingedPeerOf(context: TestContext): { readonly wire: QuietWire; readonly peer: WebSocketPeer } {
  context.mock.timers.enable({ apis: ['setInterval', 'setTimeout'] });
  const wire = new QuietWire();
  const peer = new WebSocketPeer(wire, { pingIntervalMs: 1000, backlog: new ReadPool(0) });
  context.after(() => peer.onLost());
  return { wire, peer };
}

const PONG = encodeFrame({ opcode: 10, payload: '' });

test('a client that has answered pings is closed in the eleventh interval of its silence', (context) => {
  const { wire, peer } = pingedPeerOf(context);
  peer.onBytes(PONG);
  context.mock.timers.tick(10_000);
  assert.equal(wire.isDestroyed, false);
  context.mock.timers.tick(1000);
  assert.equal(wire.isDestroyed, true);
});

test('any byte of a client starts the count of its unanswered pings again', (context) => {
  const { wire, peer } = pingedPeerOf(context);
  peer.onBytes(PONG);
  for (const byte of encodeFrame({ opcode: 2, payload: 'please relay' })) {
    context.mock.timers.tick(9000);
    peer.onBytes(Uint8Array.of(byte));
  }
  assert.equal(wire.isDestroyed, false);
});

for (const { state, held, sent, isClosed } of [
  { state: 'while something is held for it', held: 1, sent: 0, isClosed: false },
  { state: 'while pings may wait behind payload', held: 0, sent: 65_537, isClosed: false },
  { state: 'otherwise', held: 0, sent: 65_536, isClosed: true },
]) {
  test(`a silent client is ${isClosed ? 'closed' : 'left to TCP'} ${state}`, (context) => {
    const { wire, peer } = pingedPeerOf(context);
    wire.deliveredBytes = 1_000_000;
    peer.onBytes(PONG);
    wire.heldBytes = held;
    wire.deliveredBytes += sent;
    context.mock.timers.tick(3_600_000);
    assert.equal(wire.isDestroyed, isClosed);
  });
}

test('a client that has never answered a ping is not closed for its silence', (context) => {
  const { wire } = pingedPeerOf(context);
  context.mock.timers.tick(3_600_000);
  assert.equal(wire.isDestroyed, false);
});

test('a client that the relay does not read from is not silent', (context) => {
  const { wire, peer } = pingedPeerOf(context);
  peer.onBytes(PONG);
  peer.pause();
  context.mock.timers.tick(3_600_000);
  assert.equal(wire.isDestroyed, false);
});
