import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { formatFault } from '../../src/config/config.ts';
import type { Config, Fault } from '../../src/config/config.ts';
import { DEFAULTS, readEnv } from '../../src/config/read-env.ts';

type Environment = Readonly<Record<string, string>>;

function configOf(environment: Environment): Config {
  const result = readEnv(environment);
  assert.equal(result.kind, 'ok', JSON.stringify(result));
  assert.ok(result.kind === 'ok');
  return result.config;
}

function warningsOf(environment: Environment): readonly string[] {
  const result = readEnv(environment);
  assert.ok(result.kind === 'ok');
  return result.warnings;
}

function faultsOf(environment: Environment): readonly Fault[] {
  const result = readEnv(environment);
  assert.ok(result.kind === 'faults', 'there are faults');
  return result.faults;
}

const tcp = (port: number, address: string | null = null): object => ({
  kind: 'tcp',
  port,
  interface: address,
  backlog: null,
  tls: null,
});

const DEFAULT_CONFIG = {
  listen: { raw: [tcp(4001)], websocket: [], status: [tcp(4003, '127.0.0.1')] },
  usage: { databasePath: null, logFd: null, blurSeconds: 0 },
  timeouts: { handshakeMs: 30_000, waitMs: 86_400_000, idleMs: 86_400_000 },
  logLevel: 'info',
  bufferMemoryBytes: 64 * 2 ** 20,
  drainTimeoutMs: 8000,
};

describe('the configuration', () => {
  test('has its defaults where the environment says nothing', () => {
    assert.deepEqual(readEnv({}), { kind: 'ok', config: DEFAULT_CONFIG, warnings: [] });
  });

  test('is the same where the environment says the defaults', () => {
    assert.deepEqual(readEnv(DEFAULTS), { kind: 'ok', config: DEFAULT_CONFIG, warnings: [] });
  });

  test('takes every variable', () => {
    assert.deepEqual(
      configOf({
        RELAY_LISTEN: 'tcp:1 tcp:2:interface=127.0.0.1',
        RELAY_WEBSOCKET_LISTEN: '3\n4',
        RELAY_STATUS_LISTEN: 'unix:/run/status.sock:mode=600',
        RELAY_USAGE_DB: '/var/lib/relay/usage.sqlite',
        RELAY_LOG_FD: '3',
        RELAY_BLUR_USAGE: '3600',
        RELAY_LOG_LEVEL: 'debug',
        RELAY_BUFFER_MEMORY: '1GB',
        RELAY_HANDSHAKE_TIMEOUT: '5s',
        RELAY_WAIT_TIMEOUT: '2h',
        RELAY_IDLE_TIMEOUT: '1.5h',
        RELAY_DRAIN_TIMEOUT: '5m',
      }),
      {
        listen: {
          raw: [tcp(1), tcp(2, '127.0.0.1')],
          websocket: [tcp(3), tcp(4)],
          status: [{ kind: 'unix', path: '/run/status.sock', mode: 0o600, backlog: null }],
        },
        usage: { databasePath: '/var/lib/relay/usage.sqlite', logFd: 3, blurSeconds: 3600 },
        timeouts: { handshakeMs: 5000, waitMs: 7_200_000, idleMs: 5_400_000 },
        logLevel: 'debug',
        bufferMemoryBytes: 1e9,
        drainTimeoutMs: 300_000,
      },
    );
  });

  test('does not mind blanks around values, or the case of the log level', () => {
    const config = configOf({ RELAY_LOG_LEVEL: ' WARN ', RELAY_USAGE_DB: ' /x ', RELAY_BLUR_USAGE: ' 60\n' });
    assert.equal(config.logLevel, 'warn');
    assert.equal(config.usage.databasePath, '/x');
    assert.equal(config.usage.blurSeconds, 60);
  });
});

