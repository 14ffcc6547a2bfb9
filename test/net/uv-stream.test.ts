import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { closeSync, constants, openSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { ReadScheduler } from '../../src/transport/read-scheduler.ts';
import { UvHandles } from '../../src/transport/uv-handle.ts';
import type { UvHandle } from '../../src/transport/uv-handle.ts';
import { UvStream } from '../../src/transport/uv-stream.ts';
import { randomBytesOf } from '../support/bytes.ts';
import { scratch } from '../support/scratch.ts';

/** What a pipe takes before it is full. */
const PIPE_BYTES = 65_536;

/** How the handle takes what did not fit into the pipe: before `writeBuffer` returns, or some time later. */
type Rest = 'at once' | 'later';

interface Request {
  readonly oncomplete: (status: number) => void;
}

function isRequest(value: object): value is Request {
  return 'oncomplete' in value && typeof value.oncomplete === 'function';
}

interface PipeWire {
  readonly wire: UvStream;
  readonly pool: ReadScheduler;
  /** What the wire has told its owner. */
  readonly told: readonly string[];
  readonly fd: number;
  /** Completes the writes that are under way. */
  readonly finish: () => void;
}

async function openWire(context: TestContext, rest: Rest): Promise<PipeWire> {
  const path = join(await scratch(context), 'pipe');
  execFileSync('mkfifo', [path]);
  const fd = openSync(path, constants.O_RDWR | constants.O_NONBLOCK);
  context.after(() => closeSync(fd));
  const kLastWriteWasAsync = 1;
  const streamBaseState = new Int32Array(2);
  const handles = new UvHandles({
    WriteWrap: Object,
    ShutdownWrap: Object,
    streamBaseState,
    kReadBytesOrError: 0,
    kLastWriteWasAsync,
  });
  const later: (() => void)[] = [];
  const handle: UvHandle = {
    fd,
    onread: () => undefined,
    readStart: () => 0,
    readStop: () => 0,
    useUserBuffer: () => undefined,
    writeBuffer(request) {
      assert.ok(isRequest(request));
      streamBaseState[kLastWriteWasAsync] = rest === 'at once' ? 0 : 1;
      if (rest === 'later') later.push(() => request.oncomplete(0));
      return 0;
    },
    shutdown: () => 0,
    close: (done) => done(),
  };
  const pool = new ReadScheduler(0);
  const stream = new UvStream(handle, 'tcp', handles, pool);
  const notifications: string[] = [];
  stream.start({
    onBytes: () => notifications.push('bytes'),
    onWritable: () => notifications.push('drain'),
    onEnd: () => notifications.push('end'),
    onClose: () => notifications.push('lost'),
  });
  const finish = (): void => {
    for (const complete of later.splice(0)) complete();
  };
  return { wire: stream, told: notifications, pool, fd, finish };
}

const BYTES = randomBytesOf(60, PIPE_BYTES + 1000);

const WRITES: Readonly<Record<string, (stream: UvStream) => boolean>> = {
  'one piece': (stream) => stream.write(BYTES),
  parts: (stream) =>
    stream.writeParts([BYTES.subarray(0, 10), BYTES.subarray(10, 70_000), BYTES.subarray(70_000)]),
};

for (const [form, write] of Object.entries(WRITES)) {
  describe(`a wire that is given more than the kernel takes, in ${form}`, () => {
    test('holds the rest until it is taken, and says then that it has drained', async (context) => {
      const { wire: stream, told: notifications, pool, finish } = await openWire(context, 'later');
      assert.equal(write(stream), false);
      assert.equal(stream.bufferedBytes, 1000);
      assert.equal(pool.bufferedBytes, 1000);
      assert.equal(stream.deliveredBytes, PIPE_BYTES);
      assert.deepEqual(notifications, []);
      finish();
      assert.deepEqual(notifications, ['drain']);
      assert.equal(stream.bufferedBytes, 0);
      assert.equal(pool.bufferedBytes, 0);
      assert.equal(stream.deliveredBytes, BYTES.length);
    });

    test('never says that it holds something which was taken after all: no drain would follow', async (context) => {
      const { wire: stream, pool, fd } = await openWire(context, 'at once');
      assert.equal(write(stream), true);
      assert.equal(stream.bufferedBytes, 0);
      assert.equal(pool.bufferedBytes, 0);
      assert.equal(stream.deliveredBytes, BYTES.length);
      const got = Buffer.alloc(PIPE_BYTES);
      assert.equal(readSync(fd, got), PIPE_BYTES);
      assert.ok(got.equals(BYTES.subarray(0, PIPE_BYTES)));
    });
  });
}
