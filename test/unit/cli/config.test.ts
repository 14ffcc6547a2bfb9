import { deepEqual, equal, match, ok } from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { RELAY_DEFAULTS } from '../../../src/config/relay-config.ts';
import { SIDECAR_DEFAULTS } from '../../../src/config/sidecar-config.ts';
import { scratch } from '../../support/scratch.ts';

const PROGRAM = join(import.meta.dirname, '..', '..', '..', 'src', 'transit-relay.ts');

const SECRET = '0123456789abcdef';

interface Printed {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

type Environment = Readonly<Record<string, string>>;

/** What the command prints with this environment and nothing else. */
function run(env: Environment, ...args: readonly string[]): Printed {
  const command = [PROGRAM, 'config', ...args];
  const { status, stdout, stderr } = spawnSync(process.execPath, command, { env, encoding: 'utf8' });
  return { code: status, stdout, stderr };
}

describe('the command "config"', () => {
  test('prints each variable of the relay with its value, and whether it is set', () => {
    const { code, stdout, stderr } = run({ RELAY_QUOTA: '5TB/month', RELAY_QUOTA_STATE: '/q' });
    deepEqual([code, stderr], [0, '']);
    const [title, ...lines] = stdout.trimEnd().split('\n');
    equal(title, '# relay');
    deepEqual(
      lines.map((line) => /^(?:default|set {4}) {2}(\w+)=/u.exec(line)?.[1]),
      Object.keys(RELAY_DEFAULTS),
    );
    for (const line of [
      'default  RELAY_LISTEN=tcp:4001',
      'set      RELAY_QUOTA=5TB/month',
      'default  RELAY_TOTAL_RATE=',
    ])
      ok(lines.includes(line), line);
  });

  test('shows no secret, and names the file of a value', async (context) => {
    const directory = await scratch(context);
    const secret = join(directory, 'secret');
    writeFileSync(secret, SECRET);
    const url = { RELAY_CLUSTER_URL: `redis://:${SECRET}@coordinator` };
    const { code, stdout } = run({ ...url, RELAY_CLUSTER_SECRET_FILE: secret, SIDECAR_TOKEN: SECRET });
    equal(code, 78, 'the sidecar has no database');
    equal(stdout, '');
    const shown = run({ ...url, RELAY_CLUSTER_SECRET_FILE: secret });
    equal(shown.code, 0);
    match(shown.stdout, /^set {6}RELAY_CLUSTER_URL=\(secret\)$/mu);
    ok(shown.stdout.includes(`set      RELAY_CLUSTER_SECRET=(secret)  (from ${secret})\n`), shown.stdout);
    ok(!`${shown.stdout}${shown.stderr}`.includes(SECRET));
  });

  test('includes the sidecar if one of its variables is set, or on request', () => {
    const database = { SIDECAR_USAGE_DB: '/relay/usage.sqlite' };
    const { code, stdout } = run(database);
    equal(code, 0);
    const [, sidecar = ''] = stdout.split('\n# sidecar\n');
    deepEqual(
      sidecar
        .trimEnd()
        .split('\n')
        .map((line) => /(\w+)=/u.exec(line)?.[1]),
      Object.keys(SIDECAR_DEFAULTS),
    );
    // The image sets these.
    const image = { SIDECAR_USAGE_DB: '/data/usage.sqlite', SIDECAR_SNAPSHOT_DIR: '/data/snapshots' };
    // Kubernetes sets this for a Service.
    const kubernetes = { ...image, SIDECAR_SERVICE_HOST: '10.0.0.1', SIDECAR_PORT: 'tcp://10.0.0.1:4004' };
    ok(!run(kubernetes).stdout.includes('# sidecar'));
    ok(!run(image).stdout.includes('# sidecar'));
    ok(run(image, '--sidecar').stdout.includes('# sidecar'));
  });

  test('prints warnings after the settings, on standard error', () => {
    const { code, stdout, stderr } = run({ RELAY_LISTENS: 'x' });
    equal(code, 0);
    match(stdout, /RELAY_LISTEN=tcp:4001/u);
    match(stderr, /^warning: RELAY_LISTENS is unknown .*RELAY_LISTEN\n$/u);
  });

  test('prints all errors of both programs and exits with code 78 if something is wrong', () => {
    const wrong = {
      RELAY_LISTEN: 'x',
      RELAY_LOG_LEVEL: 'loud',
      SIDECAR_LOG_LEVEL: 'loud',
      RELAY_LISTENS: '',
    };
    const { code, stdout, stderr } = run({ ...wrong, SIDECAR_USAGE_DB: '/u' });
    deepEqual([code, stdout], [78, '']);
    deepEqual(
      stderr
        .trimEnd()
        .split('\n')
        .map((line) => /^(\w+: \w+)/u.exec(line)?.[1]),
      ['error: RELAY_LISTEN', 'error: RELAY_LOG_LEVEL', 'error: SIDECAR_LOG_LEVEL', 'warning: RELAY_LISTENS'],
    );
  });

  test('rejects arguments that it does not know', () => {
    for (const args of [['--chekc'], ['check']]) {
      const { code, stdout, stderr } = run({}, ...args);
      deepEqual([code, stdout], [64, '']);
      match(stderr, /config: .*config --help/su);
    }
  });
});

describe('the command "config --check"', () => {
  test('prints nothing if everything is right', () => {
    deepEqual(run({ RELAY_LISTEN: 'tcp:1', SIDECAR_USAGE_DB: '/u' }, '--check'), {
      code: 0,
      stdout: '',
      stderr: '',
    });
  });

  test('treats unknown variables as errors, and other warnings as warnings', () => {
    const unknown = run({ RELAY_LISTENS: 'x' }, '--check');
    deepEqual([unknown.code, unknown.stdout], [78, '']);
    match(unknown.stderr, /^error: RELAY_LISTENS is unknown/u);
    const tooMuch = run({ RELAY_BUFFER_MEMORY: '1000TB' }, '--check');
    deepEqual([tooMuch.code, tooMuch.stdout], [0, '']);
    match(tooMuch.stderr, /^warning: RELAY_BUFFER_MEMORY leaves too little memory/u);
    const useless = run({ RELAY_CLUSTER_ADVERTISE: 'relay-1' }, '--check');
    deepEqual([useless.code, useless.stdout], [0, '']);
    match(useless.stderr, /^warning: RELAY_CLUSTER_ADVERTISE has no effect/u);
  });
});

describe('the command "config --json"', () => {
  test('prints settings, warnings and errors of each program', () => {
    const { code, stdout, stderr } = run(
      { RELAY_LOG_LEVEL: 'loud', RELAY_LISTENS: 'x' },
      '--json',
      '--sidecar',
    );
    deepEqual([code, stderr], [78, '']);
    const { relay, sidecar } = JSON.parse(stdout);
    deepEqual(relay.settings[0], {
      variable: 'RELAY_LISTEN',
      value: 'tcp:4001',
      isDefault: true,
      file: null,
    });
    equal(relay.warnings[0].event, 'unknown_variable');
    match(relay.errors[0], /^RELAY_LOG_LEVEL="loud" can't be used/u);
    match(sidecar.errors[0], /^SIDECAR_USAGE_DB=""/u);
  });
});