describe('an empty value', () => {
  const { listen, timeouts, usage } = DEFAULT_CONFIG;
  const cases: readonly (readonly [variable: string, more: Environment, expected: object])[] = [
    [
      'RELAY_LISTEN',
      { RELAY_WEBSOCKET_LISTEN: '4002' },
      { ...DEFAULT_CONFIG, listen: { ...listen, raw: [], websocket: [tcp(4002)] } },
    ],
    ['RELAY_WEBSOCKET_LISTEN', {}, DEFAULT_CONFIG],
    ['RELAY_STATUS_LISTEN', {}, { ...DEFAULT_CONFIG, listen: { ...listen, status: [] } }],
    ['RELAY_USAGE_DB', {}, { ...DEFAULT_CONFIG, usage: { ...usage, databasePath: null } }],
    ['RELAY_LOG_FD', {}, { ...DEFAULT_CONFIG, usage: { ...usage, logFd: null } }],
    ['RELAY_BLUR_USAGE', {}, { ...DEFAULT_CONFIG, usage: { ...usage, blurSeconds: 0 } }],
    ['RELAY_LOG_LEVEL', {}, { ...DEFAULT_CONFIG, logLevel: 'silent' }],
    ['RELAY_BUFFER_MEMORY', {}, { ...DEFAULT_CONFIG, bufferMemoryBytes: 0 }],
    ['RELAY_HANDSHAKE_TIMEOUT', {}, { ...DEFAULT_CONFIG, timeouts: { ...timeouts, handshakeMs: null } }],
    ['RELAY_WAIT_TIMEOUT', {}, { ...DEFAULT_CONFIG, timeouts: { ...timeouts, waitMs: null } }],
    ['RELAY_IDLE_TIMEOUT', {}, { ...DEFAULT_CONFIG, timeouts: { ...timeouts, idleMs: null } }],
    ['RELAY_DRAIN_TIMEOUT', {}, { ...DEFAULT_CONFIG, drainTimeoutMs: 0 }],
  ];
  for (const [variable, more, expected] of cases) {
    test(`of ${variable} turns it off`, () => {
      assert.deepEqual(configOf({ ...more, [variable]: '' }), expected);
      assert.deepEqual(configOf({ ...more, [variable]: ' \n' }), expected);
    });
  }

  test('is tried here for every variable there is', () => {
    assert.deepEqual(cases.map(([variable]) => variable).toSorted(), Object.keys(DEFAULTS).toSorted());
  });
});

describe('a value that can not be used', () => {
  const cases: readonly (readonly [variable: string, value: string, accepted: RegExp])[] = [
    ['RELAY_LISTEN', 'tcp:70000', /tcp:4001.*unix:/u],
    ['RELAY_WEBSOCKET_LISTEN', 'ws://localhost', /tcp:4001.*unix:/u],
    ['RELAY_STATUS_LISTEN', 'off', /tcp:4001.*unix:/u],
    ['RELAY_LOG_FD', 'stdout', /file descriptor/u],
    ['RELAY_LOG_FD', '0', /from 1/u],
    ['RELAY_LOG_FD', '-1', /from 1/u],
    ['RELAY_LOG_FD', '1.5', /from 1/u],
    ['RELAY_LOG_FD', '1000000', /file descriptor/u],
    ['RELAY_BLUR_USAGE', '-60', /seconds/u],
    ['RELAY_BLUR_USAGE', '1h', /seconds/u],
    ['RELAY_BLUR_USAGE', '0.5', /whole seconds/u],
    ['RELAY_BLUR_USAGE', '1000000000', /999999999/u],
    ['RELAY_BUFFER_MEMORY', 'lots', /500kB, 64MiB or 2GB/u],
    ['RELAY_LOG_LEVEL', 'loud', /trace, debug, info, warn, error, fatal, silent/u],
    ['RELAY_HANDSHAKE_TIMEOUT', '0', /duration.*nothing for no limit/u],
    ['RELAY_WAIT_TIMEOUT', 'never', /a duration like/u],
    ['RELAY_IDLE_TIMEOUT', '-1s', /a duration like/u],
    ['RELAY_DRAIN_TIMEOUT', 'soon', /duration.*90s/u],
    ['RELAY_DRAIN_TIMEOUT', '25d', /24d/u],
  ];
  for (const [variable, value, accepted] of cases) {
    test(`is a fault that names it: ${variable}=${value}`, () => {
      const faults = faultsOf({ [variable]: value });
      assert.equal(faults.length, 1);
      const [fault] = faults;
      assert.ok(fault !== undefined);
      assert.equal(fault.variable, variable);
      assert.equal(fault.value, value);
      assert.match(fault.accepted, accepted);
      const sentence = formatFault(fault);
      assert.ok(sentence.includes(variable) && sentence.includes(JSON.stringify(value)), sentence);
      assert.ok(sentence.includes(fault.accepted), sentence);
    });
  }

  test('says which endpoint is wrong, and why', () => {
    const [fault] = faultsOf({ RELAY_LISTEN: 'tcp:4001 tcp:http' });
    assert.match(fault?.problem ?? '', /"http" is no port/u);
    assert.ok(fault !== undefined);
    assert.match(formatFault(fault), /: "http" is no port/u);
  });

  test('is told together with all the others', () => {
    const environment = {
      RELAY_LISTEN: 'x',
      RELAY_WEBSOCKET_LISTEN: 'y',
      RELAY_STATUS_LISTEN: 'z',
      RELAY_LOG_FD: '-',
      RELAY_BLUR_USAGE: 'much',
      RELAY_LOG_LEVEL: 'loud',
      RELAY_DRAIN_TIMEOUT: 'soon',
    };
    const faults = faultsOf(environment);
    assert.deepEqual(Object.fromEntries(faults.map(({ variable, value }) => [variable, value])), environment);
    assert.equal(faults.length, 7);
    for (const fault of faults) assert.notEqual(fault.accepted, '');
  });
});

