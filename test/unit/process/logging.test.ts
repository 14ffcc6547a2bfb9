import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { closeSync, constants, openSync, readFileSync, rmSync, truncateSync } from 'node:fs';
import { Socket } from 'node:net';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { StartupError } from '../../../src/process/errors.ts';
import { LineWriter, LogThrottle, errorDetails } from '../../../src/process/logging.ts';
import { fill } from '../../faults/disks.ts';
import { Program, eventually } from '../../support/programs.ts';
import { scratch } from '../../support/scratch.ts';
import { requireMount, mountTmpfs } from '../../support/usage-files.ts';

/** Neither opening nor reading waits for the other end. */
const OPEN_FOR_BOTH = constants.O_RDWR | constants.O_NONBLOCK;

/** Lines of much more than the 4 MiB that a writer buffers. */
const LINES = 6000;
const LINE_BYTES = 1000;

const PROGRAM = new URL('../../../src/process/program.ts', import.meta.url).href;

/** The line with this number, and its newline. */
function line(number: number): string {
  return `${String(number).padEnd(LINE_BYTES - 1, '.')}\n`;
}

/** A pipe with a reader that reads on request. */
class Pipe {
  readonly path: string;
  readonly #fd: number;
  #reader: Socket | null = null;
  text = '';

  constructor(context: TestContext, directory: string) {
    this.path = join(directory, 'pipe');
    execFileSync('mkfifo', [this.path]);
    this.#fd = openSync(this.path, OPEN_FOR_BOTH);
    context.after(() => {
      if (this.#reader === null) closeSync(this.#fd);
      else this.#reader.destroy();
    });
  }

  /**
   * Reads until the text matches. It reads whenever there are bytes, because a writer pauses for 100 ms
   * whenever the pipe is full.
   */
  async read(pattern: RegExp): Promise<void> {
    // A socket begins to read when it is created.
    this.#reader ??= new Socket({ fd: this.#fd, readable: true, writable: false }).setEncoding('latin1');
    const { promise, resolve } = Promise.withResolvers<void>();
    const onData = (text: string): void => {
      this.text += text;
      if (pattern.test(this.text.slice(-2 * LINE_BYTES))) resolve();
    };
    this.#reader.on('data', onData).resume();
    await promise;
    this.#reader.off('data', onData).pause();
  }
}

/** A line writer and its reports. It writes the line "lost" with each report of dropped lines. */
class ReportedWriter {
  readonly output: LineWriter;
  readonly lost: number[] = [];
  readonly broken: string[] = [];
  #closed: Promise<void> | null = null;

  constructor(context: TestContext, fd: number) {
    this.output = new LineWriter(fd, {
      onDropped: (count) => {
        this.lost.push(count);
        this.output.write('lost\n');
      },
      onBroken: (code) => this.broken.push(code),
    });
    context.after(() => this.close());
  }

  close(): Promise<void> {
    this.#closed ??= this.output.close();
    return this.#closed;
  }

