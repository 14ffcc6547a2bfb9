import { deepEqual, ok } from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { promisify } from 'node:util';
import { COMPILE_CACHE } from '../../support/compile-cache.ts';
import { scratch } from '../../support/scratch.ts';

const SOURCES = join(import.meta.dirname, '..', '..', '..', 'src');
const LOADING = JSON.stringify(join(SOURCES, 'process', 'loading.ts'));

const run = promisify(execFile);

/** Standard output of a script in a process of its own, as lines. */
async function linesOf(
  script: string,
  options: readonly string[] = [],
  env: Readonly<Record<string, string>> = {},
): Promise<string[]> {
  const { stdout } = await run(process.execPath, [...options, '--input-type=module', '--eval', script], {
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
    [],
    env,
  );
  return lines.filter((line) => line.startsWith('loaded '));
}

describe('a program that loads', () => {
  test('is a relay without modules that it does not need', async () => {
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

  test('is a sidecar without modules that it does not need', async (context) => {
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

  test('has no hot function optimized by the slowest compiler before it runs', async () => {
    const [whileLoading, whileRunning] = await linesOf(
      `import { setTimeout as sleep } from 'node:timers/promises';
      import { beginLoading, endLoading } from ${LOADING};
      const TURBOFANNED = 1 << 6;
      const LOOP = 'let sum = 0; for (let index = 0; index < 100; index += 1) sum = (sum + index * 7) | 0; return sum;';
      async function isOptimized(hot) {
        // V8 counts executed bytecode. These calls are some times the default, and less than a tenth of it.
        for (let turn = 0; turn < 30; turn += 1) {
          for (let call = 0; call < 10; call += 1) hot();
          await sleep(1);
        }
        // The compiler runs in another thread, and its result is used by a later call.
        await sleep(200);
        hot();
        return (%GetOptimizationStatus(hot) & TURBOFANNED) !== 0;
      }
      // Its code would contain that of the function, which would then not be called.
      %NeverOptimizeFunction(isOptimized);
      beginLoading();
      console.log(await isOptimized(new Function(LOOP)));
      endLoading();
      console.log(await isOptimized(new Function(LOOP + ' ')));`,
      ['--allow-natives-syntax'],
    );
    deepEqual([whileLoading, whileRunning], ['false', 'true']);
  });
});
