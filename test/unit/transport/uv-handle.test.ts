import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { test } from 'node:test';
import { READ_EOF, UvHandles, detachHandle, tryRead } from '../../../src/transport/uv-handle.ts';
import { listening } from '../../support/listening.ts';
import { until } from '../../support/scratch.ts';

/** The result of a read that is neither bytes nor the end. */
const READ_ERROR = -2;

/** libuv's error numbers. */
const [UV_EOF, UV_ECONNRESET] = [-4095, -104];

test('the result of a read of libuv is its byte count, the end or an error', () => {
  const results = [65_536, 1, 0, UV_EOF, UV_ECONNRESET].map((result) => {
    const indexes = { kReadBytesOrError: 0, kLastWriteWasAsync: 1 };
    const streamBaseState = Int32Array.of(result, 0);
    return new UvHandles({
      WriteWrap: Object,
      ShutdownWrap: Object,
      streamBaseState,
      ...indexes,
    }).readResult();
  });
  assert.deepEqual(results, [65_536, 1, 0, READ_EOF, READ_ERROR]);
});

test('a read that does not wait returns the byte count, none, the end or an error', async (context) => {
  const server = createServer();
  const port = await listening(context, server);
  const accepted = once(server, 'connection');
  const socket = connect(port, '127.0.0.1');
  await once(socket, 'connect');
  const [peer]: Socket[] = await accepted;
  const handle = detachHandle(socket);
  assert.ok(handle !== null && peer !== undefined);
  const memory = Buffer.alloc(4);
  const read = async (): Promise<number> => {
    let result = 0;
    await until(() => (result = tryRead(handle, memory)) !== 0);
    return result;
  };
  assert.equal(tryRead(handle, memory), 0);
  peer.write('abcde');
  assert.equal(await read(), 4);
  assert.equal(await read(), 1);
  assert.equal(memory.toString(), 'ebcd');
  assert.equal(tryRead(handle, memory), 0);
  peer.end();
  assert.equal(await read(), READ_EOF);
  handle.close(() => undefined);
  assert.equal(tryRead(handle, memory), READ_ERROR);
});
