import assert from 'node:assert/strict';
import { readFile, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import type { TestContext } from 'node:test';
import { pathToFileURL } from 'node:url';
import { PROBE_TIMEOUT_MS } from '../../../src/status/health-probes.ts';
import { freePort } from '../../support/listening.ts';
import { patience } from '../../support/patience.ts';
import { RelayProcess } from '../../support/relay-process.ts';
import { scratch } from '../../support/scratch.ts';

const PRELOAD = pathToFileURL(join(import.meta.dirname, 'log-loaded-modules.ts')).href;

const ANY = 'tcp:0:interface=127.0.0.1';

/** Modules that only a relay of a cluster needs. */
const CLUSTER_MODULES = /\/src\/(?:cluster\/|relay\/cluster\.ts)/u;

/**
 * The modules that a relay loads from start to stop, in all of its threads: URLs, each once, without Node's
 * own.
 */
async function modulesLoadedBy(
  context: TestContext,
  settings: Readonly<Record<string, string>>,
): Promise<readonly string[]> {
  const directory = await scratch(context);
  const path = join(directory, 'loaded');
  const patient = patience(PROBE_TIMEOUT_MS);
  await using relay = await RelayProcess.start({
    RELAY_WEBSOCKET_LISTEN: ANY,
    RELAY_USAGE_DB: join(directory, 'usage.sqlite'),
    RELAY_QUOTA: '10GB/month',
    ...settings,
    ...patient,
    NODE_OPTIONS: `${patient['NODE_OPTIONS']} --import=${PRELOAD}`,
    LOADED_MODULES: path,
  });
  // Some modules are loaded on demand: for a self-test of all transports, and for metrics.
  for (const page of ['health/transfer', 'metrics', 'status.json']) {
    const response = await fetch(`http://127.0.0.1:${relay.port('status')}/${page}`);
    assert.equal(response.status, 200, page);
    await response.text();
  }
  await relay.stop();
  const text = await readFile(path, 'utf8');
  return [...new Set(text.split('\n'))].filter((url) => url.startsWith('file:'));
}

function assertLoaded(loaded: readonly string[], names: readonly string[]): void {
  for (const name of names)
    assert.ok(
      loaded.some((url) => url.includes(name)),
      name,
    );
}

test('a relay without a cluster loads no cluster module', async (context) => {
  const loaded = await modulesLoadedBy(context, {});
  assert.deepEqual(
    loaded.filter((url) => CLUSTER_MODULES.test(url)),
    [],
  );
  // The list has modules that are loaded first and on demand, packages, and modules of threads.
  assertLoaded(loaded, [
    '/src/main.ts',
    '/src/relay/relay.ts',
    '/src/sessions/client-session.ts',
    '/node_modules/ws/',
    '/src/usage/usage-database.ts',
  ]);
});

test('a relay of a cluster loads all cluster modules, and nothing else', async (context) => {
  const withoutCluster = new Set(await modulesLoadedBy(context, {}));
  const loaded = await modulesLoadedBy(context, {
    // Nothing listens there, and the relay does not wait for it.
    RELAY_CLUSTER_URL: `redis://127.0.0.1:${await freePort()}`,
    RELAY_CLUSTER_LISTEN: ANY,
    RELAY_CLUSTER_SECRET: 'the secret of a cluster of one',
  });
  const folder = await readdir(join(import.meta.dirname, '..', '..', '..', 'src', 'cluster'));
  assertLoaded(loaded, ['/src/relay/cluster.ts', ...folder.map((name) => `/src/cluster/${name}`)]);
  const others = loaded.filter((url) => !withoutCluster.has(url) && !CLUSTER_MODULES.test(url));
  assert.deepEqual(others, []);
});
