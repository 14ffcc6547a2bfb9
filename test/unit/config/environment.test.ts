import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import {
  EnvironmentReader,
  InvalidValue,
  formatConfigError,
  readSecretFile,
} from '../../../src/config/environment.ts';
import type { ConfigError } from '../../../src/config/environment.ts';
import { RELAY_DEFAULTS, readRelayConfig } from '../../../src/config/relay-config.ts';
import { SIDECAR_DEFAULTS, readSidecarConfig } from '../../../src/config/sidecar-config.ts';
import { scratch } from '../../support/scratch.ts';
import { configIn, errorsIn } from './config-results.ts';

/** Any process id: systemd has passed no sockets. */
const PID = 1;

/** Maximum size of a value, in bytes. */
const MAX_FILE_BYTES = 65_536;

type Environment = Readonly<Record<string, string>>;

/** A reader of two variables, of which the second is a secret, with these files. */
function reader(
  environment: Environment,
  files: Environment = {},
): EnvironmentReader<'APP_NAME' | 'APP_SECRET'> {
  return new EnvironmentReader(environment, {
    prefix: 'APP_',
    defaults: { APP_NAME: 'default-name', APP_SECRET: '' },
    secrets: ['APP_SECRET'],
    readFile: (path) => {
      const text = files[path];
      if (text === undefined) throw new Error('it is not there');
      return text;
    },
  });
}

const same = (text: string): string => text;

function refuse(text: string): string {
  throw new InvalidValue('anything else', `"${text}" is wrong`);
}

describe('a variable', () => {
  test('has the value from the environment, its default, or is off', () => {
    assert.equal(reader({ APP_NAME: ' a b\n' }).read('APP_NAME', null, same), 'a b');
    assert.equal(reader({}).read('APP_NAME', null, same), 'default-name');
    assert.equal(reader({}).read('APP_NAME', null, same, 'override'), 'override');
    assert.equal(reader({ APP_NAME: '' }).read('APP_NAME', null, same), null);
    assert.equal(reader({ APP_NAME: ' ' }).read('APP_NAME', null, same, 'override'), null);
  });

  test('that is invalid is off, and an error names it', () => {
    const env = reader({ APP_NAME: 'x' });
    assert.equal(env.read('APP_NAME', 'off', refuse), 'off');
    assert.deepEqual(env.errors, [
      { variable: 'APP_NAME', value: 'x', problem: '"x" is wrong', accepted: 'anything else' },
    ]);
  });

  test('that is secret is never shown', () => {
    const env = reader({ APP_SECRET: 'hunter2' });
    const refuseSilently = (): string => {
      throw new InvalidValue('anything else');
    };
    assert.equal(env.read('APP_SECRET', null, refuseSilently), null);
    assert.deepEqual(env.errors, [
      { variable: 'APP_SECRET', value: '(secret)', problem: null, accepted: 'anything else' },
    ]);
  });

  test('with a failing parser is not reported as an error of the operator', () => {
    const env = reader({ APP_NAME: 'x' });
    const broken = (): string => {
      throw new TypeError('broken');
    };
    assert.throws(() => env.read('APP_NAME', null, broken), TypeError);
    assert.deepEqual(env.errors, []);
  });
});

