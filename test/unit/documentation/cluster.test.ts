import { deepEqual, equal, ok } from 'node:assert/strict';
import { describe, test } from 'node:test';
import { readRelayConfig } from '../../../src/config/relay-config.ts';
import { read } from './deployment-settings.ts';

const PAGE = read('docs', 'cluster.md');

const COMPOSE_FILE = read('deploy', 'compose', 'cluster.yml');

/** The settings in the code block that begins with a variable. */
function settings(variable: string): ReadonlyMap<string, string> {
  const [, block = ''] = new RegExp(`^\`\`\`sh\n(${variable}=[^\`]*)\`\`\`$`, 'mu').exec(PAGE) ?? [];
  const lines = block.trim().split('\n');
  return new Map(lines.map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]));
}

/** The permissions of the coordinator's user in a configuration of Valkey. */
function permissions(text: string): string | undefined {
  return /^ *user relay on >\S+ (.+)$/mu.exec(text)?.[1];
}

describe('docs/cluster.md', () => {
  test('has settings that a relay accepts', () => {
    const secret = '0123456789abcdef';
    const all = [...settings('RELAY_CLUSTER_URL')].map(([variable, value]) => [
      variable,
      value.replace('SECRET', secret),
    ]);
    const result = readRelayConfig(Object.fromEntries(all), 1);
    ok(result.kind === 'ok', JSON.stringify(result));
    deepEqual(result.warnings, []);
    equal(result.config.cluster?.secret, secret);
    deepEqual(result.config.cluster.coordinator.credentials, ['relay', 'PASSWORD']);
  });

  test('gives the coordinator’s user the permissions that it has on Kubernetes', () => {
    const manifest = read('deploy', 'kubernetes', 'overlays', 'cluster', 'valkey.yaml');
    ok(permissions(PAGE) !== undefined);
    equal(permissions(PAGE), permissions(manifest));
  });

  test('names the variables that compose requires', () => {
    const required = [...COMPOSE_FILE.matchAll(/\$\{(\w+):\?/gu)].map(([, variable]) => variable);
    const { COMPOSE_FILE: files, ...secrets } = Object.fromEntries(settings('COMPOSE_FILE'));
    equal(files, 'docker-compose.yml:deploy/compose/cluster.yml');
    deepEqual(new Set(Object.keys(secrets)), new Set(required));
  });

  test('upgrades each relay of compose', () => {
    const relays = [...COMPOSE_FILE.matchAll(/^ {2}(relay\S*):$/gmu)].map(([, name]) => name);
    ok(relays.length > 1);
    equal(/^for relay in (.+); do$/mu.exec(PAGE)?.[1], relays.join(' '));
  });
});