describe('a relay that nobody could reach', () => {
  test('is a fault, even with a status page', () => {
    for (const environment of [
      { RELAY_LISTEN: '' },
      { RELAY_LISTEN: '', RELAY_WEBSOCKET_LISTEN: '' },
      { RELAY_LISTEN: ' ', RELAY_STATUS_LISTEN: '4003' },
    ]) {
      const [fault, ...others] = faultsOf(environment);
      assert.deepEqual(others, []);
      assert.equal(fault?.variable, 'RELAY_LISTEN');
      assert.match(fault.problem ?? '', /RELAY_WEBSOCKET_LISTEN/u);
      assert.match(fault.accepted, /tcp:4001/u);
    }
  });

  test('is not told of where the only listener is merely written wrong', () => {
    assert.deepEqual(
      faultsOf({ RELAY_LISTEN: '', RELAY_WEBSOCKET_LISTEN: 'x' }).map(({ variable }) => variable),
      ['RELAY_WEBSOCKET_LISTEN'],
    );
    assert.deepEqual(
      faultsOf({ RELAY_LISTEN: 'x' }).map(({ variable }) => variable),
      ['RELAY_LISTEN'],
    );
  });

  test('is told of together with other faults', () => {
    const faults = faultsOf({ RELAY_LISTEN: '', RELAY_LOG_LEVEL: 'loud' });
    assert.deepEqual(faults.map(({ variable }) => variable).toSorted(), ['RELAY_LISTEN', 'RELAY_LOG_LEVEL']);
  });
});

describe('an unknown variable', () => {
  const cases: readonly (readonly [name: string, nearest: string])[] = [
    ['RELAY_LISTENS', 'RELAY_LISTEN'],
    ['RELAY_LISTEM', 'RELAY_LISTEN'],
    ['RELAY_USAGE_DBS', 'RELAY_USAGE_DB'],
    ['RELAY_USAGE', 'RELAY_USAGE_DB'],
    ['RELAY_WEBSOCKET', 'RELAY_WEBSOCKET_LISTEN'],
    ['RELAY_WEBSOCKET_PORT', 'RELAY_WEBSOCKET_LISTEN'],
    ['RELAY_WEBSOCKET_LISTENS', 'RELAY_WEBSOCKET_LISTEN'],
    ['RELAY_STATUS', 'RELAY_STATUS_LISTEN'],
    ['RELAY_BLUR', 'RELAY_BLUR_USAGE'],
    ['RELAY_DRAIN', 'RELAY_DRAIN_TIMEOUT'],
    ['RELAY_LOGLEVEL', 'RELAY_LOG_LEVEL'],
    ['RELAY_USAGE_LOG_FD', 'RELAY_LOG_FD'],
  ];
  for (const [name, nearest] of cases) {
    test(`${name} is a warning that names ${nearest}`, () => {
      const warnings = warningsOf({ [name]: 'x' });
      assert.equal(warnings.length, 1);
      assert.match(warnings[0] ?? '', new RegExp(`^${name} .* ${nearest}$`, 'u'));
    });
  }

  test('changes nothing', () => {
    assert.deepEqual(configOf({ RELAY_LISTENS: '5000' }), DEFAULT_CONFIG);
  });

  test('has a warning of its own for each', () => {
    assert.equal(warningsOf({ RELAY_LISTENS: '1', RELAY_BLURR_USAGE: '2', RELAY_LISTEN: '3' }).length, 2);
  });

  test('of another program is ignored', () => {
    const others = {
      PATH: '/bin',
      HOME: '/',
      relay_listen: 'x',
      MY_RELAY_LISTEN: 'x',
      RELAYS: 'x',
      LISTEN: 'x',
    };
    assert.deepEqual(readEnv(others), { kind: 'ok', config: DEFAULT_CONFIG, warnings: [] });
  });
});