describe('a variable in a file', () => {
  test('is read without surrounding blanks', () => {
    const env = reader({ APP_NAME_FILE: ' /f ' }, { '/f': '\n a b \n' });
    assert.equal(env.read('APP_NAME', null, same), 'a b');
    assert.deepEqual([env.errors, env.warnings], [[], []]);
  });

  test('overrides the environment and the default', () => {
    const env = reader({ APP_NAME_FILE: '/f', APP_NAME: 'plain' }, { '/f': 'filed' });
    assert.equal(env.read('APP_NAME', null, same), 'filed');
    assert.equal(reader({ APP_NAME_FILE: '/f' }, { '/f': '' }).read('APP_NAME', 'off', same), 'off');
  });

  test('causes a warning if the variable is set, too', () => {
    const warningsOf = (plain: string): readonly unknown[] =>
      reader({ APP_NAME_FILE: '/f', APP_NAME: plain }).warnings;
    assert.deepEqual(warningsOf('hunter2'), [
      {
        event: 'setting_without_effect',
        message: 'APP_NAME has no effect because APP_NAME_FILE is set',
      },
    ]);
    // Nobody has changed it.
    for (const plain of ['', ' ', 'default-name']) assert.deepEqual(warningsOf(plain), []);
    const image = {
      RELAY_LISTEN: 'tcp:4001',
      RELAY_USAGE_DB: '/data/usage.sqlite',
      RELAY_DRAIN_TIMEOUT: '10m',
    };
    const files = Object.fromEntries(Object.keys(image).map((name) => [`${name}_FILE`, '/dev/null']));
    assert.deepEqual(readRelayConfig({ ...image, ...files }, PID).warnings, []);
  });

  test('is not read if the path is empty', () => {
    for (const path of ['', ' \n']) {
      const env = reader({ APP_NAME_FILE: path, APP_NAME: 'plain' });
      assert.equal(env.read('APP_NAME', null, same), 'plain');
      assert.deepEqual(env.errors, []);
    }
  });

  test('that cannot be read is an error with the path and the reason', () => {
    const env = reader({ APP_NAME_FILE: '/f', APP_NAME: 'plain' });
    assert.equal(env.read('APP_NAME', 'off', same), 'off');
    assert.equal(
      env.errors.map(formatConfigError).join('\n'),
      'APP_NAME_FILE="/f" can\'t be used: it is not there. Accepted: the path of a readable file with the value.',
    );
  });

  test('that is invalid is an error with the path but without the content', () => {
    const env = reader({ APP_NAME_FILE: '/f', APP_SECRET_FILE: '/g' }, { '/f': 'hunter1', '/g': 'hunter2' });
    assert.equal(env.read('APP_NAME', null, refuse), null);
    assert.equal(env.read('APP_SECRET', null, refuse), null);
    const [problem, accepted] = ['the content of that file is invalid', 'anything else'];
    assert.deepEqual(env.errors, [
      { variable: 'APP_NAME_FILE', value: '/f', problem, accepted },
      { variable: 'APP_SECRET_FILE', value: '/g', problem, accepted },
    ]);
  });

  test('that is an empty secret is an error, so that authentication is not disabled by mistake', () => {
    for (const text of ['', ' \n']) {
      const env = reader({ APP_SECRET_FILE: '/f', APP_SECRET: 'plain' }, { '/f': text });
      assert.equal(env.read('APP_SECRET', null, same), null);
      assert.match(
        env.errors.map(formatConfigError).join('\n'),
        /^APP_SECRET_FILE="\/f" can't be used: it is empty\./u,
      );
    }
  });
});

describe('a variable in quotation marks', () => {
  test('is rejected even if unused, and a secret is not shown', () => {
    for (const quote of ['"', "'"]) {
      const quoted = `${quote}hunter2${quote}`;
      const env = reader({ APP_NAME: ` ${quoted} `, APP_SECRET: quoted, APP_NAME_FILE: '' });
      assert.deepEqual(
        env.errors.map(({ variable, value }) => [variable, value]),
        [
          ['APP_NAME', quoted],
          ['APP_SECRET', '(secret)'],
        ],
      );
      assert.match(
        env.errors.map(formatConfigError).join('\n'),
        /^APP_NAME=.* can't be used: it begins and ends with a quotation mark, .*docker run --env-file keeps/u,
      );
      assert.equal(env.read('APP_NAME', 'off', same), 'off');
      assert.equal(env.read('APP_SECRET', 'off', refuse), 'off');
      env.rejectEmpty('APP_NAME', 'something', 'it is needed');
      assert.equal(env.errors.length, 2);
    }
  });

  test('is rejected if the value is empty, or the path of a file', () => {
    const env = reader({ APP_NAME: '""', APP_SECRET_FILE: '"/f"' }, { '"/f"': 'hunter2' });
    assert.equal(env.read('APP_SECRET', 'off', same), 'off');
    assert.deepEqual(
      env.errors.map(({ variable, value }) => [variable, value]),
      [
        ['APP_NAME', '""'],
        ['APP_SECRET_FILE', '"/f"'],
      ],
    );
  });

  test('is accepted if the quotation marks are in a file, of different kinds, on one side or inside', () => {
    for (const text of ['"', 'a"', '"a', `"a'`, 'a"b"c', '']) {
      const env = reader({ APP_NAME: text });
      assert.equal(env.read('APP_NAME', '', same), text);
      assert.deepEqual(env.errors, []);
    }
    // No tool removes quotation marks in files.
    const env = reader({ APP_NAME_FILE: '/f' }, { '/f': '"a"' });
    assert.equal(env.read('APP_NAME', null, same), '"a"');
    assert.deepEqual(env.errors, []);
  });

  test('is rejected for every variable of the relay and the sidecar', () => {
    const rejected = (
      names: readonly string[],
      read: (
        environment: Environment,
      ) => ReturnType<typeof readRelayConfig> | ReturnType<typeof readSidecarConfig>,
    ): void => {
      for (const name of names.flatMap((variable) => [variable, `${variable}_FILE`])) {
        const result = read({ [name]: '"0123456789abcdef"' });
        assert.ok(result.kind === 'errors', name);
        const errors = result.errors.filter(({ variable }) => variable === name);
        assert.deepEqual(
          errors.map(({ accepted }) => accepted),
          ['the value without quotation marks around it'],
          name,
        );
      }
    };
    rejected(Object.keys(RELAY_DEFAULTS), (environment) => readRelayConfig(environment, PID));
    rejected(Object.keys(SIDECAR_DEFAULTS), readSidecarConfig);
  });
});