  writeLines(): void {
    for (let number = 0; number < LINES; number += 1) this.output.write(line(number));
  }
}

/** Asserts that these are the first of the written lines, and then the number of dropped ones. */
function assertKept(text: string, lost: number): void {
  const expected = Array.from({ length: LINES - lost }, (_, number) => line(number)).join('');
  assert.ok(text.startsWith(expected), 'a buffered line is missing or changed');
  assert.equal(text.slice(expected.length).replaceAll(/^(?:\d+\.+\n)*/gu, ''), 'lost\n');
}

describe('dropped lines', () => {
  test('are counted and reported once when a stuck reader continues', async (context) => {
    const pipe = new Pipe(context, await scratch(context));
    const writer = new ReportedWriter(context, openSync(pipe.path, 'w'));
    writer.writeLines();
    const lost = writer.output.dropped;
    assert.ok(lost > 0);
    assert.deepEqual(writer.lost, []);
    await pipe.read(/lost\n$/u);
    assert.deepEqual(writer.lost, [lost]);
    assertKept(pipe.text, lost);
    // New lines arrive, and nothing more is reported.
    writer.output.write('more\n');
    await pipe.read(/more\n$/u);
    assert.deepEqual([writer.lost, writer.broken], [[lost], []]);
  });

  test('are reported when a full disk has space again, and new lines are written', async (context) => {
    if (!requireMount(context)) return;
    const disk = mountTmpfs(context, 'size=16m');
    const [file, filler] = [join(disk, 'log'), join(disk, 'filler')];
    const writer = new ReportedWriter(context, openSync(file, 'a'));
    let before = 0;
    for (let round = 1; round <= 2; round += 1) {
      fill(filler);
      writer.writeLines();
      const lost = writer.output.dropped - before;
      assert.ok(lost > 0);
      // Time for the failing write.
      await sleep(100);
      rmSync(filler);
      await eventually(
        () => `${round} reports: ${writer.lost.join(', ')}`,
        10_000,
        () => {
          // It retries with each written line.
          if (writer.lost.length < round) writer.output.write(line(LINES));
          return readFileSync(file, 'latin1').endsWith('lost\n') ? true : null;
        },
      );
      assert.deepEqual(writer.lost.slice(round - 1), [writer.output.dropped - before]);
      assertKept(readFileSync(file, 'latin1'), lost);
      truncateSync(file);
      before = writer.output.dropped;
    }
  });

  test('are reported at the end if that was not possible before', async (context) => {
    const pipe = new Pipe(context, await scratch(context));
    const writer = new ReportedWriter(context, openSync(pipe.path, 'w'));
    writer.writeLines();
    const lost = writer.output.dropped;
    await writer.close();
    assert.deepEqual(writer.lost, [lost]);
  });

  test('include all lines after the reader has closed, which is reported at once', async (context) => {
    const directory = await scratch(context);
    const pipe = join(directory, 'pipe');
    execFileSync('mkfifo', [pipe]);
    const reader = openSync(pipe, OPEN_FOR_BOTH);
    const writer = new ReportedWriter(context, openSync(pipe, 'w'));
    closeSync(reader);
    writer.output.write('unread\n');
    await eventually(
      () => 'the broken pipe is reported',
      10_000,
      () => (writer.broken.length > 0 ? true : null),
    );
    writer.output.write('nor this\n');
    assert.deepEqual([writer.broken, writer.lost, writer.output.dropped], [['EPIPE'], [], 1]);
  });
});

test('a file descriptor that cannot be written is rejected with its number', async (context) => {
  const pipe = join(await scratch(context), 'pipe');
  execFileSync('mkfifo', [pipe]);
  // Its reader is this process, as with the pipes that Node.js itself uses.
  const [readOnly, ownPipe] = [openSync(import.meta.filename, 'r'), openSync(pipe, OPEN_FOR_BOTH)];
  const ownReader = openSync(pipe, constants.O_RDONLY | constants.O_NONBLOCK);
  context.after(() => [readOnly, ownPipe, ownReader].forEach((fd) => closeSync(fd)));
  const events = { onDropped: () => undefined, onBroken: () => undefined };
  for (const fd of [readOnly, ownPipe, 9999]) {
    const message = `file descriptor ${fd} is not open for writing`;
    assert.throws(() => new LineWriter(fd, events), new StartupError(message));
  }
});

test('a log reports the number of lines lost to a stuck reader', async (context) => {
  const pipe = new Pipe(context, await scratch(context));
  const script = `
    import { runProgram } from ${JSON.stringify(PROGRAM)};
    await runProgram({
      read: () => ({ kind: 'ok', config: { logLevel: 'info' }, warnings: [], settings: [] }),
      create: (config, log) => ({
        start: async () => {
          for (let number = 0; number < ${LINES}; number += 1) log.info({ number, text: '.'.repeat(1000) }, 'a line');
          process.stderr.write('written');
          setInterval(() => {}, 1000);
        },
        close: async () => {},
      }),
    });`;
  const node = [process.execPath, '--input-type=module', '-e', script];
  await using program = new Program(['sh', '-c', `exec "$@" >${pipe.path}`, 'sh', ...node], {
    env: { PATH: process.env['PATH'] },
  });
  await program.waitForOutput(/written/u);
  await pipe.read(/log lines dropped"\}\n$/u);
  const lines = pipe.text.trimEnd().split('\n');
  const [last = ''] = lines.slice(-1);
  const lost =
    /^\{"level":"error","time":"[^"]*","event":"log_lines_dropped","count":(\d+),"msg":"log lines dropped"\}$/u.exec(
      last,
    );
  assert.ok(lost, last);
  assert.equal(lines.length - 1 + Number(lost[1]), LINES);
});

describe('a log throttle', () => {
  test('logs the first event at once, and then once per interval with the number of events', () => {
    let now = 5;
    const logged: [now: number, times: number][] = [];
    const throttle = new LogThrottle(1000, () => now);
    for (const at of [5, 6, 1004, 1005, 1006, 2005, 2006]) {
      now = at;
      throttle.log((times) => logged.push([at, times]));
    }
    assert.deepEqual(logged, [
      [5, 1],
      [1005, 3],
      [2005, 2],
    ]);
  });

  test('logs at once after a pause, without events logged before', () => {
    let now = 0;
    const logged: number[] = [];
    const throttle = new LogThrottle(1000, () => now);
    throttle.log((times) => logged.push(times));
    now = 50_000;
    throttle.log((times) => logged.push(times));
    assert.deepEqual(logged, [1, 1]);
  });

  test('measures the interval from the last log line', () => {
    let now = 0;
    const logged: number[] = [];
    const throttle = new LogThrottle(1000, () => now);
    for (const at of [0, 1900, 2100, 2899, 2900]) {
      now = at;
      throttle.log((times) => logged.push(times));
    }
    assert.deepEqual(logged, [1, 1, 3]);
  });

  test('counts an event caused by logging for the next log line', () => {
    let now = 0;
    const logged: number[] = [];
    const throttle = new LogThrottle(1000, () => now);
    const report = (times: number): void => {
      logged.push(times);
      throttle.log(report);
    };
    throttle.log(report);
    assert.deepEqual(logged, [1]);
    now = 1000;
    throttle.log(report);
    assert.deepEqual(logged, [1, 2]);
  });
});

describe('the logged details of an error', () => {
  test('are its kind and stack, but not its message', () => {
    const error = errorDetails(Object.assign(new RangeError('please relay'), { code: 'ENOENT' }));
    assert.deepEqual([error.name, error.code], ['RangeError', 'ENOENT']);
    assert.match(error.at[0] ?? '', /^at .*logging\.test\.ts:\d+:\d+\)?$/u);
    assert.ok(error.at.length <= 8);
    assert.doesNotMatch(JSON.stringify(error), /please relay/u);
  });

  test('have nothing of a message that looks like stack frames', () => {
    const error = errorDetails(new Error('wrong:\n    at please relay SECRET\n    at another'));
    assert.doesNotMatch(JSON.stringify(error), /SECRET|another/u);
    assert.match(error.at[0] ?? '', /logging\.test\.ts/u);
  });

  test('are the kind alone if there is nothing else', () => {
    const withoutStack = new Error('secret');
    delete withoutStack.stack;
    assert.deepEqual(errorDetails(withoutStack), { name: 'Error', code: '', at: [] });
    assert.deepEqual(errorDetails(Object.assign(withoutStack, { code: 5 })).code, '');
    assert.deepEqual(errorDetails('secret'), { name: 'string', code: '', at: [] });
    assert.deepEqual(errorDetails(null), { name: 'object', code: '', at: [] });
  });
});
