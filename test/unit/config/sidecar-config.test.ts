import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { COMPOSE_MARKER } from '../../../src/config/deployment.ts';
import { formatConfigError } from '../../../src/config/environment.ts';
import type { ConfigError } from '../../../src/config/environment.ts';
import { SIDECAR_DEFAULTS, readSidecarConfig } from '../../../src/config/sidecar-config.ts';
import type { SidecarConfig } from '../../../src/config/sidecar-config.ts';
import { scratch } from '../../support/scratch.ts';
import { assertOnlyError, errorsIn, tcp } from './config-results.ts';

type Environment = Readonly<Record<string, string>>;

/** The only variable without a default. */
const DATABASE = { SIDECAR_USAGE_DB: '/data/usage.sqlite' };

const TOKEN = 'correct-horse-battery';

function read(environment: Environment): { config: SidecarConfig; warnings: readonly string[] } {
  const result = readSidecarConfig(environment);
  assert.ok(result.kind === 'ok', JSON.stringify(result));
  return { config: result.config, warnings: result.warnings.map(({ message }) => message) };
}

function errorsOf(environment: Environment): readonly ConfigError[] {
  return errorsIn(readSidecarConfig(environment));
}

const DEFAULT_CONFIG = {
  listen: [tcp(4004, '127.0.0.1')],
  token: null,
  usageDatabasePath: '/data/usage.sqlite',
  snapshots: { directory: 'snapshots', intervalMs: 3_600_000, keep: 48 },
  relayStatusUrl: 'http://127.0.0.1:4003',
  logLevel: 'info',
};

describe('the configuration of the sidecar', () => {
  test('has its defaults without an environment', () => {
    assert.deepEqual(read(DATABASE), { config: DEFAULT_CONFIG, warnings: [] });
    assert.deepEqual(read({ ...SIDECAR_DEFAULTS, ...DATABASE }).config, DEFAULT_CONFIG);
  });

  test('accepts every variable', () => {
    const environment: Record<keyof typeof SIDECAR_DEFAULTS, string> = {
      SIDECAR_LISTEN: 'tcp:1:interface=127.0.0.1 unix:/run/sidecar.sock:mode=660',
      SIDECAR_TOKEN: ` ${TOKEN}\n`,
      SIDECAR_USAGE_DB: '/u',
      SIDECAR_SNAPSHOT_DIR: '/s',
      SIDECAR_SNAPSHOT_EVERY: '15m',
      SIDECAR_SNAPSHOT_KEEP: '3',
      SIDECAR_RELAY_STATUS: 'http://relay:4003',
      SIDECAR_LOG_LEVEL: 'Debug',
    };
    assert.deepEqual(read(environment).config, {
      listen: [tcp(1, '127.0.0.1'), { kind: 'unix', path: '/run/sidecar.sock', mode: 0o660, backlog: null }],
      token: TOKEN,
      usageDatabasePath: '/u',
      snapshots: { directory: '/s', intervalMs: 900_000, keep: 3 },
      relayStatusUrl: 'http://relay:4003',
      logLevel: 'debug',
    });
  });

  test('reads its token from a file', async (context) => {
    const path = join(await scratch(context), 'token');
    writeFileSync(path, `${TOKEN}\n`);
    const { config, warnings } = read({ ...DATABASE, SIDECAR_TOKEN_FILE: path });
    assert.equal(config.token, TOKEN);
    assert.deepEqual(warnings, []);
    const both = read({ ...DATABASE, SIDECAR_TOKEN_FILE: path, SIDECAR_TOKEN: 'other' });
    assert.equal(both.config.token, TOKEN);
    assert.deepEqual(both.warnings, ['SIDECAR_TOKEN has no effect because SIDECAR_TOKEN_FILE is set']);
  });

  test('listens on loopback without a token, on all interfaces with one, or as configured', () => {
    const listen = (environment: Environment): readonly object[] =>
      read({ ...DATABASE, ...environment }).config.listen;
    assert.deepEqual(listen({ SIDECAR_TOKEN: '' }), [tcp(4004, '127.0.0.1')]);
    assert.deepEqual(listen({ SIDECAR_TOKEN: TOKEN }), [tcp(4004)]);
    assert.deepEqual(listen({ SIDECAR_LISTEN: 'tcp:5000' }), [tcp(5000)]);
    assert.deepEqual(listen({ SIDECAR_TOKEN: TOKEN, SIDECAR_LISTEN: 'tcp:5:interface=127.0.0.1' }), [
      tcp(5, '127.0.0.1'),
    ]);
  });

  test('accepts base URLs with and without a path, a trailing slash and TLS', () => {
    for (const [text, url] of [
      ['http://relay:4003/', 'http://relay:4003'],
      ['http://relay', 'http://relay'],
      ['https://relay.example/status//', 'https://relay.example/status'],
      ['http://[::1]:4003', 'http://[::1]:4003'],
    ] as const) {
      assert.equal(read({ ...DATABASE, SIDECAR_RELAY_STATUS: text }).config.relayStatusUrl, url);
    }
  });

  test('accepts the limits of its ranges', () => {
    const snapshots = (every: string, keep: string): object =>
      read({ ...DATABASE, SIDECAR_SNAPSHOT_EVERY: every, SIDECAR_SNAPSHOT_KEEP: keep }).config.snapshots;
    assert.deepEqual(snapshots('1s', '1'), { directory: 'snapshots', intervalMs: 1000, keep: 1 });
    assert.deepEqual(snapshots('24d', '100000'), {
      directory: 'snapshots',
      intervalMs: 24 * 86_400_000,
      keep: 100_000,
    });
  });
});

