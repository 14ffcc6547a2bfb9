import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdirSync, readdirSync, renameSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { getPriority } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { text } from 'node:stream/consumers';
import { publicCheckout } from '../../support/public-checkout.ts';
import { ask, begin, jsonOf } from '../../support/ask.ts';
import { COMPILE_CACHE } from '../../support/compile-cache.ts';
import { CONDITION_TIMEOUT_MS, fatalReasons } from '../../support/programs.ts';
import { scratch, until } from '../../support/scratch.ts';
import { UNREACHABLE_URL, startSidecar, sampleRecords } from '../../support/sidecar-fixture.ts';
import { SidecarProcess } from '../../support/sidecar-process.ts';
import { createUsageFile } from '../../support/usage-files.ts';
import { fileMetadata } from '../../support/usage-fixture.ts';

const ANY_PORT = 'tcp:0:interface=127.0.0.1';

/** Any unprivileged uid. */
const OTHER_USER = 65_534;
const isRoot = process.getuid?.() === 0;
const needsRoot = isRoot ? false : 'needs root, to be another user: run it with sudo';

/** A snapshot or a CSV report of this many records takes about a second. */
const MANY_RECORDS = 1_500_000;
const YEAR = 'from=2020-01-01&to=2021-01-01';

interface End {
  readonly exitCode: unknown;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs the sidecar until it exits by itself. */
async function run(env: Readonly<Record<string, string>>, uid?: number): Promise<End> {
  const checkout = publicCheckout();
  const child = spawn(checkout.node, [checkout.pathOf('sidecar/main.ts')], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...COMPILE_CACHE, SIDECAR_LISTEN: ANY_PORT, SIDECAR_RELAY_STATUS: UNREACHABLE_URL, ...env },
    timeout: CONDITION_TIMEOUT_MS,
    ...(uid === undefined ? {} : { uid }),
  });
  const [[exitCode], stdout, stderr] = await Promise.all([
    once(child, 'close'),
    text(child.stdout),
    text(child.stderr),
  ]);
  return { exitCode, stdout, stderr };
}

function linesOf(output: string): string[] {
  return output.trimEnd().split('\n');
}