describe('the settings', () => {
  const settingsOf = (environment: Environment, files: Environment = {}): readonly unknown[] => {
    const env = reader(environment, files);
    env.read('APP_SECRET', null, same);
    env.read('APP_NAME', null, (text) => (text === 'wrong' ? refuse(text) : text));
    return env.settings.map(({ value, isDefault, file }) => [value, isDefault, file]);
  };

  test('have the value of each variable, and whether it is the default, in the order of the defaults', () => {
    const [name, secret] = reader({}).settings;
    const common = { isDefault: true, file: null };
    assert.deepEqual(name, { variable: 'APP_NAME', value: 'default-name', ...common });
    assert.deepEqual(secret, { variable: 'APP_SECRET', value: '', ...common });
    assert.deepEqual(settingsOf({ APP_NAME: ' a ' })[0], ['a', false, null]);
    assert.deepEqual(settingsOf({ APP_NAME: 'default-name' })[0], ['default-name', true, null]);
    assert.deepEqual(settingsOf({ APP_NAME: '' })[0], ['', false, null]);
    assert.deepEqual(settingsOf({ APP_NAME_FILE: '/f' }, { '/f': 'b' })[0], ['b', false, '/f']);
  });

  test('have a default that depends on other variables', () => {
    const env = reader({});
    env.read('APP_NAME', null, same, 'override');
    assert.deepEqual(env.settings[0], {
      variable: 'APP_NAME',
      value: 'override',
      isDefault: true,
      file: null,
    });
  });

  test('show neither secrets nor the content of invalid or unused files', () => {
    assert.deepEqual(settingsOf({ APP_SECRET: 'x' })[1], ['(secret)', false, null]);
    assert.deepEqual(settingsOf({ APP_SECRET_FILE: '/f' }, { '/f': 'x' })[1], ['(secret)', false, '/f']);
    assert.deepEqual(settingsOf({ APP_NAME_FILE: '/f' }, { '/f': 'wrong' })[0], ['(invalid)', false, '/f']);
    assert.deepEqual(settingsOf({ APP_NAME: 'wrong' })[0], ['wrong', false, null]);
    const [unread] = reader({ APP_NAME_FILE: '/f' }, { '/f': 'b' }).settings;
    assert.deepEqual([unread?.value, unread?.isDefault], ['(not read)', false]);
  });
});

describe('an unknown variable', () => {
  const warnings = (...names: string[]): readonly string[] =>
    reader(Object.fromEntries(names.map((name) => [name, 'x']))).warnings.map(({ message }) => message);

  test('causes a warning with the most similar name, without the value', () => {
    assert.deepEqual(warnings('APP_NAMES', 'APP_SECRET_FILES', 'APP_NAM_FILE'), [
      'APP_NAMES is unknown and has no effect; the most similar variable is APP_NAME',
      'APP_SECRET_FILES is unknown and has no effect; the most similar variable is APP_SECRET',
      'APP_NAM_FILE is unknown and has no effect; the most similar variable is APP_NAME_FILE',
    ]);
  });

  test('does not include known names with _FILE, or variables of other programs', () => {
    assert.deepEqual(warnings('APP_NAME', 'APP_SECRET_FILE', 'MY_APP_NAME', 'app_name'), []);
    assert.deepEqual(warnings('APP_NAME_FILE', 'APP_SECRET'), []);
    assert.equal(warnings('APP_NAME_FILE_FILE', 'APP__FILE').length, 2);
  });
});

