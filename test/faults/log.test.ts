import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, constants, openSync, readFileSync, readSync, rmSync, statfsSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { TestContext } from 'node:test';
import { errorCode } from '../../src/process/error-code.ts';
import { SIDE_A, handshake, newToken } from '../support/bytes.ts';
import { eventually } from '../support/programs.ts';
import { scratch } from '../support/scratch.ts';
import { requireMount, mountTmpfs } from '../support/usage-files.ts';
import { fill } from './disks.ts';
import { StrickenRelay, client, range, strike, visits } from './stricken-relay.ts';
import { assertWritten } from './usage-check.ts';
import { freePort } from '../support/listening.ts';

/** More than a pipe holds that nobody reads: 64 KiB. The relay keeps 4 MiB. */
const LINES = 1500;

/** So that nobody waits for the other end to be opened, nor for what does not come. */
const OPEN_FOR_BOTH = constants.O_RDWR | constants.O_NONBLOCK;

/** Runs a program with other descriptors than it was given: `redirect('>&-')`. */
function redirect(...redirections: string[]): string[] {
  return ['sh', '-c', `exec "$@" ${redirections.join(' ')}`, 'sh'];
}

interface Logging {
  readonly relay: StrickenRelay;
  readonly usagePath: string;
}

/** A relay whose log, or whose records besides, go where `redirection` says. It logs all it can. */
async function start(
  context: TestContext,
  fd: 1 | 3,
  redirection: string,
): Promise<Logging & AsyncDisposable> {
  const usagePath = join(await scratch(context), 'usage.sqlite');
  const port = fd === 1 ? await freePort() : undefined;
  const relay = await StrickenRelay.start(
    { RELAY_USAGE_DB: usagePath, RELAY_LOG_LEVEL: 'trace', ...(fd === 3 ? { RELAY_LOG_FD: '3' } : {}) },
    { prefix: redirect(redirection), ...(port === undefined ? {} : { port }) },
  );
  return { relay, usagePath, [Symbol.asyncDispose]: () => relay[Symbol.asyncDispose]() };
}

/** Many clients that come and go: each is a line of the log, and a record, and no record is suppressed. */
async function chatter(port: number): Promise<void> {
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

/** Everything that a pipe has and will have, until there are so many lines about an ending, each of them whole. */
async function readLines(reader: number, summaries: number): Promise<string[]> {
  const memory = Buffer.alloc(64 * 1024);
  let text = '';
  const count = (): number => text.match(/"mood":.*\n/gu)?.length ?? 0;
  await eventually(
    () => `${summaries} lines about endings, of which ${count()} came`,
    10_000,
    () => {
      try {
        for (;;) text += memory.toString('latin1', 0, readSync(reader, memory));
      } catch (error) {
        if (errorCode(error) !== 'EAGAIN') throw error;
      }
      return count() >= summaries ? true : null;
    },
  );
  return wholeLines(text);
}

/** Throws for what is not a line of JSON, up to the last. */
function wholeLines(text: string): string[] {
  assert.ok(text.endsWith('\n'));
  const lines = text.trimEnd().split('\n');
  for (const line of lines) assert.doesNotThrow(() => JSON.parse(line), line);
  return lines;
}

test('without a standard output the relay works as ever', async (context) => {
  await using at = await start(context, 1, '>&-');
  await visits(at.relay.port, range(1, 5));
  const bystanders = await strike(context, at.relay, 'log closed', () => chatter(at.relay.port));
  await assertWritten(at.usagePath, [...range(1, 5), ...bystanders]);
  assert.equal(at.relay.program.stderr, '');
  await at.relay.stop();
});

for (const fd of [1, 3] as const) {
  const what = fd === 1 ? 'log' : 'records';

  test(`a reader of the ${what} that goes away is not missed`, async (context) => {
    const pipe = pipeIn(await scratch(context));
    const reader = openSync(pipe, OPEN_FOR_BOTH);
    await using at = await start(context, fd, `${fd}>${pipe}`);
    await visits(at.relay.port, range(1, 5));
    const bystanders = await strike(context, at.relay, `${what}: reader gone`, async () => {
      closeSync(reader);
      await chatter(at.relay.port);
    });
    await assertWritten(at.usagePath, [...range(1, 5), ...bystanders]);
    await at.relay.stop();
  });

  test(`a reader of the ${what} that is stuck holds nothing up, and gets whole lines when it goes on`, async (context) => {
    const pipe = pipeIn(await scratch(context));
    const reader = openSync(pipe, OPEN_FOR_BOTH);
    context.after(() => closeSync(reader));
    await using at = await start(context, fd, `${fd}>${pipe}`);
    await visits(at.relay.port, range(1, 5));
    const bystanders = await strike(context, at.relay, `${what}: reader stuck`, async () => {
      await chatter(at.relay.port);
      await visits(at.relay.port, range(6, 10));
    });
    // More than a pipe holds has been written by now, and waits in the relay.
    const lines = await readLines(reader, LINES + 10 + bystanders.length);
    assert.equal(lines.filter((line) => /"mood":"lonely"/u.test(line)).length, LINES);
    await assertWritten(at.usagePath, [...range(1, 10), ...bystanders]);
    await at.relay.stop();
  });

  test(`lines of the ${what} that would go on a full disk wait for room`, async (context) => {
    if (!requireMount(context)) return;
    const disk = mountTmpfs(context, 'size=1m');
    const file = join(disk, 'log');
    await using at = await start(context, fd, `${fd}>>${file}`);
    await visits(at.relay.port, range(1, 5));
    const bystanders = await strike(context, at.relay, `${what}: disk full`, async () => {
      fill(join(disk, 'filler'));
      await chatter(at.relay.port);
    });
    assert.equal(statfsSync(disk).bavail, 0);
    rmSync(join(disk, 'filler'));
    await chatter(at.relay.port);
    await assertWritten(at.usagePath, [...range(1, 5), ...bystanders]);
    await at.relay.stop();
    const lines = wholeLines(readFileSync(file, 'utf8'));
    assert.equal(lines.filter((line) => /"mood":"lonely"/u.test(line)).length, LINES * 2);
    if (fd === 1) assert.match(lines.at(-1) ?? '', /"msg":"stopped"/u);
  });
}
