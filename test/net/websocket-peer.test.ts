import assert from 'node:assert/strict';
import { test } from 'node:test';
import { WebSocketPeer } from '../../src/net/websocket-peer.ts';
import type { Wire } from '../../src/net/wire.ts';

/** A wire that nothing comes from by itself. */
class QuietWire implements Wire {
  readonly kind = 'tcp';
  readonly ends = null;
  heldBytes = 0;
  deliveredBytes = 0;
  askedForLess = 0;
  start(): void {
    // Bytes come from the test.
  }
  detach(): never {
    throw new Error('there is no socket');
  }
  write(): boolean {
    return true;
  }
  writeParts(): boolean {
    return true;
  }
  pause(): void {
    // Nothing to stop.
  }
  resume(): void {
    // Nothing to go on with.
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
    // Never closed.
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
  const peer = new WebSocketPeer(wire, { pingIntervalMs: 30_000 });
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
  peer.onBytes(tinyFrames(1000));
  assert.equal(wire.askedForLess, 0);
  peer.onBytes(tinyFrames(1001));
  assert.equal(wire.askedForLess, 1);
  assert.ok(payload > 0);
});
