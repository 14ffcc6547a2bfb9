import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, readdirSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { CONDITION_TIMEOUT_MS, eventually } from '../support/programs.ts';
import { scratch } from '../support/scratch.ts';
import { UNREACHABLE_URL, startSidecar } from '../support/sidecar-fixture.ts';
import { createUsageFile } from '../support/usage-files.ts';
import { withBystander } from './support/with-bystander.ts';

// For a release, run with RELAY_TEST_ABORTS=2000 RELAY_TEST_STOPS=250 (per program). Fewer also find the
// known bugs.
const ABORTS = Number(process.env['RELAY_TEST_ABORTS'] ?? 200);
const STOPS = Number(process.env['RELAY_TEST_STOPS'] ?? 20);

/** Concurrent downloads or programs. */
const AT_ONCE = 3;

/** Maximum delay before a download is aborted or a program is stopped, in milliseconds. */
const ABORT_MS = 150;
const STOP_MS = 600;

/** Time for a program to start and stop, in milliseconds: longer than on any busy machine. */
const END_MS = 120_000;

/** Threads of the sidecar and its children while it runs: about 15. */
const MAX_THREADS = 40;

const SOURCES = join(import.meta.dirname, '..', '..', 'src');

/** Preloaded: the program gets SIGTERM as soon as it has a handler for SIGHUP, which Node does not install by itself. */
const SIGTERM_WHEN_HANDLED = `data:text/javascript,${[
  "process.on('newListener',(name)=>{",
  "if(name==='SIGHUP')queueMicrotask(()=>process.kill(process.pid,'SIGTERM'))})",
].join('')}`;

const LISTENING = /"msg":"listening"/u;
const ANY_PORT = 'tcp:0:interface=127.0.0.1';

/** Both programs, with everything that starts threads or processes. */
const PROGRAMS: readonly {
  readonly name: string;
  readonly main: string;
  readonly settings: (directory: string) => Readonly<Record<string, string>>;
}[] = [
  {
    name: 'relay',
    main: join(SOURCES, 'main.ts'),
    settings: (directory) => ({
      RELAY_LISTEN: ANY_PORT,
      RELAY_WEBSOCKET_LISTEN: ANY_PORT,
      RELAY_STATUS_LISTEN: ANY_PORT,
      RELAY_USAGE_DB: join(directory, 'relay.sqlite'),
    }),
  },
  {
    name: 'sidecar',
    main: join(SOURCES, 'sidecar', 'main.ts'),
    settings: (directory) => ({
      SIDECAR_LISTEN: ANY_PORT,
      SIDECAR_USAGE_DB: join(directory, 'usage.sqlite'),
      SIDECAR_SNAPSHOT_DIR: join(directory, 'snapshots'),
      SIDECAR_RELAY_STATUS: UNREACHABLE_URL,
    }),
  },
];

interface Started {
  readonly child: ChildProcess;
  /** Both outputs so far. */
  readonly output: { text: string };
  /** `exit code 0`, or the name of a signal. */
  readonly end: Promise<string>;
}

function start(main: string, settings: Readonly<Record<string, string>>): Started {
  const child = spawn(process.execPath, [main], {
    env: { PATH: process.env['PATH'], ...settings },
    stdio: ['ignore', 'pipe', 'pipe'],
    // A program that does not end fails every test below.
    timeout: END_MS + STOP_MS,
    killSignal: 'SIGKILL',
  });
  const output = { text: '' };
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (text: string) => {
      output.text += text;
    });
  const end = once(child, 'close').then(([code, signal]) =>
    typeof signal === 'string' ? signal : `exit code ${code}`,
  );
  return { child, output, end };
}

