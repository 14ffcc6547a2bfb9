import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { encodeClose } from '../../../src/protocol/websocket-frames.ts';
import { readServerFrames } from '../../support/frames.ts';
import type { NetTransport } from './pair-client.ts';

const BINARY = 2;

const CLOSE_FRAME = Buffer.from(encodeClose(1000));

/**
 * Expects a clean close of a client whose partner has disconnected: it receives a prefix of `sent`, then a FIN.
 * A WebSocket client receives a close frame with code 1000, answers it, and receives a FIN. Rejects on anything
 * else.
 */
export async function expectCleanClose(socket: Socket, transport: NetTransport, sent: Buffer): Promise<void> {
  const ended = Promise.withResolvers<void>();
  const buffers: Buffer[] = [];
  let tail = Buffer.alloc(0);
  socket.on('data', (piece: Buffer) => {
    buffers.push(piece);
    tail = Buffer.concat([tail, piece]).subarray(-CLOSE_FRAME.length);
    if (transport === 'websocket' && tail.equals(CLOSE_FRAME)) socket.end();
  });
  socket.once('end', () => ended.resolve());
  socket.once('close', () => ended.reject(new Error(`the remaining client was reset, by ${transport}`)));
  socket.resume();
  await ended.promise;
  socket.destroy();
  const received = Buffer.concat(buffers);
  const payload = transport === 'tcp' ? received : payloadOf(received);
  assert.ok(
    payload.equals(sent.subarray(0, payload.length)),
    `wrong bytes for the remaining client, by ${transport}`,
  );
}

function payloadOf(received: Buffer): Buffer {
  const closeAt = received.length - CLOSE_FRAME.length;
  assert.ok(received.subarray(closeAt).equals(CLOSE_FRAME), 'the remaining client got no close frame');
  const frames = readServerFrames(received.subarray(0, closeAt));
  assert.ok(frames.every(({ opcode }) => opcode === BINARY));
  return Buffer.concat(frames.map(({ payload }) => payload));
}
