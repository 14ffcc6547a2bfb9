import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, constants, openSync, readFileSync, readSync, rmSync, statfsSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { TestContext } from 'node:test';
import { errorCode } from '../../src/process/errors.ts';
import { SIDE_A, handshake, newToken } from '../support/bytes.ts';
import { CONDITION_TIMEOUT_MS, eventually } from '../support/programs.ts';
import { scratch } from '../support/scratch.ts';
import { requireMount, mountTmpfs } from '../support/usage-files.ts';
import { fill } from './disks.ts';
import { RelayUnderTest, client, range, injectFault, relayPairs } from './relay-under-test.ts';
import { assertWritten } from './usage-check.ts';
import { freePort } from '../support/listening.ts';

/** More than a pipe without a reader holds (64 KiB). The relay buffers 4 MiB. */
const LINES = 1500;

/** Neither opening nor reading blocks. */
const OPEN_FOR_BOTH = constants.O_RDWR | constants.O_NONBLOCK;

/** Runs a program with other file descriptors: `redirection('>&-')`. */
function redirect(...redirections: string[]): string[] {
  return ['sh', '-c', `exec "$@" ${redirections.join(' ')}`, 'sh'];
}

interface LoggingRelay {
  readonly relay: RelayUnderTest;
  readonly usagePath: string;
}

/** Starts a relay with its log (fd 1) or its records (fd 3) redirected, at the most detailed log level. */
async function start(
  context: TestContext,
  fd: 1 | 3,
  redirection: string,
): Promise<LoggingRelay & AsyncDisposable> {
  const usagePath = join(await scratch(context), 'usage.sqlite');
  const port = fd === 1 ? await freePort() : undefined;
  const relay = await RelayUnderTest.start(
    { RELAY_USAGE_DB: usagePath, RELAY_LOG_LEVEL: 'trace', ...(fd === 3 ? { RELAY_LOG_FD: '3' } : {}) },
    { prefix: redirect(redirection), ...(port === undefined ? {} : { port }) },
  );
  return { relay, usagePath, [Symbol.asyncDispose]: () => relay[Symbol.asyncDispose]() };
}

/** Connects and disconnects many clients. Each causes a log line and a record, and no record is suppressed. */
async function connectMany(port: number): Promise<void> {
  for (let left = LINES; left > 0; left -= 50) {
    await Promise.all(
      Array.from({ length: 50 }, async () => {
        const socket = await client(port, handshake(newToken(), SIDE_A));
        await once(socket.resume().end(), 'close');
      }),
    );
  }
}

function pipeIn(directory: string): string {
  const path = join(directory, 'pipe');
  execFileSync('mkfifo', [path]);
  return path;
}

/** Reads a pipe until it has `summaries` lines about sessions. Checks that every line is complete. */
async function readLines(reader: number, summaries: number): Promise<string[]> {
  const memory = Buffer.alloc(64 * 1024);
  let text = '';
  const count = (): number => text.match(/"mood":.*\n/gu)?.length ?? 0;
  await eventually(
    () => `${summaries} lines about sessions arrive; ${count()} have arrived`,
    CONDITION_TIMEOUT_MS,
    () => {
      try {
        for (;;) text += memory.toString('latin1', 0, readSync(reader, memory));
      } catch (error) {
        if (errorCode(error) !== 'EAGAIN') throw error;
      }
      return count() >= summaries ? true : null;
    },
  );
  return parseLines(text);
}

/** Throws if a line, including the last one, is not JSON. */
function parseLines(text: string): string[] {
  assert.ok(text.endsWith('\n'));
  const lines = text.trimEnd().split('\n');
  for (const line of lines) assert.doesNotThrow(() => JSON.parse(line), line);
  return lines;
}

test('without a standard output the relay works as usual', async (context) => {
  await using at = await start(context, 1, '>&-');
  await relayPairs(at.relay.port, range(1, 5));
  const bystanders = await injectFault(context, at.relay, 'log closed', () => connectMany(at.relay.port));
  await assertWritten(at.usagePath, [...range(1, 5), ...bystanders]);
  assert.equal(at.relay.program.stderr, '');
  await at.relay.stop();
});

for (const fd of [1, 3] as const) {
  const what = fd === 1 ? 'log' : 'records';

  test(`the relay works without a reader of the ${what}`, async (context) => {
    const pipe = pipeIn(await scratch(context));
    const reader = openSync(pipe, OPEN_FOR_BOTH);
    await using at = await start(context, fd, `${fd}>${pipe}`);
    await relayPairs(at.relay.port, range(1, 5));
    const bystanders = await injectFault(context, at.relay, `${what}: reader closed`, async () => {
      closeSync(reader);
      await connectMany(at.relay.port);
    });
    await assertWritten(at.usagePath, [...range(1, 5), ...bystanders]);
    await at.relay.stop();
  });

  test(`a stalled reader of the ${what} delays nothing, and gets complete lines when it resumes`, async (context) => {
    const pipe = pipeIn(await scratch(context));
    const reader = openSync(pipe, OPEN_FOR_BOTH);
    context.after(() => closeSync(reader));
    await using at = await start(context, fd, `${fd}>${pipe}`);
    await relayPairs(at.relay.port, range(1, 5));
    const bystanders = await injectFault(context, at.relay, `${what}: reader stuck`, async () => {
      await connectMany(at.relay.port);
      await relayPairs(at.relay.port, range(6, 10));
    });
    // The relay has written more than a pipe holds and buffers the rest.
    const lines = await readLines(reader, LINES + 10 + bystanders.length);
    assert.equal(lines.filter((line) => /"mood":"lonely"/u.test(line)).length, LINES);
    await assertWritten(at.usagePath, [...range(1, 10), ...bystanders]);
    await at.relay.stop();
  });

  test(`lines of the ${what} wait for free space on a full disk`, async (context) => {
    if (!requireMount(context)) return;
    const disk = mountTmpfs(context, 'size=1m');
    const file = join(disk, 'log');
    await using at = await start(context, fd, `${fd}>>${file}`);
    await relayPairs(at.relay.port, range(1, 5));
    const bystanders = await injectFault(context, at.relay, `${what}: disk full`, async () => {
      fill(join(disk, 'filler'));
      await connectMany(at.relay.port);
    });
    assert.equal(statfsSync(disk).bavail, 0);
    rmSync(join(disk, 'filler'));
    await connectMany(at.relay.port);
    await assertWritten(at.usagePath, [...range(1, 5), ...bystanders]);
    await at.relay.stop();
    const lines = parseLines(readFileSync(file, 'utf8'));
    assert.equal(lines.filter((line) => /"mood":"lonely"/u.test(line)).length, LINES * 2);
    if (fd === 1) assert.match(lines.at(-1) ?? '', /"msg":"stopped"/u);
  });
}