/** Runs `action` that many times, a few of them at once. */
async function repeat(times: number, action: () => Promise<void>): Promise<void> {
  let left = times;
  const worker = async (): Promise<void> => {
    while (left > 0) {
      left -= 1;
      await action();
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
}

/** The thread ids of a process and of its children. */
function threadsOf(pid: number): number[] {
  const threads = readdirSync(`/proc/${pid}/task`).map(Number);
  const children = threads.flatMap((thread) => {
    try {
      return readFileSync(`/proc/${pid}/task/${thread}/children`, 'latin1').trim().split(' ').filter(Boolean);
    } catch {
      // The thread has ended.
      return [];
    }
  });
  return [...threads, ...children.map(Number)];
}

/** Waits until a process has a handler for SIGHUP. */
async function untilHandlerInstalled(pid: number): Promise<void> {
  await eventually(
    () => 'a handler for SIGHUP is installed',
    CONDITION_TIMEOUT_MS,
    () => {
      const caught =
        /^SigCgt:\s*([\da-f]+)$/mu.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1] ?? '0';
      return (BigInt(`0x${caught}`) & 1n) === 1n ? true : null;
    },
  );
}

test('aborted downloads end neither the sidecar nor its other responses', async (context) => {
  const { sidecar, url, databasePath } = await startSidecar(context, null);
  createUsageFile(databasePath, { rows: 20_000 });
  const threadIds = new Set<number>();
  await withBystander(context, `${ABORTS} aborted downloads`, async () => {
    await repeat(ABORTS, async () => {
      const download = request(`${url}/usage.csv?by=record&from=2020-01-01`);
      const closed = new Promise<void>((resolve) => {
        download.once('close', resolve);
      });
      download
        .on('error', () => undefined)
        .on('response', (response) => response.resume().on('error', () => undefined));
      download.end();
      await sleep(Math.random() * ABORT_MS);
      for (const thread of threadsOf(sidecar.pid)) threadIds.add(thread);
      download.destroy();
      await closed;
    });
    assert.equal((await fetch(`${url}/usage.csv?by=day&from=2020-01-01`)).status, 200);
  });
  // Thread ids are counted, because a program that ends threads can abort sometimes. An aborted download ends none.
  context.diagnostic(`${threadIds.size} threads and processes`);
  assert.ok(threadIds.size < MAX_THREADS, `${threadIds.size} threads and processes`);
  await sidecar.stop();
  assert.equal(sidecar.stderr, '');
  assert.doesNotMatch(sidecar.log, /"level":"(?:error|fatal)"/u);
});

describe('a program that is stopped', () => {
  test('at a random moment of its start does not abort', async (context) => {
    const ends = new Map<string, number>();
    await withBystander(context, `${STOPS} stops of each program`, () =>
      repeat(STOPS * PROGRAMS.length, async () => {
        const { name, main, settings } = PROGRAMS[Math.random() < 0.5 ? 0 : 1] ?? assert.fail();
        const directory = await scratch(context);
        createUsageFile(join(directory, 'usage.sqlite'), { rows: 1000 });
        const { child, output, end } = start(main, settings(directory));
        // Threads and processes for the database start when it listens, which is late on a busy machine.
        if (Math.random() < 0.5) await Promise.race([once(child.stdout ?? assert.fail(), 'data'), end]);
        await sleep(Math.random() * STOP_MS);
        child.kill('SIGTERM');
        const how = await end;
        ends.set(`${name}: ${how}`, (ends.get(`${name}: ${how}`) ?? 0) + 1);
        // Before its first statement, Node ends it at once.
        const isBeforeHandlers = how === 'SIGTERM' && output.text === '';
        assert.ok(how === 'exit code 0' || isBeforeHandlers, `${name} ended with ${how}: ${output.text}`);
      }),
    );
    context.diagnostic(JSON.stringify(Object.fromEntries(ends)));
  });

  for (const { name, main, settings } of PROGRAMS) {
    test(`while the ${name} loads stops before it listens`, async (context) => {
      const { output, end } = start(main, {
        ...settings(await scratch(context)),
        NODE_OPTIONS: `--import=${SIGTERM_WHEN_HANDLED}`,
      });
      assert.equal(await end, 'exit code 0', output.text);
      assert.doesNotMatch(output.text, LISTENING);
      assert.match(output.text, /"signal":"SIGTERM","msg":"stopping"\}\n.*"msg":"stopped"\}\n$/u);
    });

    for (const signal of ['SIGTERM', 'SIGINT'] as const) {
      test(`by ${signal} as soon as the ${name} reports that it listens ends with exit code 0`, async (context) => {
        const { child, output, end } = start(main, settings(await scratch(context)));
        child.stdout?.on('data', (text: string) => {
          if (LISTENING.test(text)) child.kill(signal);
        });
        assert.equal(await end, 'exit code 0', output.text);
        assert.match(output.text, /"msg":"listening".*\n.*"msg":"stopped"\}\n$/su);
      });
    }

    test(`survives SIGHUP while the ${name} starts`, async (context) => {
      const { child, output, end } = start(main, settings(await scratch(context)));
      await untilHandlerInstalled(child.pid ?? 0);
      child.kill('SIGHUP');
      await eventually(
        () => output.text,
        CONDITION_TIMEOUT_MS,
        () => (LISTENING.test(output.text) ? true : null),
      );
      child.kill('SIGHUP');
      await sleep(300);
      child.kill('SIGHUP');
      await sleep(100);
      assert.equal(child.exitCode, null, output.text);
      child.kill('SIGTERM');
      assert.equal(await end, 'exit code 0', output.text);
      assert.match(output.text, LISTENING);
    });
  }
});
