import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { RELAY_DEFAULTS, readRelayConfig } from '../../../src/config/relay-config.ts';

type Environment = Readonly<Record<string, string>>;

/** What has no effect, and why. */
function warningsOf(environment: Environment): string[] {
  return readRelayConfig(environment, 1).warnings.map(({ event, message }) => {
    assert.equal(event, 'setting_without_effect');
    return message.replace(' has no effect because ', ': ');
  });
}

const QUOTA = { RELAY_QUOTA: '5TB/month', RELAY_QUOTA_STATE: '/q' };
const UNIX = { RELAY_LISTEN: 'unix:/run/relay.sock' };

const CASES: readonly (readonly [environment: Environment, reason: string, fixed: Environment])[] = [
  [{ RELAY_QUOTA_GRACE: '10m' }, 'RELAY_QUOTA_GRACE: RELAY_QUOTA is not set', QUOTA],
  [{ RELAY_QUOTA_COUNTS: 'in+out' }, 'RELAY_QUOTA_COUNTS: RELAY_QUOTA is not set', QUOTA],
  [{ RELAY_QUOTA_RESET_DAY: '15' }, 'RELAY_QUOTA_RESET_DAY: RELAY_QUOTA is not set', QUOTA],
  [{ RELAY_QUOTA_STATE: '/q' }, 'RELAY_QUOTA_STATE: RELAY_QUOTA is not set', QUOTA],
  [
    { ...QUOTA, RELAY_QUOTA: '5TB/day', RELAY_QUOTA_RESET_DAY: '15' },
    'RELAY_QUOTA_RESET_DAY: RELAY_QUOTA is per day',
    QUOTA,
  ],
  [
    { RELAY_USAGE_RETENTION: '400d' },
    'RELAY_USAGE_RETENTION: there is no usage database (RELAY_USAGE_DB)',
    { RELAY_USAGE_DB: '/u' },
  ],
  [
    { RELAY_MAX_WAITING: '11', RELAY_MAX_CONNECTIONS: '10' },
    'RELAY_MAX_WAITING: it is above RELAY_MAX_CONNECTIONS',
    { RELAY_MAX_CONNECTIONS: '11' },
  ],
  [
    { RELAY_MAX_CONNECTIONS_PER_ADDRESS: '11', RELAY_MAX_CONNECTIONS: '10' },
    'RELAY_MAX_CONNECTIONS_PER_ADDRESS: it is above RELAY_MAX_CONNECTIONS',
    { RELAY_MAX_CONNECTIONS: 'auto' },
  ],
  [
    { RELAY_PAIR_RATE: '20MB/s', RELAY_TOTAL_RATE: '80Mbit/s' },
    'RELAY_PAIR_RATE: it is above RELAY_TOTAL_RATE',
    { RELAY_TOTAL_RATE: '' },
  ],
  [
    { ...UNIX, RELAY_TRUSTED_PROXIES: '10.0.0.0/8' },
    'RELAY_TRUSTED_PROXIES: all endpoints for clients are unix sockets; add unix to it',
    { RELAY_TRUSTED_PROXIES: 'unix 10.0.0.0/8' },
  ],
  [
    { RELAY_TRUSTED_PROXIES: 'unix' },
    'RELAY_TRUSTED_PROXIES: no endpoint for clients is a unix socket',
    { RELAY_WEBSOCKET_LISTEN: 'systemd:domain=UNIX:index=0' },
  ],
];

describe('a setting without effect', () => {
  for (const [environment, reason, fixed] of CASES) {
    test(`causes a warning: ${reason}`, () => {
      assert.deepEqual(warningsOf(environment), [reason]);
      assert.deepEqual(warningsOf({ ...environment, ...fixed }), []);
    });
  }

  test('causes no warning if it is empty or has its default', () => {
    assert.deepEqual(warningsOf(RELAY_DEFAULTS), []);
    for (const [environment] of CASES) {
      const [variable = ''] = Object.keys(environment);
      assert.deepEqual(warningsOf({ [variable]: '' }), []);
    }
  });

  test('causes no warning if the setting that it needs is invalid', () => {
    const invalid = [
      { RELAY_QUOTA: '5TB', RELAY_QUOTA_GRACE: '10m' },
      { RELAY_USAGE_DB_FILE: '/nowhere', RELAY_USAGE_RETENTION: '400d' },
      { RELAY_LISTEN: 'nonsense', RELAY_TRUSTED_PROXIES: 'unix' },
    ];
    for (const environment of invalid) {
      const read = readRelayConfig(environment, 1);
      assert.deepEqual([read.kind, read.warnings], ['errors', []]);
    }
  });
});
