import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import type { TestContext } from 'node:test';
import { pathToFileURL } from 'node:url';
import { freePort } from '../support/listening.ts';
import { RelayProcess } from '../support/relay-process.ts';
import { scratch } from '../support/scratch.ts';

const PRELOAD = pathToFileURL(join(import.meta.dirname, 'log-loaded-modules.ts')).href;

const ANY = 'tcp:0:interface=127.0.0.1';

/** What a group of relays needs and nobody else. */
const CLUSTER_MODULES = /\/src\/(?:cluster\/|relay-cluster\.ts)/u;

/** What a relay has loaded from its start to its end, in all of its threads: URLs, each once, without Node's own. */
async function modulesLoadedBy(
  context: TestContext,
  settings: Readonly<Record<string, string>>,
): Promise<readonly string[]> {
  const directory = await scratch(context);
  const path = join(directory, 'loaded');
  await using relay = await RelayProcess.start({
    RELAY_WEBSOCKET_LISTEN: ANY,
    RELAY_USAGE_DB: join(directory, 'usage.sqlite'),
    RELAY_QUOTA: '10GB/month',
    ...settings,
    NODE_OPTIONS: `--import=${PRELOAD}`,
    LOADED_MODULES: path,
  });
  // All that is loaded when it is needed: a self test of all transports, and the metrics.
  for (const page of ['health/transfer', 'metrics', 'status.json']) {
    const response = await fetch(`http://127.0.0.1:${relay.port('status')}/${page}`);
    assert.equal(response.status, 200, page);
    await response.text();
  }
  await relay.stop();
  const text = await readFile(path, 'utf8');
  return [...new Set(text.split('\n'))].filter((url) => url.startsWith('file:'));
}

test('a relay that is alone loads nothing of what groups need', async (context) => {
  const loaded = await modulesLoadedBy(context, {});
  assert.deepEqual(
    loaded.filter((url) => CLUSTER_MODULES.test(url)),
    [],
  );
  // It tells what is loaded: what comes first, what is imported when it is needed, packages and threads.
  for (const name of [
    '/src/main.ts',
    '/src/net/passage.ts',
    '/node_modules/ws/',
    '/src/usage/sqlite-worker.ts',
  ])
    assert.ok(
      loaded.some((url) => url.includes(name)),
      name,
    );
});

test('a relay of a group loads that, and nothing besides', async (context) => {
  const alone = new Set(await modulesLoadedBy(context, {}));
  const loaded = await modulesLoadedBy(context, {
    // Nobody is there, and the relay does not wait for it.
    RELAY_CLUSTER_URL: `redis://127.0.0.1:${await freePort()}`,
    RELAY_CLUSTER_LISTEN: ANY,
    RELAY_CLUSTER_SECRET: 'the secret of a group of one',
  });
  for (const name of ['/src/relay-cluster.ts', '/src/cluster/claims.ts', '/src/cluster/resp.ts'])
    assert.ok(
      loaded.some((url) => url.includes(name)),
      name,
    );
  const more = loaded.filter((url) => !alone.has(url) && !CLUSTER_MODULES.test(url));
  assert.deepEqual(more, []);
});
