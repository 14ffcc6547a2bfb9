import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { closeSync, constants, openSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { ReadScheduler } from '../../../src/transport/read-scheduler.ts';
import { UvHandles } from '../../../src/transport/uv-handle.ts';
import type { UvHandle } from '../../../src/transport/uv-handle.ts';
import { UvStream } from '../../../src/transport/uv-stream.ts';
import { randomBytesOf } from '../../support/bytes.ts';
import { scratch } from '../../support/scratch.ts';

/** Capacity of a pipe. */
const PIPE_BYTES = 65_536;

/**
 * When the handle accepts the bytes that do not fit into the pipe: before `writeBuffer` returns, or later.
 */
type Completion = 'immediate' | 'later';

interface Request {
  readonly oncomplete: (status: number) => void;
}

function isRequest(value: object): value is Request {
  return 'oncomplete' in value && typeof value.oncomplete === 'function';
}

interface PipeStream {
  readonly stream: UvStream;
  readonly scheduler: ReadScheduler;
  /** Events that the stream has reported to its handler. */
  readonly events: readonly string[];
  readonly fd: number;
  /** Completes the pending writes. */
  readonly finish: () => void;
}

async function openStream(context: TestContext, completion: Completion): Promise<PipeStream> {
  const path = join(await scratch(context), 'pipe');
  execFileSync('mkfifo', [path]);
  const fd = openSync(path, constants.O_RDWR | constants.O_NONBLOCK);
  context.after(() => closeSync(fd));
  const kLastWriteWasAsync = 1;
  const streamBaseState = new Int32Array(2);
  const uv = new UvHandles({
    WriteWrap: Object,
    ShutdownWrap: Object,
    streamBaseState,
    kReadBytesOrError: 0,
    kLastWriteWasAsync,
  });
  const pending: (() => void)[] = [];
  const handle: UvHandle = {
    fd,
    onread: () => undefined,
    readStart: () => 0,
    readStop: () => 0,
    useUserBuffer: () => undefined,
    writeBuffer(request) {
      assert.ok(isRequest(request));
      streamBaseState[kLastWriteWasAsync] = completion === 'immediate' ? 0 : 1;
      if (completion === 'later') pending.push(() => request.oncomplete(0));
      return 0;
    },
    shutdown: () => 0,
    close: (done) => done(),
  };
  const scheduler = new ReadScheduler(0);
  const stream = new UvStream(handle, 'tcp', uv, scheduler);
  const events: string[] = [];
  stream.start({
    onBytes: () => events.push('bytes'),
    onWritable: () => events.push('writable'),
    onEnd: () => events.push('end'),
    onClose: () => events.push('close'),
  });
  const finish = (): void => {
    for (const complete of pending.splice(0)) complete();
  };
  return { stream, events, scheduler, fd, finish };
}

const BYTES = randomBytesOf(60, PIPE_BYTES + 1000);

const WRITES: Readonly<Record<string, (stream: UvStream) => boolean>> = {
  'one buffer': (stream) => stream.write(BYTES),
  'several parts': (stream) =>
    stream.writeParts([BYTES.subarray(0, 10), BYTES.subarray(10, 70_000), BYTES.subarray(70_000)]),
};

for (const [form, write] of Object.entries(WRITES)) {
  describe(`a write of more bytes than the kernel accepts, in ${form}`, () => {
    test('buffers the rest until it is written, and then reports that the stream is writable', async (context) => {
      const { stream, events, scheduler, finish } = await openStream(context, 'later');
      assert.equal(write(stream), false);
      assert.equal(stream.bufferedBytes, 1000);
      assert.equal(scheduler.bufferedBytes, 1000);
      assert.equal(stream.deliveredBytes, PIPE_BYTES);
      assert.deepEqual(events, []);
      finish();
      assert.deepEqual(events, ['writable']);
      assert.equal(stream.bufferedBytes, 0);
      assert.equal(scheduler.bufferedBytes, 0);
      assert.equal(stream.deliveredBytes, BYTES.length);
    });

    test('does not report buffered bytes if the rest was written immediately, because no event would follow', async (context) => {
      const { stream, scheduler, fd } = await openStream(context, 'immediate');
      assert.equal(write(stream), true);
      assert.equal(stream.bufferedBytes, 0);
      assert.equal(scheduler.bufferedBytes, 0);
      assert.equal(stream.deliveredBytes, BYTES.length);
      const received = Buffer.alloc(PIPE_BYTES);
      assert.equal(readSync(fd, received), PIPE_BYTES);
      assert.ok(received.equals(BYTES.subarray(0, PIPE_BYTES)));
    });
  });
}
