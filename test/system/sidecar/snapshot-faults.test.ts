import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chmodSync, readdirSync, statSync, statfsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import Database from 'better-sqlite3';
import { SnapshotStore } from '../../../src/sidecar/snapshots/snapshot-store.ts';
import { publicCheckout } from '../../support/public-checkout.ts';
import { CONDITION_TIMEOUT_MS, Program, findProgram } from '../../support/programs.ts';
import { until } from '../../support/scratch.ts';
import { addOlderSnapshots, snapshotNames, openSnapshotFixture } from '../../support/snapshot-fixture.ts';
import { createUsageFile, requireMount, mountTmpfs } from '../../support/usage-files.ts';

describe('an interrupted snapshot', () => {
  test('leaves nothing behind when the store is closed', async (context) => {
    const { store, databasePath, directory } = await openSnapshotFixture(context);
    createUsageFile(databasePath, { rows: 300_000 });
    const taking = assert.rejects(store.take(), /snapshot aborted: the sidecar is shutting down/u);
    await until(() => readdirSync(directory).length > 0);
    await store.close();
    await taking;
    assert.deepEqual(readdirSync(directory), []);
  });

  test('leaves nothing valid after SIGKILL, and no files after the next start', async (context) => {
    const { databasePath, directory, options } = await openSnapshotFixture(context);
    createUsageFile(databasePath, { rows: 300_000 });
    const [older] = addOlderSnapshots(directory, 1, 100);
    const program = `
      import { takeSnapshot } from ${JSON.stringify(import.meta.resolve('../../../src/sidecar/snapshots/snapshot-job.ts'))};
      const task = ${JSON.stringify({ source: options.source, directory, keep: 5 })};
      await takeSnapshot(task);`;
    await using child = new Program([process.execPath, '--input-type=module', '--eval', program]);
    await until(() =>
      readdirSync(directory).some((name) => statSync(join(directory, name)).size > 1_000_000),
    );
    child.kill('SIGKILL');
    await child.succeeds(CONDITION_TIMEOUT_MS).catch(() => undefined);
    assert.ok(readdirSync(directory).length > 2);
    writeFileSync(join(directory, 'usage-20200101T000000Z.sqlite.json'), '{}');
    const store = await SnapshotStore.open(options);
    assert.deepEqual(snapshotNames(store), [older]);
    assert.deepEqual(readdirSync(directory).toSorted(), [older, `${older}.json`]);
  });
});

describe('a disk that is too small', () => {
  test('is not filled, and no snapshot is lost', async (context) => {
    if (!requireMount(context)) return;
    const directory = mountTmpfs(context, 'size=70m');
    const older = addOlderSnapshots(directory, 2, 1_000_000);
    const { store, databasePath } = await openSnapshotFixture(context, { directory });
    createUsageFile(databasePath, { rows: 300_000 });
    await assert.rejects(
      store.take(),
      /the disk of ".*" has 71\.4 MB free, but a snapshot takes \d\d\.\d MB and 67\.1 MB must stay free/u,
    );
    await store.refresh();
    assert.deepEqual(snapshotNames(store), older);
    assert.equal(readdirSync(directory).length, 4);
  });

  test('gets space by removing as few of the oldest snapshots as possible', async (context) => {
    if (!requireMount(context)) return;
    const directory = mountTmpfs(context, 'size=110m');
    const older = addOlderSnapshots(directory, 3, 12_000_000);
    const { store, databasePath } = await openSnapshotFixture(context, { directory });
    createUsageFile(databasePath, { rows: 300_000 });
    const { name, bytes } = await store.take();
    // 79 MB are free and 67 MB are the reserve, so 12 MB can be used.
    assert.ok(bytes > 13_000_000 && bytes < 24_000_000, String(bytes));
    assert.deepEqual(snapshotNames(store), [name, ...older.slice(0, 2)]);
  });

  test('that becomes full during a snapshot is reported, and keeps earlier snapshots', async (context) => {
    const fallocate = findProgram('fallocate');
    if (!requireMount(context)) return;
    if (fallocate === null) return context.skip('needs fallocate: apt-get install util-linux');
    const directory = mountTmpfs(context, 'size=300m');
    const older = addOlderSnapshots(directory, 1, 100);
    const { store, databasePath } = await openSnapshotFixture(context, { directory });
    createUsageFile(databasePath);
    const database = new Database(databasePath);
    database.exec('INSERT INTO usage SELECT 1, 1, 1, 1, hex(zeroblob(50000000))');
    database.close();
    const taking = assert.rejects(store.take(), /the disk of ".*" became full during a snapshot/u);
    await until(() => readdirSync(directory).length > 2);
    const { bavail, bsize } = statfsSync(directory);
    execFileSync(fallocate, ['--length', String(bavail * bsize - 1_000_000), join(directory, 'filler')]);
    await taking;
    await store.refresh();
    assert.deepEqual(snapshotNames(store), older);
    assert.deepEqual(readdirSync(directory).toSorted(), ['filler', ...older, `${older[0]}.json`]);
  });
});

test('a directory of another user is rejected', async (context) => {
  const setpriv = findProgram('setpriv');
  if (process.getuid?.() !== 0 || setpriv === null)
    return context.skip('needs root and setpriv(1): run it with sudo');
  const { directory } = await openSnapshotFixture(context);
  chmodSync(join(directory, '..'), 0o755);
  const checkout = publicCheckout();
  const program = `
    import { SnapshotStore } from ${JSON.stringify(checkout.urlOf('sidecar/snapshots/snapshot-store.ts'))};
    const options = { directory: ${JSON.stringify(directory)}, keep: 1, source: {}, pool: {} };
    console.log(await SnapshotStore.open(options).catch((error) => error.message));`;
  const reader = new Program([
    setpriv,
    '--reuid=65534',
    '--regid=65534',
    '--clear-groups',
    checkout.node,
    '--input-type=module',
    '--eval',
    program,
  ]);
  await reader.succeeds(CONDITION_TIMEOUT_MS);
  assert.match(reader.stdout, /^can't keep snapshots in ".*": EACCES.*change its owner to this user/u);
});