describe('the sidecar starts', () => {
  test('not with an invalid configuration, and reports all errors', async () => {
    const { exitCode, stdout, stderr } = await run({
      SIDECAR_LISTEN: 'tcp:99999',
      SIDECAR_TOKEN: 'one secret, two',
      SIDECAR_SNAPSHOT_EVERY: '10ms',
      SIDECAR_SNAPSHOT_KEEP: '0',
      SIDECAR_RELAY_STATUS: 'relay:4003',
      SIDECAR_LOG_LEVEL: 'loud',
      SIDECAR_SNAPSHOTS_DIR: 'there',
    });
    assert.equal(exitCode, 78);
    assert.equal(stderr, '');
    assert.ok(!stdout.includes('two'));
    const reasons = fatalReasons(stdout);
    const variablesInError = reasons.map((line) => /^SIDECAR_\w+/u.exec(line)?.[0]);
    assert.equal(variablesInError.length, 7);
    const variables = [
      'SIDECAR_LISTEN',
      'SIDECAR_LOG_LEVEL',
      'SIDECAR_RELAY_STATUS',
      'SIDECAR_SNAPSHOT_EVERY',
      'SIDECAR_SNAPSHOT_KEEP',
      'SIDECAR_TOKEN',
      'SIDECAR_USAGE_DB',
    ];
    assert.deepEqual(new Set(variablesInError), new Set(variables));
    assert.match(
      stdout,
      /"level":"warn",.*"msg":"SIDECAR_SNAPSHOTS_DIR is unknown .* SIDECAR_SNAPSHOT_DIR"/u,
    );
    assert.match(reasons.join('\n'), /^SIDECAR_TOKEN="\(secret\)" can't be used\. Accepted: visible ASCII/mu);
  });

  test('not on a port in use', async (context) => {
    const server = createServer().listen(0, '127.0.0.1');
    context.after(() => server.close());
    await once(server, 'listening');
    const address = server.address();
    assert.ok(address !== null && typeof address === 'object');
    const directory = await scratch(context);
    const { exitCode, stdout } = await run({
      SIDECAR_LISTEN: `${ANY_PORT} tcp:${address.port}:interface=127.0.0.1`,
      SIDECAR_USAGE_DB: join(directory, 'usage.sqlite'),
      SIDECAR_SNAPSHOT_DIR: join(directory, 'snapshots'),
    });
    assert.equal(exitCode, 1);
    assert.deepEqual(fatalReasons(stdout), [
      `can't listen on tcp:${address.port}:interface=127.0.0.1: another program listens there (EADDRINUSE)`,
    ]);
  });

  test('not without a usable snapshot directory', async (context) => {
    const directory = await scratch(context);
    const file = join(directory, 'file');
    writeFileSync(file, '');
    const { exitCode, stdout } = await run({
      SIDECAR_USAGE_DB: join(directory, 'usage.sqlite'),
      SIDECAR_SNAPSHOT_DIR: file,
    });
    assert.equal(exitCode, 1);
    const [sentence = '', ...more] = fatalReasons(stdout);
    assert.deepEqual(more, []);
    assert.ok(sentence.startsWith(`can't keep snapshots in "${file}": `), sentence);
  });

  test('not if the snapshot directory belongs to another user', { skip: needsRoot }, async (context) => {
    const directory = await scratch(context);
    chmodSync(directory, 0o755);
    const snapshots = join(directory, 'snapshots');
    mkdirSync(snapshots, { mode: 0o755 });
    const settings = { SIDECAR_USAGE_DB: join(directory, 'usage.sqlite') };
    for (const path of [snapshots, join(snapshots, 'below')]) {
      const { exitCode, stdout } = await run({ ...settings, SIDECAR_SNAPSHOT_DIR: path }, OTHER_USER);
      assert.equal(exitCode, 1);
      const [sentence = '', ...more] = fatalReasons(stdout);
      assert.deepEqual(more, []);
      assert.ok(sentence.startsWith(`can't keep snapshots in "${path}": EACCES`), sentence);
      assert.match(sentence, /; change its owner to this user, or set SIDECAR_SNAPSHOT_DIR$/u);
    }
  });

  test('with a lower priority than the relay', async (context) => {
    const { sidecar } = await startSidecar(context, null);
    assert.equal(getPriority(sidecar.pid), 19);
  });

  test('without a database, and finds it after its creation', async (context) => {
    const { sidecar, url, volume, databasePath } = await startSidecar(context, null);
    const newDatabase = join(volume, '..', 'new.sqlite');
    createUsageFile(newDatabase, { rows: 7 });
    await sidecar.waitForLog(/"level":"warn".+there is no usage database .+"failures":1,/u);
    assert.equal((await ask(url, '/usage.json')).status, 503);
    // The next attempts are one, five and fifteen seconds later: creating it here could miss some.
    renameSync(newDatabase, databasePath);
    await sidecar.waitForLog(/"rows":7,"msg":"snapshot taken"/u);
    await sidecar.waitForLog(/"failures":\d+,"msg":"snapshots recovered"/u);
    const list = jsonOf(await ask(url, '/snapshots'));
    assert.ok(typeof list === 'object' && list !== null && 'problem' in list);
    assert.equal(list.problem, null);
    assert.equal((await ask(url, '/usage.csv')).status, 200);
    assert.equal(sidecar.stderr, '');
  });
});

describe('the sidecar never writes to the directory of the relay', () => {
  for (const journalMode of ['wal', 'delete'] as const) {
    test(`not for a closed database with journal mode ${journalMode}`, async (context) => {
      const { sidecar, url, volume, databasePath } = await startSidecar(context, null);
      // No program writes the database when the sidecar starts.
      const newDatabase = join(volume, '..', 'new.sqlite');
      createUsageFile(newDatabase, { rows: 100, journalMode });
      renameSync(newDatabase, databasePath);
      const before = fileMetadata(volume);
      for (const path of [
        '/live.json',
        '/metrics',
        '/usage.json?from=2020-01-01',
        '/usage.csv?by=record&from=2020-01-01',
      ]) {
        assert.equal((await ask(url, path)).status, 200);
      }
      assert.equal((await ask(url, '/snapshots', { method: 'POST' })).status, 201);
      assert.deepEqual(fileMetadata(volume), before);
      await sidecar.stop();
      assert.deepEqual(fileMetadata(volume), before);
    });
  }
});

describe('the sidecar stops on a signal with exit code 0', () => {
  test('while only idle connections are open', async (context) => {
    const { sidecar, url } = await startSidecar(context, sampleRecords(3));
    await (await fetch(`${url}/live.json`)).text();
    await sidecar.stop();
    assert.deepEqual(
      linesOf(sidecar.log).map((line) => /"msg":"([^"]+)"/u.exec(line)?.[1]),
      ['starting', 'listening', 'snapshot taken', 'stopping', 'stopped'],
    );
    assert.equal(sidecar.stderr, '');
  });

  test('while it sends responses, which are aborted', async (context) => {
    const { sidecar, url, databasePath } = await startSidecar(context, null);
    createUsageFile(databasePath, { rows: MANY_RECORDS });
    const csv = await begin(url, `/usage.csv?by=record&${YEAR}`);
    await once(csv, 'data');
    const paths = [`/usage.json?by=hour&${YEAR}`, `/usage.csv?by=hour&${YEAR}`];
    const broken = [text(csv), ...paths.map((path) => ask(url, path))].map((answer) =>
      assert.rejects(answer, /aborted|socket hang up|ECONNRESET/u),
    );
    assert.equal((await ask(url, '/healthz')).status, 200);
    await sidecar.stop();
    await Promise.all(broken);
    assert.doesNotMatch(sidecar.log, /"level":"(?:error|fatal)"/u);
    assert.equal(sidecar.stderr, '');
  });

  test('on SIGINT during a snapshot, which leaves no files', async (context) => {
    const directory = await scratch(context);
    const databasePath = join(directory, 'usage.sqlite');
    const snapshots = join(directory, 'snapshots');
    createUsageFile(databasePath, { rows: MANY_RECORDS, journalMode: 'delete' });
    const sidecar = await SidecarProcess.start({
      SIDECAR_USAGE_DB: databasePath,
      SIDECAR_SNAPSHOT_DIR: snapshots,
      SIDECAR_RELAY_STATUS: UNREACHABLE_URL,
    });
    context.after(() => sidecar[Symbol.asyncDispose]());
    await until(() => readdirSync(snapshots).length > 0);
    const post = assert.rejects(
      ask(sidecar.url, '/snapshots', { method: 'POST' }),
      /socket hang up|ECONNRESET/u,
    );
    await ask(sidecar.url, '/healthz');
    process.kill(sidecar.pid, 'SIGINT');
    await sidecar.waitForLog(/"signal":"SIGINT","msg":"stopping"/u);
    // A second signal has no effect.
    await sidecar.stop();
    assert.equal(sidecar.log.split('"msg":"stopping"').length, 2);
    await post;
    assert.deepEqual(readdirSync(snapshots), []);
    assert.doesNotMatch(sidecar.log, /"msg":"snapshot taken"|"level":"(?:warn|error|fatal)"/u);
    assert.equal(sidecar.stderr, '');
  });
});
