import { deepEqual, ok } from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { promisify } from 'node:util';
import { COMPILE_CACHE } from '../../support/compile-cache.ts';
import { scratch } from '../../support/scratch.ts';

const SOURCES = join(import.meta.dirname, '..', '..', '..', 'src');

const run = promisify(execFile);

/** Standard output of a script in a process of its own, as lines. */
async function linesOf(script: string, env: Readonly<Record<string, string>>): Promise<string[]> {
  const { stdout } = await run(process.execPath, ['--input-type=module', '--eval', script], {
    env: { PATH: process.env['PATH'], ...COMPILE_CACHE, ...env },
  });
  return stdout.split('\n');
}

/** Parts of Node and of packages that take megabytes and are not needed, by a part of their names. */
const HEAVY = /undici|http2|opentelemetry|pushgateway/u;

/** What a program has loaded when it runs: modules of Node and files of packages. */
async function loadedBy(entry: string, env: Readonly<Record<string, string>>): Promise<string[]> {
  const lines = await linesOf(
    `import { createRequire } from 'node:module';
    await import(${JSON.stringify(join(SOURCES, entry))});
    const loaded = [...process.moduleLoadList, ...Object.keys(createRequire(import.meta.url).cache)];
    for (const name of loaded) console.log('loaded ' + name);
    process.kill(process.pid, 'SIGTERM');`,
    env,
  );
  return lines.filter((line) => line.startsWith('loaded '));
}

describe('unused exports', () => {
  test('load nothing in the relay', async () => {
    const loaded = await loadedBy('main.ts', {
      RELAY_LISTEN: 'tcp:0:interface=127.0.0.1',
      RELAY_WEBSOCKET_LISTEN: 'tcp:0:interface=127.0.0.1',
      RELAY_STATUS_LISTEN: 'tcp:0:interface=127.0.0.1',
    });
    ok(loaded.includes('loaded NativeModule http'));
    deepEqual(
      loaded.filter((name) => HEAVY.test(name)),
      [],
    );
  });

  test('load nothing in the sidecar', async (context) => {
    const directory = await scratch(context);
    const loaded = await loadedBy('sidecar/main.ts', {
      SIDECAR_LISTEN: 'tcp:0:interface=127.0.0.1',
      SIDECAR_USAGE_DB: join(directory, 'usage.sqlite'),
      SIDECAR_SNAPSHOT_DIR: join(directory, 'snapshots'),
    });
    ok(loaded.includes('loaded NativeModule http'));
    deepEqual(
      loaded.filter((name) => HEAVY.test(name)),
      [],
    );
  });
});
