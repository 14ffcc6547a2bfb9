import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { describe, test } from 'node:test';
import { Program } from '../../support/programs.ts';

const [PROGRAM, ERRORS] = ['program.ts', 'errors.ts'].map((name) =>
  JSON.stringify(new URL(`../../../src/process/${name}`, import.meta.url).href),
);

/** Node.js with a script that runs a program with this service, or with these problems of its configuration. */
function command(service: string, problems = '[]'): [string, ...string[]] {
  const script = `
    import { runProgram } from ${PROGRAM};
    import { StartupError } from ${ERRORS};
    const errors = ${problems};
    const warnings = [{ event: 'unknown_variable', message: 'a warning' }];
    await runProgram({
      read: () => ({ kind: errors.length === 0 ? 'ok' : 'errors', config: { logLevel: 'info' }, errors, warnings, settings: [] }),
      create: (config, log) => ({ start: async () => {}, close: async () => log.info('closed'), ${service} }),
    });`;
  return [process.execPath, '--input-type=module', '-e', script];
}

/** Each line of a log without its time. */
function linesOf(stdout: string): readonly unknown[] {
  const lines = stdout.trimEnd().split('\n');
  return lines.map((line) =>
    JSON.parse(line, (key: string, value: unknown) => (key === 'time' ? undefined : value)),
  );
}

const WARNING = { level: 'warn', event: 'unknown_variable', msg: 'a warning' };
const CLOSED = { level: 'info', msg: 'closed' };

describe('a program that does not run', () => {
  const PROBLEM = "[{ variable: 'RELAY_X', value: 'y', problem: 'it is wrong', accepted: 'z' }]";

  test('has exit code 1 and logs the reason last if its service cannot start', () => {
    const [file, ...args] = command(`start: () => Promise.reject(new StartupError('no disk'))`);
    const { status, stdout, stderr } = spawnSync(file, args, { encoding: 'utf8' });
    const failure = {
      level: 'fatal',
      event: 'start_failed',
      exit_code: 1,
      reasons: ['no disk'],
      msg: 'start failed',
    };
    assert.deepEqual(linesOf(stdout), [WARNING, CLOSED, failure]);
    assert.deepEqual([status, stderr], [1, '']);
  });

  test('has exit code 70 and logs no message if its start has an internal error', () => {
    const [file, ...args] = command(`start: () => Promise.reject(new RangeError('secret'))`);
    const { status, stdout, stderr } = spawnSync(file, args, { encoding: 'utf8' });
    assert.match(
      stdout,
      /"level":"fatal".*"name":"RangeError".*"msg":"internal error"\}\n.*"msg":"closed"\}\n$/u,
    );
    assert.deepEqual([status, stderr], [70, '']);
    assert.doesNotMatch(stdout, /secret/u);
  });

  test('has exit code 78 and starts nothing if its configuration is invalid', () => {
    const [file, ...args] = command(`start: () => process.stdout.write('started')`, PROBLEM);
    const { status, stdout, stderr } = spawnSync(file, args, { encoding: 'utf8' });
    assert.match(
      stdout,
      /"level":"fatal".*"exit_code":78,"reasons":\[".*RELAY_X.*"\],"msg":"invalid configuration"\}\n$/u,
    );
    assert.deepEqual([status, stderr], [78, '']);
    assert.doesNotMatch(stdout, /started|closed/u);
  });
});

describe('a running program', () => {
  const RUNNING = `start: async () => { setInterval(() => {}, 1000); log.info('started'); }`;

  async function stoppedBy(signal: NodeJS.Signals, service: string): Promise<readonly unknown[]> {
    await using program = new Program(command(`${RUNNING}, ${service}`));
    await program.waitForOutput(/"started"/u);
    program.kill(signal);
    await program.succeeds(30_000);
    return linesOf(program.stdout).slice(2);
  }

  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    test(`drains, closes and ends with exit code 0 after ${signal}`, async () => {
      assert.deepEqual(await stoppedBy(signal, `drain: async () => log.info('drained')`), [
        { level: 'info', event: 'stopping', signal, msg: 'stopping' },
        { level: 'info', msg: 'drained' },
        CLOSED,
        { level: 'info', event: 'stopped', msg: 'stopped' },
      ]);
    });
  }

  test('reloads after SIGHUP, and continues', async () => {
    await using program = new Program(command(`${RUNNING}, reload: async () => log.info('reloaded')`));
    await program.waitForOutput(/"started"/u);
    program.kill('SIGHUP');
    await program.waitForOutput(/"reloaded"/u);
    program.kill('SIGHUP');
    await program.waitForOutput(/"reloaded"[^]*"reloaded"/u);
  });
});
