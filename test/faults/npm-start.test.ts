import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { SIDE_A, SIDE_B, handshake, newToken } from '../support/bytes.ts';
import { STOPPED_CLOCK } from '../support/patience.ts';
import { Program, findProgram } from '../support/programs.ts';
import { UsageReader } from '../support/relay-process.ts';
import { scratch } from '../support/scratch.ts';

const ROOT = join(import.meta.dirname, '..', '..');
const TERMINAL = join(import.meta.dirname, 'support', 'terminal.py');

/**
 * Time for the last of all signals of one stop to arrive, in milliseconds. They arrive within milliseconds.
 */
const SIGNALS_MS = 300;

const skip = ['npm', 'python3', 'timeout'].some((name) => findProgram(name) === null)
  ? 'needs npm, Python 3 and timeout'
  : false;

interface Stop {
  readonly name: string;
  readonly command: readonly string[];
  /** Lines that `terminal.py` reads. */
  readonly actions: readonly string[];
  /** Exit codes of the command and its orphans. */
  readonly codes: string;
  /** The signal that starts the drain; null if the log is lost. */
  readonly signal: string | null;
}

const NPM = ['npm', 'start'];

const STOPS: readonly Stop[] = [
  { name: 'SIGTERM to npm', command: NPM, actions: ['term'], codes: '0', signal: 'SIGTERM' },
  {
    name: 'SIGTERM to timeout, which signals all of its process group',
    command: ['timeout', '300', ...NPM],
    actions: ['term'],
    codes: '0',
    signal: 'SIGTERM',
  },
  { name: 'Ctrl-C to npm and the relay', command: NPM, actions: ['ctrl-c'], codes: '0', signal: 'SIGINT' },
  // npm has no handler for SIGHUP and leaves an orphan.
  { name: 'a closed terminal', command: NPM, actions: ['close'], codes: '-1 0', signal: null },
  {
    name: 'a closed terminal, without npm',
    command: [process.execPath, 'src/main.ts'],
    actions: ['close'],
    codes: '0',
    signal: null,
  },
  {
    name: 'SIGHUP, which is ignored while the terminal exists, and Ctrl-C',
    command: [process.execPath, 'src/main.ts'],
    actions: ['hup', 'ctrl-c'],
    codes: '0',
    signal: 'SIGINT',
  },
];

async function client(port: number, line: string): Promise<Socket> {
  const socket = connect({ port, host: '127.0.0.1' });
  await once(socket, 'connect');
  socket.write(line);
  return socket;
}

describe(
  'a relay in a terminal completes transfers and ends with exit code 0',
  { skip, concurrency: true },
  () => {
    for (const { name, command, actions, codes, signal } of STOPS) {
      test(`after ${name}`, async (context) => {
        const path = join(await scratch(context), 'usage.sqlite');
        const env = {
          PATH: process.env['PATH'],
          HOME: process.env['HOME'],
          RELAY_LISTEN: 'tcp:0:interface=127.0.0.1',
          RELAY_STATUS_LISTEN: '',
          RELAY_USAGE_DB: path,
          // However late the last signal arrives on a busy machine, it belongs to the same stop.
          ...STOPPED_CLOCK,
        };
        await using program = new Program(['python3', TERMINAL, ...command], { cwd: ROOT, env });
        const [, port] = await program.waitForOutput(/ endpoint=tcp:(\d+)/u, 60_000);
        const token = newToken();
        const [a, b] = [
          await client(Number(port), handshake(token, SIDE_A)),
          await client(Number(port), handshake(token, SIDE_B)),
        ];
        await Promise.all([once(a, 'data'), once(b, 'data')]);
        for (const action of actions) program.write(`${action}\n`);
        if (signal !== null) await program.waitForOutput(new RegExp(`stopping  signal=${signal}`, 'u'));
        await sleep(SIGNALS_MS);
        a.end('after the signals');
        const [bytes] = await once(b, 'data');
        assert.equal(String(bytes), 'after the signals');
        b.end();
        const [, ended] = await program.waitForOutput(/^ended with (.*)$/mu);
        assert.equal(ended, codes);
        using usage = new UsageReader(path);
        assert.deepEqual(
          usage.rows().map(({ result, total_bytes: total }) => [result, total]),
          [['happy', 'after the signals'.length]],
        );
        assert.equal(program.stdout.match(/ INFO {2}stopping/gu)?.length ?? 0, signal === null ? 0 : 1);
      });
    }
  },
);

test('a relay in a terminal prints configuration errors as text', { skip }, async () => {
  const env = { PATH: process.env['PATH'], RELAY_LISTEN: 'tcp:99999', RELAY_LOG_LEVEL: 'silent' };
  const command = ['python3', TERMINAL, process.execPath, 'src/main.ts'];
  await using program = new Program(command, { cwd: ROOT, env });
  await program.waitForOutput(/^ended with 78$/mu);
  assert.match(
    program.stdout,
    /^[\d:]{8} FATAL invalid configuration {2}exit_code=78\r\n {2}RELAY_LISTEN="tcp:99999" can't be used: .*\r\n\nended/u,
  );
});
