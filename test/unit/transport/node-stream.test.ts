import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import type { Socket } from 'node:net';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { NodeStream } from '../../../src/transport/node-stream.ts';
import { randomBytesOf } from '../../support/bytes.ts';

/** More than the kernel buffers. */
const PAYLOAD = randomBytesOf(1, 16_000_000);

interface Connection {
  readonly stream: NodeStream;
  /** The other end, which does not read until it is resumed. */
  readonly peer: Socket;
  readonly events: string[];
  /** Resolves at `onClose`. */
  readonly closed: Promise<void>;
  readonly writable: Promise<void>;
}

async function open(context: TestContext): Promise<Connection> {
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }).listen(0, '127.0.0.1');
  context.after(() => server.close());
  await once(server, 'listening');
  const address = server.address();
  assert.ok(address !== null && typeof address === 'object');
  const socket = connect({ port: address.port, host: '127.0.0.1', allowHalfOpen: true });
  const [[peer]] = await Promise.all([once(server, 'connection'), once(socket, 'connect')]);
  context.after(() => {
    socket.destroy();
    peer.destroy();
  });
  const stream = new NodeStream(socket, 'tcp');
  const events: string[] = [];
  const closed = Promise.withResolvers<void>();
  const writable = Promise.withResolvers<void>();
  stream.start({
    onBytes: (bytes) => events.push(Buffer.from(bytes).toString()),
    onWritable: () => writable.resolve(),
    onEnd: () => events.push('end'),
    onClose: () => {
      events.push('close');
      closed.resolve();
    },
  });
  return { stream, peer, events, closed: closed.promise, writable: writable.promise };
}

/** Reads until the other end has sent its FIN. */
async function readAll(peer: Socket): Promise<Buffer> {
  const parts: Buffer[] = [];
  peer.on('data', (bytes: Buffer) => parts.push(bytes));
  peer.resume();
  await once(peer, 'end');
  return Buffer.concat(parts);
}

describe('a connection over standard streams', () => {
  test('counts what it buffers and what the kernel has accepted', async (context) => {
    const { stream, peer, writable } = await open(context);
    assert.deepEqual([stream.bufferedBytes, stream.deliveredBytes], [0, 0]);
    const bytes = Uint8Array.from(PAYLOAD);
    assert.equal(stream.write(bytes), false);
    // The caller may reuse its memory.
    bytes.fill(0);
    assert.ok(stream.bufferedBytes > 0);
    assert.equal(stream.deliveredBytes, PAYLOAD.length - stream.bufferedBytes);
    const received = readAll(peer);
    await writable;
    assert.deepEqual([stream.bufferedBytes, stream.deliveredBytes], [0, PAYLOAD.length]);
    assert.equal(stream.writeParts([Buffer.from('la'), Buffer.from('st')]), true);
    stream.end();
    assert.ok((await received).equals(Buffer.concat([PAYLOAD, Buffer.from('last')])));
  });

  test('delivers what is buffered before its FIN, and goes on reading', async (context) => {
    const { stream, peer, events, closed } = await open(context);
    stream.write(PAYLOAD);
    stream.pause();
    stream.end();
    peer.write('reply');
    assert.equal((await readAll(peer)).length, PAYLOAD.length);
    peer.end();
    await closed;
    assert.deepEqual(events, ['reply', 'end', 'close']);
    assert.equal(stream.remoteAddress, null);
  });

  test('is reset by an abort if bytes are buffered, which are dropped', async (context) => {
    const { stream, peer, closed } = await open(context);
    stream.write(PAYLOAD);
    const failed = once(peer, 'error');
    peer.resume();
    stream.abort();
    assert.equal(stream.bufferedBytes, 0);
    await closed;
    const [error] = await failed;
    assert.equal(error.code, 'ECONNRESET');
  });

  test('is not reset by an abort if everything is in the kernel, so the other end still gets it', async (context) => {
    const { stream, peer, closed } = await open(context);
    assert.equal(stream.write(Buffer.from('all of it')), true);
    stream.abort();
    await closed;
    assert.equal((await readAll(peer)).toString(), 'all of it');
  });

  test('calls the last handler only, and none once it is detached', async (context) => {
    const { stream, peer, events } = await open(context);
    const received = Promise.withResolvers<string>();
    const ignore = (): undefined => undefined;
    stream.start({
      onBytes: (bytes) => received.resolve(Buffer.from(bytes).toString()),
      onWritable: ignore,
      onEnd: ignore,
      onClose: ignore,
    });
    peer.write('first');
    assert.equal(await received.promise, 'first');
    assert.deepEqual(events, []);
    const socket = stream.detach();
    assert.equal(socket.isPaused(), true);
    peer.end('rest');
    assert.equal((await readAll(socket)).toString(), 'rest');
    assert.deepEqual(events, []);
  });
});
