import { deepEqual, equal, ok } from 'node:assert/strict';
import { describe, test } from 'node:test';
import { COMPOSE_MARKER } from '../../../src/config/deployment.ts';
import { RELAY_DEFAULTS, readRelayConfig } from '../../../src/config/relay-config.ts';
import type { RelayConfig } from '../../../src/config/relay-config.ts';
import { readSidecarConfig } from '../../../src/config/sidecar-config.ts';
import { parseSizeBytes } from '../../../src/config/values.ts';
import { resolveCapacity } from '../../../src/limits/capacity.ts';
import { readSocketBuffers } from '../../../src/limits/socket-buffers.ts';
import { read } from './deployment-settings.ts';

const PAGE = read('docs', 'public-relay.md');

/** More than any connection limit. */
const FDS = 1_048_576;

/** Has no settings, so that the sizes of the kernel are its defaults. */
const NO_FILE_SYSTEM = '/nonexistent';

/** The recommended settings. */
function recommended(): Readonly<Record<string, string>> {
  const [, block = ''] = /^```sh\n(RELAY_QUOTA=[^`]*)```$/mu.exec(PAGE) ?? [];
  return Object.fromEntries(
    block
      .trim()
      .split('\n')
      .map((line) => line.split('=', 2)),
  );
}

function configOf(settings: Readonly<Record<string, string>>): RelayConfig {
  const result = readRelayConfig(settings, 1);
  if (result.kind === 'errors') throw new Error(JSON.stringify(result.errors));
  deepEqual(result.warnings, []);
  return result.config;
}

/** @param hostBytes null: the kernel's buffers do not count in the memory limit */
function connections(config: RelayConfig, memoryBytes: number, hostBytes: number | null): number {
  const warn = ({ event }: { readonly event: string }): void => ok(false, event);
  const { maxConnections } = resolveCapacity(
    config,
    { warn },
    {
      fds: FDS,
      memory: { bytes: memoryBytes, source: 'container', cgroup2: hostBytes === null ? null : '/cgroup' },
      socketBuffers: readSocketBuffers(NO_FILE_SYSTEM, hostBytes ?? 0),
    },
  );
  return maxConnections;
}

/** The rows below a header, as cells. */
function tableRows(header: string): readonly (readonly string[])[] {
  const [, rows = ''] = PAGE.split(`${header}\n`);
  const [table = ''] = rows.split('\n\n');
  return table
    .split('\n')
    .slice(1)
    .map((row) =>
      row
        .split('|')
        .slice(1, -1)
        .map((cell) => cell.trim()),
    );
}

function bytesIn(cell: string): number {
  return parseSizeBytes(cell) ?? Number.NaN;
}

function formatted(...counts: readonly number[]): readonly string[] {
  return counts.map((count) => count.toLocaleString('en-US'));
}

describe('docs/public-relay.md', () => {
  test('recommends settings that both programs accept without warnings', () => {
    const settings = recommended();
    ok(Object.keys(settings).length > 10);
    const environment = {
      [COMPOSE_MARKER]: 'true',
      RELAY_USAGE_DB: '/data/usage.sqlite',
      SIDECAR_USAGE_DB: '/relay/usage.sqlite',
      ...settings,
    };
    for (const result of [readRelayConfig(environment, 1), readSidecarConfig(environment)]) {
      equal(result.kind, 'ok', JSON.stringify(result));
      deepEqual(result.warnings, []);
    }
  });

  test('recommends only settings of compose', () => {
    const example = read('deploy', 'compose', '.env.example');
    for (const variable of Object.keys(recommended())) ok(example.includes(`\n#${variable}=`), variable);
  });

  test('recommends as many connections as fit into the memory', () => {
    const { RELAY_MEMORY_LIMIT: limit = '', ...settings } = recommended();
    const config = configOf({
      ...settings,
      [COMPOSE_MARKER]: 'true',
      RELAY_USAGE_DB: '/data/usage.sqlite',
    });
    const memoryBytes = Number(limit.replace(/m$/u, '')) * 2 ** 20;
    equal(connections(config, memoryBytes, null), config.limits.maxConnections);
  });

  test('says how many connections fit into the memory', () => {
    const plain = configOf({});
    const secure = configOf({ RELAY_LISTEN: 'ssl:443:privateKey=/key.pem:certKey=/certificate.pem' });
    const rows = tableRows('| memory limit | connections | with TLS |');
    ok(rows.length > 2);
    for (const [limit = '', ...cells] of rows) {
      const bytes = bytesIn(limit);
      deepEqual(cells, formatted(connections(plain, bytes, null), connections(secure, bytes, null)), limit);
    }
    equal(RELAY_DEFAULTS.RELAY_BUFFER_MEMORY, '64MiB');
  });

  test('says how many connections fit into the memory if buffers of the kernel count', () => {
    const header = '| memory limit | 4 GiB host | 8 GiB host | 16 GiB host | 32 GiB host |';
    const hosts = [...header.matchAll(/(\d+ GiB) host/gu)].map(([, size = '']) => bytesIn(size));
    const rows = tableRows(header);
    ok(rows.length > 2);
    const config = configOf({});
    for (const [limit = '', ...cells] of rows)
      deepEqual(cells, formatted(...hosts.map((host) => connections(config, bytesIn(limit), host))), limit);
  });
});
