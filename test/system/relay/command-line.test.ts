import { deepEqual, equal, match, ok } from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { accessSync, constants, readFileSync, realpathSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { VERSION } from '../../../src/process/version.ts';
import { TRANSIT_RELAY, runCommandLine } from '../../support/command-line.ts';
import { COMPILE_CACHE } from '../../support/compile-cache.ts';
import { CONDITION_TIMEOUT_MS, Program } from '../../support/programs.ts';
import { RelayProcess } from '../../support/relay-process.ts';
import { scratch } from '../../support/scratch.ts';

const ROOT = join(import.meta.dirname, '..', '..', '..');

const ANY_PORT = 'tcp:0:interface=127.0.0.1';

const RELAY = { RELAY_LISTEN: ANY_PORT, RELAY_STATUS_LISTEN: ANY_PORT };

/** Sends SIGTERM to its own process when the first module of a program is loaded. */
const STOP_WHILE_LOADING = `data:text/javascript,${encodeURIComponent(`
  import { registerHooks } from 'node:module';
  registerHooks({
    load(url, context, next) {
      if (url.endsWith('/process/program.ts')) process.kill(process.pid, 'SIGTERM');
      return next(url, context);
    },
  });`)}`;

function start(words: readonly string[], env: Readonly<Record<string, string>>): Program {
  return new Program([process.execPath, TRANSIT_RELAY, ...words], {
    env: { PATH: process.env['PATH'], ...COMPILE_CACHE, ...env },
  });
}

describe('transit-relay', () => {
  test('is an executable file, and the command of the package', () => {
    accessSync(TRANSIT_RELAY, constants.X_OK);
    match(readFileSync(TRANSIT_RELAY, 'utf8'), /^#!\/usr\/bin\/env node\n/u);
    const manifest: unknown = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
    ok(typeof manifest === 'object' && manifest !== null && 'bin' in manifest);
    deepEqual(manifest.bin, { 'transit-relay': 'src/transit-relay.ts' });
    equal(realpathSync(join(ROOT, 'src/transit-relay.ts')), realpathSync(TRANSIT_RELAY));
  });

  test('is found by npx in a clone, with the Node.js of the packages', () => {
    const { status, stdout } = spawnSync('npx', ['--no-install', 'transit-relay', '--version'], {
      cwd: ROOT,
      encoding: 'utf8',
    });
    deepEqual([status, stdout], [0, `${VERSION}\n`]);
  });

  for (const words of [[], ['serve']]) {
    test(`runs the relay with ${JSON.stringify(words)}`, async () => {
      await using relay = start(words, RELAY);
      await relay.waitForOutput(/"role":"raw"[^]*"role":"status".*\n/u);
      relay.kill('SIGTERM');
      await relay.succeeds(CONDITION_TIMEOUT_MS);
      match(relay.stdout, /"msg":"stopped"\}\n$/u);
    });
  }

  test('runs the sidecar', async (context) => {
    const directory = await scratch(context);
    await using sidecar = start(['sidecar'], {
      SIDECAR_LISTEN: ANY_PORT,
      SIDECAR_USAGE_DB: join(directory, 'usage.sqlite'),
      SIDECAR_SNAPSHOT_DIR: directory,
    });
    await sidecar.waitForOutput(/"role":"sidecar".*"msg":"listening"/u);
    sidecar.kill('SIGTERM');
    await sidecar.succeeds(CONDITION_TIMEOUT_MS);
  });

  for (const word of ['serve', 'sidecar']) {
    test(`handles signals while it loads the program (${word})`, async (context) => {
      const directory = await scratch(context);
      await using program = start([word], {
        ...RELAY,
        SIDECAR_LISTEN: ANY_PORT,
        SIDECAR_USAGE_DB: join(directory, 'usage.sqlite'),
        SIDECAR_SNAPSHOT_DIR: directory,
        NODE_OPTIONS: `--import=${STOP_WHILE_LOADING}`,
      });
      await program.succeeds(CONDITION_TIMEOUT_MS);
      match(program.stdout, /"signal":"SIGTERM","msg":"stopping"\}\n.*"msg":"stopped"\}\n$/u);
    });
  }

  test('prints its version', async () => {
    for (const word of ['--version', '-V'])
      deepEqual(await runCommandLine([word]), { code: 0, stdout: `${VERSION}\n`, stderr: '' });
  });

  test('prints a help that names every command, and one for each', async () => {
    const { stdout } = await runCommandLine(['--help']);
    for (const words of [['-h'], ['help'], ['help', '--help']])
      deepEqual(await runCommandLine(words), { code: 0, stdout, stderr: '' });
    const commands = [...stdout.matchAll(/^ {2}(\w+) +\w/gmu)].map(([, word = '']) => word);
    deepEqual(commands, ['serve', 'sidecar', 'healthcheck', 'import', 'config', 'check', 'help']);
    for (const word of commands.slice(0, -1)) {
      const help = await runCommandLine([word, '--help']);
      deepEqual([help.code, help.stderr], [0, '']);
      match(help.stdout, new RegExp(`^Usage: transit-relay ${word}\\b.*\\n\\n[A-Z].*\\.\\n`, 'u'));
      for (const words of [
        ['help', word],
        [word, '-h'],
      ])
        deepEqual(await runCommandLine(words), help);
    }
  });

  for (const [words, problem] of [
    [['srve'], 'unknown command "srve"; the most similar one is serve; see "transit-relay --help"'],
    [['help', 'chek'], 'unknown command "chek"; the most similar one is check; see "transit-relay --help"'],
    [['nonsense'], 'unknown command "nonsense"; see "transit-relay --help"'],
    [[''], 'unknown command ""; see "transit-relay --help"'],
    [
      ['--verson'],
      'unknown option "--verson"; the most similar one is --version; see "transit-relay --help"',
    ],
    [['--port', '4001'], 'unknown option "--port"; see "transit-relay --help"'],
    [['serve', '--port=1'], 'serve: unknown option --port; see "transit-relay serve --help"'],
    [
      ['sidecar', 'x'],
      'sidecar: no arguments are accepted; all settings are environment variables; see "transit-relay sidecar --help"',
    ],
    [
      ['healthcheck', 'transfr'],
      'healthcheck: unknown check "transfr"; the most similar one is transfer; see "transit-relay healthcheck --help"',
    ],
    [
      ['healthcheck'],
      'healthcheck: one word is needed: relay, transfer, sidecar, snapshot; see "transit-relay healthcheck --help"',
    ],
    [['import', 'old'], 'import: two paths are needed; see "transit-relay import --help"'],
    [['import', '--force', 'a', 'b'], 'import: unknown option --force; see "transit-relay import --help"'],
  ] as const) {
    test(`rejects ${JSON.stringify(words)} with exit code 64`, async () => {
      const stderr = `transit-relay: ${problem}\n`;
      deepEqual(await runCommandLine(words), { code: 64, stdout: '', stderr });
    });
  }

  test('ends without a stack if the reader of its output does', () => {
    const script = '"$0" "$1" check 127.0.0.1:1 127.0.0.1:2 | true';
    const { stderr } = spawnSync('sh', ['-c', script, process.execPath, TRANSIT_RELAY], { encoding: 'utf8' });
    equal(stderr, '');
  });

  test('runs a health check', async () => {
    await using relay = await RelayProcess.start({});
    const env = { RELAY_STATUS_LISTEN: `tcp:${relay.port('status')}:interface=127.0.0.1` };
    deepEqual(await runCommandLine(['healthcheck', 'relay'], env), {
      code: 0,
      stdout: 'relay: ok\n',
      stderr: '',
    });
    await relay.stop();
    const { code, stdout } = await runCommandLine(['healthcheck', 'relay'], env);
    equal(code, 1);
    match(stdout, /^relay: no response at RELAY_STATUS_LISTEN/u);
  });

  test('imports records', async (context) => {
    const path = join(await scratch(context), 'nothing.sqlite');
    const { code, stderr } = await runCommandLine(['import', path, `${path}.new`]);
    equal(code, 1);
    match(stderr, /nothing\.sqlite/u);
  });

  test('shows the configuration', async () => {
    const { code, stdout } = await runCommandLine(['config'], { RELAY_LISTEN: 'tcp:4321' });
    equal(code, 0);
    match(stdout, /^set +RELAY_LISTEN=tcp:4321$/mu);
    equal((await runCommandLine(['config', '--check'], { RELAY_LISTEN: 'nowhere' })).code, 78);
  });
});
