import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { formatConfigError } from '../../../src/config/environment.ts';
import type { RelayConfig } from '../../../src/config/relay-config.ts';
import type { ConfigError } from '../../../src/config/environment.ts';
import { RELAY_DEFAULTS, readRelayConfig } from '../../../src/config/relay-config.ts';
import { assertOnlyError, configIn, errorsIn, tcp } from './config-results.ts';

/** Any process id: systemd has passed no sockets. */
const PID = 1;

type Environment = Readonly<Record<string, string>>;

function configOf(environment: Environment): RelayConfig {
  return configIn(readRelayConfig(environment, PID));
}

function warningsOf(environment: Environment): readonly string[] {
  const result = readRelayConfig(environment, PID);
  assert.ok(result.kind === 'ok');
  return result.warnings.map(({ message }) => message);
}

function errorsOf(environment: Environment): readonly ConfigError[] {
  return errorsIn(readRelayConfig(environment, PID));
}

const inherited = {
  names: [],
  unavailableReason: 'systemd passed no sockets: start the relay with its .socket unit, with systemctl',
};

const DEFAULT_CONFIG = {
  listen: { raw: [tcp(4001)], websocket: [], status: [tcp(4003, '127.0.0.1')], inherited },
  usage: { databasePath: null, logFd: null, blurSeconds: 0, retentionMs: null },
  timeouts: { handshakeMs: 30_000, waitMs: 86_400_000, idleMs: 86_400_000 },
  limits: {
    maxConnections: 'auto',
    maxWaiting: 'auto',
    connectionsPerAddress: null,
    newConnectionsPerAddress: null,
    pairBytesPerSecond: null,
    totalBytesPerSecond: null,
    pairBytes: null,
  },
  quota: null,
  trustedProxies: [],
  logLevel: 'info',
  bufferMemoryBytes: 64 * 2 ** 20,
  drain: { delayMs: 5000, timeoutMs: 300_000 },
  cluster: null,
  acme: null,
};

const WITH_QUOTA = { RELAY_QUOTA: '1TB/month', RELAY_QUOTA_STATE: '/q' };
const QUOTA_CONFIG = {
  ...DEFAULT_CONFIG,
  quota: {
    limitBytes: 1e12,
    period: 'month',
    resetDay: 1,
    counts: 'relayed',
    path: '/q',
    graceMs: null,
  },
};

