import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { parseCoordinatorUrl } from '../../../src/config/cluster-config.ts';
import type { ClusterConfig } from '../../../src/config/cluster-config.ts';
import { InvalidValue, formatConfigError } from '../../../src/config/environment.ts';
import { readRelayConfig } from '../../../src/config/relay-config.ts';
import { formatCidr } from '../../../src/config/trusted-proxies.ts';
import { configIn, errorsIn } from './config-results.ts';

const SECRET = '0123456789abcdef';
const CLUSTER = { RELAY_CLUSTER_URL: 'redis://coordinator', RELAY_CLUSTER_SECRET: SECRET };

type Environment = Readonly<Record<string, string>>;

function clusterOf(environment: Environment): ClusterConfig | null {
  return configIn(readRelayConfig(environment, 1)).cluster;
}

function errorsOf(environment: Environment): string[] {
  return errorsIn(readRelayConfig(environment, 1)).map(formatConfigError);
}

describe('a cluster of relays', () => {
  test('needs a coordinator, regardless of other settings', () => {
    assert.equal(clusterOf({}), null);
    assert.equal(clusterOf({ RELAY_CLUSTER_SECRET: 'short', RELAY_CLUSTER_LISTEN: 'nonsense' }), null);
  });

  test('needs a secret, and suggests how to create one', () => {
    const [error = '', ...more] = errorsOf({ RELAY_CLUSTER_URL: 'redis://coordinator' });
    assert.deepEqual(more, []);
    assert.match(
      error,
      /RELAY_CLUSTER_SECRET.*it is required because RELAY_CLUSTER_URL is set.*openssl rand -hex 32/u,
    );
    assert.equal(errorsOf({ ...CLUSTER, RELAY_CLUSTER_SECRET: 'fifteen letters' }).length > 0, true);
  });

  test('encrypts links if configured', () => {
    assert.equal(clusterOf(CLUSTER)?.tls, false);
    assert.equal(clusterOf({ ...CLUSTER, RELAY_CLUSTER_TLS: 'false' })?.tls, false);
    assert.equal(clusterOf({ ...CLUSTER, RELAY_CLUSTER_TLS: 'true' })?.tls, true);
    const [error = ''] = errorsOf({ ...CLUSTER, RELAY_CLUSTER_TLS: 'yes' });
    assert.match(error, /RELAY_CLUSTER_TLS.*yes.*true or false/u);
  });

  test('listens on port 4005 by default, and needs a TCP listener', () => {
    assert.equal(clusterOf(CLUSTER)?.listen.port, 4005);
    for (const listen of ['', 'unix:/run/cluster.sock', 'tcp:1 tcp:2']) {
      const errors = errorsOf({ ...CLUSTER, RELAY_CLUSTER_LISTEN: listen });
      assert.ok(
        errors.some((error) => error.includes('RELAY_CLUSTER_LISTEN')),
        errors.join(),
      );
    }
  });

  for (const [text, expected] of [
    ['10.0.0.7', { host: '10.0.0.7', port: null }],
    ['10.0.0.7:5', { host: '10.0.0.7', port: 5 }],
    ['relay-1.relays.svc:65535', { host: 'relay-1.relays.svc', port: 65_535 }],
    ['fd00::7', { host: 'fd00::7', port: null }],
    ['[fd00::7]', { host: 'fd00::7', port: null }],
    ['relay_1:5', { host: 'relay_1', port: 5 }],
    ['[fd00::7]:80', { host: 'fd00::7', port: 80 }],
  ] as const) {
    test(`advertises this relay as ${text}`, () => {
      assert.deepEqual(clusterOf({ ...CLUSTER, RELAY_CLUSTER_ADVERTISE: text })?.advertise, expected);
    });
  }

  test('accepts relays from all networks by default, or from the configured ones', () => {
    assert.deepEqual(clusterOf(CLUSTER)?.networks, []);
    const networks = clusterOf({ ...CLUSTER, RELAY_CLUSTER_NETWORKS: '10.0.0.0/24, fd00::/64' })?.networks;
    assert.deepEqual(networks?.map(formatCidr), ['10.0.0.0/24', 'fd00::/64']);
    for (const text of ['10.0.0.7/24', 'relay-1', '10.0.0.0/33', 'unix', '10.0.0.0/24 unix']) {
      const [error = ''] = errorsOf({ ...CLUSTER, RELAY_CLUSTER_NETWORKS: text });
      assert.match(error, /RELAY_CLUSTER_NETWORKS.*addresses and networks like 10\.0\.0\.0\/24/u);
    }
  });

  for (const text of [
    '10.0.0.7:0',
    '10.0.0.7:65536',
    '10.0.0.256:1',
    '10.7:1',
    '2130706433',
    'relay-:1',
    '[fe80::1%eth0]:1',
    ':4005',
    '[relay]:4005',
    'a b',
    'tcp:1:2',
    '[fd00::7',
    '0.0.0.0',
    '0.0.0.0:4005',
    '::',
    '[::]:4005',
  ]) {
    test(`rejects ${text} as the advertised address`, () => {
      const [error = ''] = errorsOf({ ...CLUSTER, RELAY_CLUSTER_ADVERTISE: text });
      assert.match(error, /RELAY_CLUSTER_ADVERTISE/u);
    });
  }

  for (const url of [
    'redis://h/abc',
    'redis://:hunter2@h/1/2',
    'redis://:hunter2%@h',
    'redis://hunter2%zz:x@h',
    'redis://:hunter2/3@h',
    'redis:///1',
  ]) {
    test(`rejects the coordinator ${url.replace('hunter2', '…')}, and explains the format`, () => {
      const [error = '', ...more] = errorsOf({ ...CLUSTER, RELAY_CLUSTER_URL: url });
      assert.deepEqual(more, []);
      assert.match(error, /RELAY_CLUSTER_URL.*redis:\/\/:PASSWORD@HOST:6379.*%25 stands for %/u);
      assert.doesNotMatch(error, /hunter2/u);
    });
  }

  test('uses the same coordinator address and password as the Redis library', () => {
    const url = 'rediss://relay:100%25%2F%23%3F%40@[fd00::7]:6380/3';
    assert.deepEqual(clusterOf({ ...CLUSTER, RELAY_CLUSTER_URL: url })?.coordinator, {
      host: 'fd00::7',
      port: 6380,
      tls: true,
      credentials: ['relay', '100%/#?@'],
      database: 3,
    });
  });

  test('repeats nothing of an invalid coordinator URL', () => {
    for (const url of ['', 'http://user:secret@host', 'redis://user:secret@host:port', 'secret']) {
      assert.throws(
        () => parseCoordinatorUrl(url),
        (error: Error) => {
          assert.doesNotMatch(JSON.stringify(Object.getOwnPropertyDescriptors(error)), /user|:secret|:port/u);
          return error instanceof InvalidValue;
        },
      );
    }
  });

  test('reports an invalid value once', () => {
    const wrong = { RELAY_CLUSTER_SECRET: 'short', RELAY_CLUSTER_LISTEN: 'nonsense' };
    assert.equal(errorsOf({ ...CLUSTER, ...wrong }).length, 2);
    const missing = { RELAY_CLUSTER_URL: 'redis://h', RELAY_CLUSTER_SECRET_FILE: '/nowhere' };
    assert.equal(errorsOf(missing).length, 1);
  });

  test('warns about settings without effect if there is no coordinator', () => {
    const warningsOf = (environment: Readonly<Record<string, string>>): readonly string[] =>
      readRelayConfig(environment, 1).warnings.map(({ message }) => message);
    const [warning = '', ...more] = warningsOf({
      RELAY_CLUSTER_SECRET: SECRET,
      RELAY_CLUSTER_LISTEN: 'tcp:5',
    });
    assert.deepEqual(more, []);
    assert.match(warning, /^RELAY_CLUSTER_SECRET has no effect because RELAY_CLUSTER_URL is not set/u);
    assert.ok(!warning.includes(SECRET));
    assert.equal(warningsOf({ RELAY_CLUSTER_TLS_FILE: '/x', RELAY_CLUSTER_ADVERTISE: 'a' }).length, 2);
    assert.deepEqual(warningsOf({ RELAY_CLUSTER_SECRET: '', RELAY_CLUSTER_URL: '' }), []);
    assert.deepEqual(warningsOf(CLUSTER), []);
  });

  test('keeps passwords and the secret out of its errors', () => {
    const errors = errorsOf({
      RELAY_CLUSTER_URL: 'http://user:hunter2@coordinator',
      RELAY_LISTEN: 'nonsense',
    });
    const short = errorsOf({ ...CLUSTER, RELAY_CLUSTER_SECRET: 'hunter2' });
    assert.match(errors.join(), /RELAY_CLUSTER_URL.*redis:\/\/HOST:6379/u);
    for (const error of [...errors, ...short]) assert.doesNotMatch(error, /hunter2/u);
  });
});