describe('an invalid value of the sidecar', () => {
  const cases: readonly (readonly [variable: string, value: string, accepted: RegExp])[] = [
    ['SIDECAR_LISTEN', 'tcp:70000', /tcp:4003.*unix:/u],
    ['SIDECAR_LISTEN', 'ssl:443:privateKey=/k', /tcp:4003/u],
    ['SIDECAR_LISTEN', 'systemd:domain=INET:index=0', /tcp:4003/u],
    ['SIDECAR_SNAPSHOT_EVERY', '999ms', /1s to 24d/u],
    ['SIDECAR_SNAPSHOT_EVERY', '0', /1s to 24d/u],
    ['SIDECAR_SNAPSHOT_EVERY', '25d', /24d/u],
    ['SIDECAR_SNAPSHOT_EVERY', 'hourly', /15m, 1h or 1d/u],
    ['SIDECAR_SNAPSHOT_KEEP', '0', /from 1 to 100000/u],
    ['SIDECAR_SNAPSHOT_KEEP', '100001', /from 1 to 100000/u],
    ['SIDECAR_SNAPSHOT_KEEP', '1.5', /whole number/u],
    ['SIDECAR_SNAPSHOT_KEEP', 'all', /whole number/u],
    ['SIDECAR_RELAY_STATUS', 'relay:4003', /http:\/\/127\.0\.0\.1:4003/u],
    ['SIDECAR_RELAY_STATUS', 'tcp:4003', /http:/u],
    ['SIDECAR_RELAY_STATUS', 'file:///etc/passwd', /http:/u],
    ['SIDECAR_RELAY_STATUS', 'http://', /http:/u],
    ['SIDECAR_RELAY_STATUS', 'http://user@relay:4003', /http:/u],
    ['SIDECAR_RELAY_STATUS', 'http://relay:4003/?x', /http:/u],
    ['SIDECAR_RELAY_STATUS', 'http://relay:4003/#x', /http:/u],
    ['SIDECAR_LOG_LEVEL', 'loud', /trace, debug, info/u],
  ];
  for (const [variable, value, accepted] of cases) {
    test(`is one error that names it: ${variable}=${value}`, () => {
      const result = readSidecarConfig({ ...DATABASE, [variable]: value });
      assertOnlyError(result, variable, value, accepted);
    });
  }

  test('is never shown if it is the token', async (context) => {
    const path = join(await scratch(context), 'token');
    for (const token of ['hunter2 hunter2', 'hunter2\nhunter2', 'hunter2ä', 'hunter2\x7f']) {
      writeFileSync(path, token);
      for (const environment of [{ SIDECAR_TOKEN: token }, { SIDECAR_TOKEN_FILE: path }]) {
        const result = readSidecarConfig({ ...DATABASE, SIDECAR_LISTEN: 'tcp:4004', ...environment });
        assert.ok(result.kind === 'errors');
        const problems = [
          ...result.errors.map(formatConfigError),
          ...result.warnings.map(({ message }) => message),
        ].join('\n');
        assert.doesNotMatch(problems, /hunter2/u);
        const [variable = ''] = Object.keys(environment);
        assert.match(problems, new RegExp(`^${variable}=.*visible ASCII characters without blanks\\.$`, 'u'));
      }
    }
  });

  test('is an error if the token file is empty or missing', async (context) => {
    const path = join(await scratch(context), 'token');
    const problems = (): string =>
      errorsOf({ ...DATABASE, SIDECAR_TOKEN_FILE: path })
        .map(formatConfigError)
        .join('\n');
    assert.match(problems(), /^SIDECAR_TOKEN_FILE=".*token" can't be used: there is no such file\./u);
    writeFileSync(path, '\n');
    assert.match(problems(), /^SIDECAR_TOKEN_FILE=".*token" can't be used: it is empty\./u);
  });

  test('is reported together with all others', () => {
    const environment = {
      SIDECAR_LISTEN: 'x',
      SIDECAR_SNAPSHOT_EVERY: 'y',
      SIDECAR_SNAPSHOT_KEEP: 'z',
      SIDECAR_RELAY_STATUS: 'r',
      SIDECAR_LOG_LEVEL: 'l',
      SIDECAR_USAGE_DB: '',
      SIDECAR_SNAPSHOT_DIR: '',
    };
    const errors = errorsOf({ ...environment, SIDECAR_TOKEN: 'a b' });
    assert.deepEqual(Object.fromEntries(errors.map(({ variable, value }) => [variable, value])), {
      ...environment,
      SIDECAR_TOKEN: '(secret)',
    });
    assert.equal(errors.length, 8);
  });
});

describe('a required setting', () => {
  const needed = [
    'SIDECAR_LISTEN',
    'SIDECAR_USAGE_DB',
    'SIDECAR_SNAPSHOT_DIR',
    'SIDECAR_SNAPSHOT_EVERY',
    'SIDECAR_SNAPSHOT_KEEP',
    'SIDECAR_RELAY_STATUS',
  ];
  for (const variable of needed) {
    test(`is ${variable}, which cannot be off`, () => {
      const [error, ...others] = errorsOf({ ...DATABASE, [variable]: ' ' });
      assert.deepEqual(others, []);
      assert.equal(error?.variable, variable);
      assert.notEqual(error.accepted, '');
    });
  }

  test('is reported once if a file is missing', () => {
    for (const variable of needed) {
      const errors = errorsOf({ ...DATABASE, [`${variable}_FILE`]: '/no/such/file' });
      assert.deepEqual(
        errors.map((error) => error.variable),
        [`${variable}_FILE`],
      );
    }
  });

  test('has no default for the path of the database', () => {
    const [error, ...others] = errorsOf({});
    assert.deepEqual(others, []);
    assert.equal(error?.variable, 'SIDECAR_USAGE_DB');
    assert.match(error.accepted, /RELAY_USAGE_DB/u);
  });
});

describe('a warning of the sidecar', () => {
  const warningsOf = (environment: Environment): readonly string[] =>
    read({ ...DATABASE, ...environment }).warnings;

  test('is shown if anyone can read the records', () => {
    for (const listen of [
      'tcp:4004',
      'tcp:4004:interface=0.0.0.0',
      'tcp:4004:interface=10.0.0.1',
      'unix:/s tcp:1:interface=127.0.0.1 tcp:2',
    ]) {
      const [warning, ...others] = warningsOf({ SIDECAR_LISTEN: listen });
      assert.deepEqual(others, []);
      assert.match(warning ?? '', /^SIDECAR_TOKEN is not set.*SIDECAR_LISTEN/u);
      assert.deepEqual(warningsOf({ SIDECAR_LISTEN: listen, SIDECAR_TOKEN: TOKEN }), []);
      // docker-compose.yml publishes the port on loopback.
      assert.deepEqual(warningsOf({ SIDECAR_LISTEN: listen, [COMPOSE_MARKER]: 'true' }), []);
    }
  });

  test('is not shown if only this host can', () => {
    for (const listen of ['tcp:1:interface=127.0.0.2', 'tcp:1:interface=\\:\\:1', 'unix:/s'])
      assert.deepEqual(warningsOf({ SIDECAR_LISTEN: listen }), []);
  });

  test('is shown for a short token, without the token', () => {
    const [warning, ...others] = warningsOf({ SIDECAR_TOKEN: 'hunter2hunter2x' });
    assert.deepEqual(others, []);
    assert.match(warning ?? '', /^SIDECAR_TOKEN has fewer than 16 characters/u);
    assert.doesNotMatch(warning ?? '', /hunter2/u);
    assert.deepEqual(warningsOf({ SIDECAR_TOKEN: 'hunter2hunter2xx' }), []);
  });

  test('is shown for an unknown variable, in addition to the others', () => {
    const warnings = warningsOf({ SIDECAR_TOKENS: 'x', SIDECAR_TOKEN: 'short', SIDECAR_TOKEN_FILE: '' });
    assert.deepEqual(
      warnings.map((warning) => warning.split(' ', 1)[0]),
      ['SIDECAR_TOKENS', 'SIDECAR_TOKEN'],
    );
    const result = readSidecarConfig({ SIDECAR_SNAPSHOTS_KEEP: '4' });
    assert.equal(result.kind, 'errors');
    assert.match(
      result.warnings.map(({ message }) => message).join('\n'),
      /most similar variable is SIDECAR_SNAPSHOT_KEEP$/u,
    );
  });
});