describe('the file of a variable', () => {
  test('is read completely, up to the size limit', async (context) => {
    const directory = await scratch(context);
    const path = join(directory, 'file');
    for (const text of ['', 'tcp:4001\n', 'ä€\n\n', 'x'.repeat(MAX_FILE_BYTES)]) {
      writeFileSync(path, text);
      assert.equal(readSecretFile(path), text);
    }
    // Like Kubernetes mounts secrets.
    symlinkSync(path, join(directory, 'link'));
    assert.equal(readSecretFile(join(directory, 'link')).length, MAX_FILE_BYTES);
  });

  test('that cannot be read is rejected with a reason', async (context) => {
    const directory = await scratch(context);
    mkdirSync(join(directory, 'folder'));
    writeFileSync(join(directory, 'large'), 'x'.repeat(MAX_FILE_BYTES + 1));
    const cases: readonly (readonly [path: string, message: string])[] = [
      [join(directory, 'none'), 'there is no such file'],
      [join(directory, 'folder'), 'it is a directory'],
      [join(directory, 'large'), 'it is larger than 65536 bytes, the maximum for a value'],
      [join(directory, 'large', 'x'), "it can't be read (ENOTDIR)"],
      // It has no size and is endless.
      ['/dev/zero', 'it is larger than 65536 bytes, the maximum for a value'],
    ];
    for (const [path, message] of cases) assert.throws(() => readSecretFile(path), { message });
  });

  test('that belongs to another user is rejected with a reason', async (context) => {
    const directory = await scratch(context);
    const path = join(directory, 'secret');
    writeFileSync(path, 'hunter2');
    chmodSync(path, 0);
    if (process.getuid?.() !== 0) {
      assert.throws(() => readSecretFile(path), { message: 'permission denied' });
      return;
    }
    // Root can read everything. The module is loaded before the process changes to another user.
    chmodSync(directory, 0o755);
    const program = `
      const { readSecretFile } = await import(process.argv[1]);
      process.setuid(4242);
      try { readSecretFile(process.argv[2]); } catch (error) { process.stdout.write(error.message); }`;
    const module = new URL('../../../src/config/environment.ts', import.meta.url).href;
    const said = execFileSync(process.execPath, ['--input-type=module', '-e', program, module, path]);
    assert.equal(String(said), 'permission denied');
  });
});