describe('the configuration', () => {
  test('has its defaults without an environment', () => {
    assert.deepEqual([configOf({}), warningsOf({})], [DEFAULT_CONFIG, []]);
  });

  test('is the same if the environment contains the defaults', () => {
    assert.deepEqual([configOf(RELAY_DEFAULTS), warningsOf(RELAY_DEFAULTS)], [DEFAULT_CONFIG, []]);
  });

  test('accepts every variable', () => {
    assert.deepEqual(
      configOf({
        RELAY_LISTEN: 'tcp:1 tcp:2:interface=127.0.0.1',
        RELAY_WEBSOCKET_LISTEN: '3\n4',
        RELAY_STATUS_LISTEN: 'unix:/run/status.sock:mode=600',
        RELAY_USAGE_DB: '/var/lib/relay/usage.sqlite',
        RELAY_USAGE_RETENTION: '400d',
        RELAY_LOG_FD: '3',
        RELAY_BLUR_USAGE: '3600',
        RELAY_LOG_LEVEL: 'debug',
        RELAY_BUFFER_MEMORY: '1GB',
        RELAY_HANDSHAKE_TIMEOUT: '5s',
        RELAY_WAIT_TIMEOUT: '2h',
        RELAY_IDLE_TIMEOUT: '1.5h',
        RELAY_MAX_CONNECTIONS: '2000',
        RELAY_MAX_WAITING: '500',
        RELAY_MAX_CONNECTIONS_PER_ADDRESS: '20',
        RELAY_NEW_CONNECTIONS_PER_ADDRESS: '60/min',
        RELAY_TRUSTED_PROXIES: '10.0.0.0/8, unix',
        RELAY_PAIR_RATE: '20MB/s',
        RELAY_TOTAL_RATE: '100Mbit/s',
        RELAY_PAIR_BYTES: '1GB',
        RELAY_QUOTA: '5TB/month',
        RELAY_QUOTA_RESET_DAY: '15',
        RELAY_QUOTA_COUNTS: 'in+out',
        RELAY_QUOTA_STATE: '/var/lib/relay/quota.json',
        RELAY_QUOTA_GRACE: '10m',
        RELAY_DRAIN_DELAY: '1s',
        RELAY_DRAIN_TIMEOUT: '1h',
        RELAY_ACME_DOMAIN: 'relay.example.org',
        RELAY_ACME_EMAIL: 'operator@example.org',
        RELAY_ACME_AGREE: 'true',
        RELAY_ACME_DIRECTORY: 'https://ca.example.org/dir',
        RELAY_ACME_STATE: '/var/lib/relay/acme',
        RELAY_CLUSTER_URL: 'redis://coordinator:6379',
        RELAY_CLUSTER_LISTEN: 'tcp:4005:interface=127.0.0.1',
        RELAY_CLUSTER_ADVERTISE: '[fd00::7]:4006',
        RELAY_CLUSTER_NETWORKS: '192.0.2.4',
        RELAY_CLUSTER_SECRET: 'a secret of many letters',
        RELAY_CLUSTER_TLS: 'true',
      }),
      {
        listen: {
          raw: [tcp(1), tcp(2, '127.0.0.1'), { ...tcp(443), tls: 'acme' }],
          websocket: [tcp(3), tcp(4)],
          status: [{ kind: 'unix', path: '/run/status.sock', mode: 0o600, backlog: null }],
          inherited,
        },
        usage: {
          databasePath: '/var/lib/relay/usage.sqlite',
          logFd: 3,
          blurSeconds: 3600,
          retentionMs: 400 * 86_400_000,
        },
        timeouts: { handshakeMs: 5000, waitMs: 7_200_000, idleMs: 5_400_000 },
        limits: {
          maxConnections: 2000,
          maxWaiting: 500,
          connectionsPerAddress: 20,
          newConnectionsPerAddress: { count: 60, perMs: 60_000 },
          pairBytesPerSecond: 20e6,
          totalBytesPerSecond: 12.5e6,
          pairBytes: 1e9,
        },
        quota: {
          limitBytes: 5e12,
          period: 'month',
          resetDay: 15,
          counts: 'in+out',
          path: '/var/lib/relay/quota.json',
          graceMs: 600_000,
        },
        trustedProxies: [{ kind: 'network', start: Uint8Array.of(10, 0, 0, 0), bits: 8 }, { kind: 'unix' }],
        logLevel: 'debug',
        bufferMemoryBytes: 1e9,
        drain: { delayMs: 1000, timeoutMs: 3_600_000 },
        cluster: {
          coordinator: {
            host: 'coordinator',
            port: 6379,
            tls: false,
            credentials: [],
            database: 0,
          },
          listen: tcp(4005, '127.0.0.1'),
          advertise: { host: 'fd00::7', port: 4006 },
          networks: [{ kind: 'network', start: Uint8Array.of(192, 0, 2, 4), bits: 32 }],
          secret: 'a secret of many letters',
          tls: true,
        },
        acme: {
          domains: ['relay.example.org'],
          email: 'operator@example.org',
          directoryUrl: 'https://ca.example.org/dir',
          statePath: '/var/lib/relay/acme',
        },
      },
    );
  });

  test('ignores blanks around values and the case of the log level', () => {
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
    ['RELAY_USAGE_RETENTION', {}, DEFAULT_CONFIG],
    ['RELAY_LOG_FD', {}, { ...DEFAULT_CONFIG, usage: { ...usage, logFd: null } }],
    ['RELAY_BLUR_USAGE', {}, { ...DEFAULT_CONFIG, usage: { ...usage, blurSeconds: 0 } }],
    ['RELAY_LOG_LEVEL', {}, { ...DEFAULT_CONFIG, logLevel: 'silent' }],
    ['RELAY_BUFFER_MEMORY', {}, { ...DEFAULT_CONFIG, bufferMemoryBytes: 0 }],
    ['RELAY_HANDSHAKE_TIMEOUT', {}, { ...DEFAULT_CONFIG, timeouts: { ...timeouts, handshakeMs: null } }],
    ['RELAY_WAIT_TIMEOUT', {}, { ...DEFAULT_CONFIG, timeouts: { ...timeouts, waitMs: null } }],
    ['RELAY_IDLE_TIMEOUT', {}, { ...DEFAULT_CONFIG, timeouts: { ...timeouts, idleMs: null } }],
    [
      'RELAY_MAX_CONNECTIONS',
      {},
      { ...DEFAULT_CONFIG, limits: { ...DEFAULT_CONFIG.limits, maxConnections: null } },
    ],
    ['RELAY_MAX_WAITING', {}, { ...DEFAULT_CONFIG, limits: { ...DEFAULT_CONFIG.limits, maxWaiting: null } }],
    ['RELAY_MAX_CONNECTIONS_PER_ADDRESS', {}, DEFAULT_CONFIG],
    ['RELAY_NEW_CONNECTIONS_PER_ADDRESS', {}, DEFAULT_CONFIG],
    ['RELAY_TRUSTED_PROXIES', {}, DEFAULT_CONFIG],
    ['RELAY_PAIR_RATE', {}, DEFAULT_CONFIG],
    ['RELAY_TOTAL_RATE', {}, DEFAULT_CONFIG],
    ['RELAY_PAIR_BYTES', {}, DEFAULT_CONFIG],
    ['RELAY_QUOTA', {}, DEFAULT_CONFIG],
    ['RELAY_QUOTA_RESET_DAY', WITH_QUOTA, QUOTA_CONFIG],
    ['RELAY_QUOTA_COUNTS', WITH_QUOTA, QUOTA_CONFIG],
    ['RELAY_QUOTA_GRACE', WITH_QUOTA, QUOTA_CONFIG],
    ['RELAY_QUOTA_STATE', {}, DEFAULT_CONFIG],
    ['RELAY_DRAIN_DELAY', {}, { ...DEFAULT_CONFIG, drain: { delayMs: 0, timeoutMs: 300_000 } }],
    ['RELAY_DRAIN_TIMEOUT', {}, { ...DEFAULT_CONFIG, drain: { delayMs: 5000, timeoutMs: 0 } }],
    // acme-config.test.ts tests them with a domain.
    ['RELAY_ACME_DOMAIN', {}, DEFAULT_CONFIG],
    ['RELAY_ACME_EMAIL', {}, DEFAULT_CONFIG],
    ['RELAY_ACME_AGREE', {}, DEFAULT_CONFIG],
    ['RELAY_ACME_DIRECTORY', {}, DEFAULT_CONFIG],
    ['RELAY_ACME_STATE', {}, DEFAULT_CONFIG],
    ['RELAY_CLUSTER_URL', { RELAY_CLUSTER_SECRET: 'a secret of many letters' }, DEFAULT_CONFIG],
    // These have no effect without a URL; cluster-config.test.ts tests them.
    ['RELAY_CLUSTER_LISTEN', {}, DEFAULT_CONFIG],
    ['RELAY_CLUSTER_ADVERTISE', {}, DEFAULT_CONFIG],
    ['RELAY_CLUSTER_NETWORKS', {}, DEFAULT_CONFIG],
    ['RELAY_CLUSTER_SECRET', {}, DEFAULT_CONFIG],
    ['RELAY_CLUSTER_TLS', {}, DEFAULT_CONFIG],
  ];
  for (const [variable, more, expected] of cases) {
    test(`of ${variable} turns it off`, () => {
      assert.deepEqual(configOf({ ...more, [variable]: '' }), expected);
      assert.deepEqual(configOf({ ...more, [variable]: ' \n' }), expected);
    });
  }

  test('is tested for every variable', () => {
    assert.deepEqual(cases.map(([variable]) => variable).toSorted(), Object.keys(RELAY_DEFAULTS).toSorted());
  });
});

describe('the quota', () => {
  test('is stored beside the usage database by default', () => {
    const config = configOf({ RELAY_QUOTA: '1TB/month', RELAY_USAGE_DB: '/data/usage.sqlite' });
    assert.equal(config.quota?.path, '/data/usage.sqlite-quota.json');
  });

  test('needs a file', () => {
    const [error, ...more] = errorsOf({ RELAY_QUOTA: '1TB/month' });
    assert.deepEqual(more, []);
    assert.equal(error?.variable, 'RELAY_QUOTA_STATE');
    assert.match(error?.problem ?? '', /survive restarts/u);
  });
});

test('the lowest numbers that errors name are accepted', () => {
  const lowest = {
    RELAY_LOG_FD: '1',
    RELAY_BLUR_USAGE: '0',
    RELAY_MAX_CONNECTIONS: '1',
    RELAY_MAX_CONNECTIONS_PER_ADDRESS: '1',
  };
  const { usage, limits } = configOf(lowest);
  assert.deepEqual([usage.logFd, usage.blurSeconds], [1, 0]);
  assert.deepEqual([limits.maxConnections, limits.connectionsPerAddress], [1, 1]);
});

describe('a value that cannot be used', () => {
  const cases: readonly (readonly [variable: string, value: string, accepted: RegExp])[] = [
    ['RELAY_STATUS_LISTEN', 'ssl:1:privateKey=/k', /tcp:4003/u],
    ['RELAY_MAX_CONNECTIONS', '0', /from 1/u],
    ['RELAY_MAX_CONNECTIONS', 'many', /auto/u],
    ['RELAY_MAX_WAITING', '-1', /auto/u],
    ['RELAY_MAX_CONNECTIONS_PER_ADDRESS', 'auto', /from 1/u],
    ['RELAY_NEW_CONNECTIONS_PER_ADDRESS', '60', /60\/min/u],
    ['RELAY_TRUSTED_PROXIES', '10.0.0.1/8', /10\.0\.0\.0\/8/u],
    ['RELAY_PAIR_RATE', '20MB', /MB\/s/u],
    ['RELAY_TOTAL_RATE', 'fast', /Mbit\/s/u],
    ['RELAY_PAIR_BYTES', '0', /above 0/u],
    ['RELAY_QUOTA', '5TB/year', /month/u],
    ['RELAY_QUOTA_RESET_DAY', '32', /1 to 31/u],
    ['RELAY_QUOTA_COUNTS', 'in', /in\+out/u],
    ['RELAY_QUOTA_GRACE', 'soon', /duration/u],
    ['RELAY_DRAIN_DELAY', '-1s', /duration/u],
    ['RELAY_LISTEN', 'tcp:70000', /tcp:4001.*unix:/u],
    ['RELAY_WEBSOCKET_LISTEN', 'ws://localhost', /tcp:4001.*unix:/u],
    ['RELAY_STATUS_LISTEN', 'off', /tcp:4003.*unix:/u],
    ['RELAY_LOG_FD', 'stdout', /file descriptor/u],
    ['RELAY_LOG_FD', '0', /from 1/u],
    ['RELAY_LOG_FD', '-1', /from 1/u],
    ['RELAY_LOG_FD', '1.5', /from 1/u],
    ['RELAY_LOG_FD', '1000000', /file descriptor/u],
    ...['400', '0d', '59m', '1.5d', '36501d', '-1d', 'forever'].map(
      (text) =>
        ['RELAY_USAGE_RETENTION', text, /days or hours like 400d.*empty to keep all records/u] as const,
    ),
    ['RELAY_BLUR_USAGE', '-60', /seconds/u],
    ['RELAY_BLUR_USAGE', '0.5', /whole seconds/u],
    ['RELAY_BLUR_USAGE', '1500ms', /whole seconds/u],
    ['RELAY_BLUR_USAGE', '1000000000', /999999999/u],
    ['RELAY_BUFFER_MEMORY', 'lots', /500kB, 64MiB or 2GB/u],
    ['RELAY_BUFFER_MEMORY', '64', /500kB, 64MiB or 2GB/u],
    ['RELAY_PAIR_BYTES', '50', /500kB, 64MiB or 2GB/u],
    ['RELAY_QUOTA', '5TB', /5TB\/month/u],
    ['RELAY_LOG_LEVEL', 'loud', /trace, debug, info, warn, error, fatal, silent/u],
    ['RELAY_HANDSHAKE_TIMEOUT', '0', /duration.*empty for no limit/u],
    ['RELAY_WAIT_TIMEOUT', 'never', /a duration like/u],
    ['RELAY_IDLE_TIMEOUT', '-1s', /a duration like/u],
    ['RELAY_DRAIN_TIMEOUT', 'soon', /duration.*90s/u],
    ['RELAY_DRAIN_TIMEOUT', '25d', /24d/u],
  ];
  for (const [variable, value, accepted] of cases) {
    test(`is an error that names it: ${variable}=${value}`, () => {
      assertOnlyError(readRelayConfig({ [variable]: value }, PID), variable, value, accepted);
    });
  }

  test('names the invalid endpoint and the problem', () => {
    const [error] = errorsOf({ RELAY_LISTEN: 'tcp:4001 tcp:http' });
    assert.match(error?.problem ?? '', /"http" is not a port/u);
    assert.ok(error !== undefined);
    assert.match(formatConfigError(error), /: "http" is not a port/u);
  });

  test('is reported together with all others', () => {
    const environment = {
      RELAY_LISTEN: 'x',
      RELAY_WEBSOCKET_LISTEN: 'y',
      RELAY_STATUS_LISTEN: 'z',
      RELAY_LOG_FD: '-',
      RELAY_BLUR_USAGE: 'much',
      RELAY_LOG_LEVEL: 'loud',
      RELAY_DRAIN_TIMEOUT: 'soon',
    };
    const errors = errorsOf(environment);
    assert.deepEqual(Object.fromEntries(errors.map(({ variable, value }) => [variable, value])), environment);
    assert.equal(errors.length, 7);
    for (const error of errors) assert.notEqual(error.accepted, '');
  });
});

describe('a relay without a listener for clients', () => {
  test('is an error, even with a status page', () => {
    for (const environment of [
      { RELAY_LISTEN: '' },
      { RELAY_LISTEN: '', RELAY_WEBSOCKET_LISTEN: '' },
      { RELAY_LISTEN: ' ', RELAY_STATUS_LISTEN: '4003' },
    ]) {
      const [error, ...others] = errorsOf(environment);
      assert.deepEqual(others, []);
      assert.equal(error?.variable, 'RELAY_LISTEN');
      assert.match(error.problem ?? '', /RELAY_WEBSOCKET_LISTEN/u);
      assert.match(error.accepted, /tcp:4001/u);
    }
  });

  test('is not reported if its only listener is invalid', () => {
    assert.deepEqual(
      errorsOf({ RELAY_LISTEN: '', RELAY_WEBSOCKET_LISTEN: 'x' }).map(({ variable }) => variable),
      ['RELAY_WEBSOCKET_LISTEN'],
    );
    assert.deepEqual(
      errorsOf({ RELAY_LISTEN: 'x' }).map(({ variable }) => variable),
      ['RELAY_LISTEN'],
    );
  });

  test('is reported together with other errors', () => {
    const errors = errorsOf({ RELAY_LISTEN: '', RELAY_LOG_LEVEL: 'loud' });
    assert.deepEqual(errors.map(({ variable }) => variable).toSorted(), ['RELAY_LISTEN', 'RELAY_LOG_LEVEL']);
  });
});

describe('an unknown variable', () => {
  const cases: readonly (readonly [name: string, nearest: string])[] = [
    ['RELAY_LISTENS', 'RELAY_LISTEN'],
    ['RELAY_LISTEM', 'RELAY_LISTEN'],
    ['RELAY_USAGE_DBS', 'RELAY_USAGE_DB'],
    ['RELAY_USAGE', 'RELAY_USAGE_DB'],
    ['RELAY_WEBSOCKET', 'RELAY_WEBSOCKET_LISTEN'],
    ['RELAY_WEBSOCKET_LISTENS', 'RELAY_WEBSOCKET_LISTEN'],
    ['RELAY_STATUS', 'RELAY_STATUS_LISTEN'],
    ['RELAY_BLUR', 'RELAY_BLUR_USAGE'],
    ['RELAY_DRAIN_TIME', 'RELAY_DRAIN_TIMEOUT'],
    ['RELAY_LOGLEVEL', 'RELAY_LOG_LEVEL'],
    ['RELAY_USAGE_LOG_FD', 'RELAY_LOG_FD'],
  ];
  for (const [name, nearest] of cases) {
    test(`${name} causes a warning with ${nearest}`, () => {
      const warnings = warningsOf({ [name]: 'x' });
      assert.equal(warnings.length, 1);
      assert.match(warnings[0] ?? '', new RegExp(`^${name} .* ${nearest}$`, 'u'));
    });
  }

  test('changes nothing', () => {
    assert.deepEqual(configOf({ RELAY_LISTENS: '5000' }), DEFAULT_CONFIG);
  });

  test('causes one warning each', () => {
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
    assert.deepEqual([configOf(others), warningsOf(others)], [DEFAULT_CONFIG, []]);
  });
});
