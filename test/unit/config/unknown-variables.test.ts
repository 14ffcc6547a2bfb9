import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { COMPOSE_MARKER, COMPOSE_SETTINGS, isDeploymentDefault } from '../../../src/config/deployment.ts';
import { RELAY_DEFAULTS, readRelayConfig } from '../../../src/config/relay-config.ts';
import { SIDECAR_DEFAULTS, readSidecarConfig } from '../../../src/config/sidecar-config.ts';

const ROOT = join(import.meta.dirname, '..', '..', '..');

type Environment = Readonly<Record<string, string>>;

/** Event and message of each warning of the relay, then of the sidecar. */
function warningsOf(environment: Environment): string[] {
  const sidecar = readSidecarConfig({ SIDECAR_USAGE_DB: '/u', ...environment });
  return [...readRelayConfig(environment, 1).warnings, ...sidecar.warnings].map(
    ({ event, message }) => `${event}: ${message}`,
  );
}

describe('an unknown variable', () => {
  const suggestions: readonly (readonly [name: string, suggestion: string | null])[] = [
    ['RELAY_QUTOA', 'RELAY_QUOTA'],
    ['RELAY_QOUTA', 'RELAY_QUOTA'],
    ['RELAY_LISTEM', 'RELAY_LISTEN'],
    ['RELAY_MAX_CONECTIONS', 'RELAY_MAX_CONNECTIONS'],
    ['RELAY_CONNECTIONS_MAX', 'RELAY_MAX_CONNECTIONS'],
    ['RELAY_CONNECTIONS', 'RELAY_MAX_CONNECTIONS'],
    ['RELAY_LISTEN_WEBSOCKET', 'RELAY_WEBSOCKET_LISTEN'],
    ['RELAY_IDLE', 'RELAY_IDLE_TIMEOUT'],
    ['RELAY_QUOTA_RESET', 'RELAY_QUOTA_RESET_DAY'],
    ['RELAY_TRUSTED_PROXY', 'RELAY_TRUSTED_PROXIES'],
    ['RELAY_CLUSTER_SECRT_FILE', 'RELAY_CLUSTER_SECRET_FILE'],
    ['RELAY_LOG_LEVLE', 'RELAY_LOG_LEVEL'],
    ['SIDECAR_TOKENS', 'SIDECAR_TOKEN'],
    ['SIDECAR_SNAPSHOTS_KEEP', 'SIDECAR_SNAPSHOT_KEEP'],
    // Nothing is similar.
    ['RELAY_FOO', null],
    ['RELAY_', null],
    ['RELAY__', null],
    ['RELAY_FILE', null],
    ['RELAY_COLOUR', null],
    ['RELAY_VERSION', null],
    ['RELAY_SERVICE', null],
    ['SIDECAR_X', null],
  ];
  for (const [name, suggestion] of suggestions) {
    test(`${name} suggests ${suggestion ?? 'nothing'}`, () => {
      const hint = suggestion === null ? '' : `; the most similar variable is ${suggestion}`;
      assert.deepEqual(warningsOf({ [name]: 'hunter2' }), [
        `unknown_variable: ${name} is unknown and has no effect${hint}`,
      ]);
    });
  }

  test('is not one that Kubernetes sets for a Service', () => {
    const environment: Record<string, string> = {};
    for (const service of ['RELAY', 'RELAY_WEBSOCKET', 'SIDECAR', 'MW_RELAY', 'RELAY_LISTEN']) {
      environment[`${service}_SERVICE_HOST`] = '10.96.0.7';
      environment[`${service}_SERVICE_PORT`] = '4001';
      environment[`${service}_SERVICE_PORT_RAW`] = '4001';
      environment[`${service}_PORT`] = 'tcp://10.96.0.7:4001';
      for (const end of ['', '_PROTO', '_PORT', '_ADDR'])
        environment[`${service}_PORT_4001_TCP${end}`] = 'tcp://10.96.0.7:4001';
    }
    assert.deepEqual(warningsOf(environment), []);
  });

  test('of the older image is named with its successor', () => {
    assert.deepEqual(
      warningsOf({
        MW_RELAY_PORT: '4001',
        MW_RELAY_WS_PORT: 'x',
        MW_RELAY_BLUR_USAGE: '3600',
        MW_RELAY_X: 'y',
      }),
      [
        'renamed_variable: MW_RELAY_PORT is a variable of another image and has no effect; use RELAY_LISTEN=tcp:4001',
        'renamed_variable: MW_RELAY_WS_PORT is a variable of another image and has no effect; use RELAY_WEBSOCKET_LISTEN',
        'renamed_variable: MW_RELAY_BLUR_USAGE is a variable of another image and has no effect; use RELAY_BLUR_USAGE=3600',
      ],
    );
  });
});

describe('a setting of docker-compose.yml', () => {
  const everything = Object.fromEntries([...COMPOSE_SETTINGS.keys()].map((name) => [name, '1']));

  test('causes a warning without compose', () => {
    const warnings = warningsOf(everything);
    assert.equal(warnings.length, COMPOSE_SETTINGS.size);
    assert.ok(
      warnings.includes(
        'setting_without_effect: RELAY_PORT is a setting of docker-compose.yml and has no effect here; use RELAY_LISTEN',
      ),
    );
    assert.ok(
      warnings.includes(
        'setting_without_effect: SIDECAR_MEMORY_LIMIT is a setting of docker-compose.yml and has no effect here',
      ),
    );
  });

  test('causes none with compose', () => {
    assert.deepEqual(warningsOf({ ...everything, [COMPOSE_MARKER]: 'true' }), []);
  });

  test('is named here if a compose file uses it, and only then', () => {
    const folder = join(ROOT, 'deploy', 'compose');
    const files = [
      join(ROOT, 'docker-compose.yml'),
      ...readdirSync(folder)
        .filter((name) => name.endsWith('.yml'))
        .map((name) => join(folder, name)),
    ];
    const text = files.map((file) => readFileSync(file, 'utf8')).join('\n');
    const used = new Set([...text.matchAll(/\$\{((?:RELAY|SIDECAR)_\w+)/gu)].map(([, name = '']) => name));
    const known = new Set([...Object.keys(RELAY_DEFAULTS), ...Object.keys(SIDECAR_DEFAULTS)]);
    assert.deepEqual(
      [...used].filter((name) => !known.has(name)).toSorted(),
      [...COMPOSE_SETTINGS.keys()].toSorted(),
    );
  });
});

test('the values that the image and docker-compose.yml set are known', () => {
  const dockerfile = readFileSync(join(ROOT, 'Dockerfile'), 'utf8');
  const [, compose = ''] = readFileSync(join(ROOT, 'docker-compose.yml'), 'utf8').split('\nservices:\n');
  const set = [
    ...dockerfile.matchAll(/^ {2}((?:RELAY|SIDECAR)_\w+)=(\S+)/gmu),
    ...compose.matchAll(/^ {6}(RELAY_\w+): \$\{\w+-(.+)\}$/gmu),
  ];
  assert.ok(set.length >= 7);
  for (const [, variable = '', value = ''] of set) assert.ok(isDeploymentDefault(variable, value), variable);
});