describe('variables in real files', () => {
  const errorsOf = (environment: Environment): readonly ConfigError[] =>
    errorsIn(readRelayConfig(environment, PID));

  test('are read for every variable', async (context) => {
    const directory = await scratch(context);
    const values: Record<keyof typeof RELAY_DEFAULTS, string> = {
      RELAY_LISTEN: 'tcp:1',
      RELAY_WEBSOCKET_LISTEN: '2',
      RELAY_STATUS_LISTEN: 'unix:/s',
      RELAY_USAGE_DB: '/u',
      RELAY_USAGE_RETENTION: '72h',
      RELAY_LOG_FD: '7',
      RELAY_BLUR_USAGE: '60',
      RELAY_LOG_LEVEL: 'warn',
      RELAY_BUFFER_MEMORY: '1MB',
      RELAY_HANDSHAKE_TIMEOUT: '5s',
      RELAY_WAIT_TIMEOUT: '2h',
      RELAY_IDLE_TIMEOUT: '3h',
      RELAY_MAX_CONNECTIONS: '7',
      RELAY_MAX_WAITING: '3',
      RELAY_MAX_CONNECTIONS_PER_ADDRESS: '2',
      RELAY_NEW_CONNECTIONS_PER_ADDRESS: '5/s',
      RELAY_TRUSTED_PROXIES: '::1',
      RELAY_PAIR_RATE: '1MB/s',
      RELAY_TOTAL_RATE: '2MB/s',
      RELAY_PAIR_BYTES: '3MB',
      RELAY_QUOTA: '4GB/day',
      RELAY_QUOTA_RESET_DAY: '2',
      RELAY_QUOTA_COUNTS: 'in+out',
      RELAY_QUOTA_STATE: '/q',
      RELAY_QUOTA_GRACE: '1m',
      RELAY_DRAIN_DELAY: '2s',
      RELAY_DRAIN_TIMEOUT: '1s',
      RELAY_ACME_DOMAIN: 'relay.example.org',
      RELAY_ACME_EMAIL: 'operator@example.org',
      RELAY_ACME_AGREE: 'true',
      RELAY_ACME_DIRECTORY: 'https://ca.example.org/directory',
      RELAY_ACME_STATE: '/acme',
      RELAY_CLUSTER_URL: 'rediss://user:password@host:6380/2',
      RELAY_CLUSTER_LISTEN: 'tcp:5',
      RELAY_CLUSTER_ADVERTISE: '10.0.0.7:6',
      RELAY_CLUSTER_NETWORKS: '10.0.0.0/24',
      RELAY_CLUSTER_SECRET: '0123456789abcdef',
      RELAY_CLUSTER_TLS: 'true',
    };
    const files = Object.entries(values).map(([name, value]) => {
      const path = join(directory, name);
      writeFileSync(path, `${value}\n`);
      return [`${name}_FILE`, path];
    });
    const [filed, plain] = [readRelayConfig(Object.fromEntries(files), PID), readRelayConfig(values, PID)];
    assert.deepEqual(configIn(filed), configIn(plain));
    assert.deepEqual(filed.warnings, plain.warnings);
    assert.deepEqual(
      filed.settings,
      plain.settings.map((setting) =>
        Object.assign({}, setting, { file: join(directory, setting.variable) }),
      ),
    );
  });

  test('that are invalid are all reported with their paths, without their content', async (context) => {
    const directory = await scratch(context);
    const file = (name: string, text: string): string => {
      const path = join(directory, name);
      writeFileSync(path, text);
      return path;
    };
    mkdirSync(join(directory, 'folder'));
    const environment = {
      RELAY_LISTEN_FILE: file('listen', 'root:hunter2:19000'),
      RELAY_WEBSOCKET_LISTEN_FILE: file('websocket', 'tcp:4002:interface=hunter2'),
      RELAY_STATUS_LISTEN_FILE: join(directory, 'folder'),
      RELAY_USAGE_DB_FILE: join(directory, 'none'),
      RELAY_BLUR_USAGE_FILE: file('blur', 'hunter2'),
      RELAY_LOG_FD_FILE: file('large', 'hunter2'.repeat(10_000)),
      RELAY_LOG_LEVEL_FILE: file('level', 'hunter2\n'),
    };
    const errors = errorsOf(environment);
    assert.deepEqual(Object.fromEntries(errors.map(({ variable, value }) => [variable, value])), environment);
    const inside = 'the content of that file is invalid';
    assert.deepEqual(Object.fromEntries(errors.map(({ variable, problem }) => [variable, problem])), {
      RELAY_LISTEN_FILE: inside,
      RELAY_WEBSOCKET_LISTEN_FILE: inside,
      RELAY_STATUS_LISTEN_FILE: 'it is a directory',
      RELAY_USAGE_DB_FILE: 'there is no such file',
      RELAY_BLUR_USAGE_FILE: inside,
      RELAY_LOG_FD_FILE: 'it is larger than 65536 bytes, the maximum for a value',
      RELAY_LOG_LEVEL_FILE: inside,
    });
    assert.doesNotMatch(errors.map(formatConfigError).join('\n'), /hunter2/u);
  });

  test('without any listener are reported once', async (context) => {
    const path = join(await scratch(context), 'empty');
    writeFileSync(path, '\n');
    assert.deepEqual(
      errorsOf({ RELAY_LISTEN_FILE: path }).map(({ variable }) => variable),
      ['RELAY_LISTEN'],
    );
    assert.deepEqual(
      errorsOf({ RELAY_LISTEN: '', RELAY_WEBSOCKET_LISTEN_FILE: `${path}.none` }).map(
        ({ variable }) => variable,
      ),
      ['RELAY_WEBSOCKET_LISTEN_FILE'],
    );
  });

  test('are separate from those of the sidecar', () => {
    assert.deepEqual(readRelayConfig({ SIDECAR_TOKEN: 'x', SIDECAR_NONSENSE: 'x' }, PID).warnings, []);
    assert.deepEqual(readSidecarConfig({ SIDECAR_USAGE_DB: '/u', RELAY_NONSENSE: 'x' }).warnings, []);
  });
});
