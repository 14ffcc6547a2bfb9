import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import Database from 'better-sqlite3';
import { checkNewestSnapshot } from '../../../../src/sidecar/snapshots/snapshot-check.ts';
import { snapshotName } from '../../../../src/sidecar/snapshots/snapshot-files.ts';
import { SnapshotError, SnapshotStore } from '../../../../src/sidecar/snapshots/snapshot-store.ts';
import { findProgram } from '../../../support/programs.ts';
import { scratch } from '../../../support/scratch.ts';
import { addOlderSnapshots, snapshotNames, openSnapshotFixture } from '../../../support/snapshot-fixture.ts';
import {
  createUsageFile,
  requireMount,
  mountReadOnly,
  startWriter,
  stopWriter,
  readUsageSum,
  runWithReference,
} from '../../../support/usage-files.ts';
import type { UsageSum } from '../../../support/usage-files.ts';

function sumIn(path: string): UsageSum {
  const database = new Database(path, { readonly: true });
  try {
    return readUsageSum(database);
  } finally {
    database.close();
  }
}

function fileOf(store: SnapshotStore, name: string): string {
  const path = store.pathOf(name);
  assert.ok(path !== null);
  return path;
}

describe('a snapshot', () => {
  test('is a single file that matches its metadata', async (context) => {
    const { store, databasePath, directory } = await openSnapshotFixture(context);
    createUsageFile(databasePath, { rows: 3000 });
    const before = Date.now();
    const snapshot = await store.take();
    const path = fileOf(store, snapshot.name);
    const content = readFileSync(path);
    assert.match(snapshot.name, /^usage-\d{8}T\d{6}Z\.sqlite$/u);
    assert.equal(snapshot.name, snapshotName(Date.parse(snapshot.time)));
    assert.ok(Date.parse(snapshot.time) >= before && Date.parse(snapshot.time) <= Date.now());
    assert.deepEqual(
      [snapshot.bytes, snapshot.rows, snapshot.sha256],
      [content.length, 3000, createHash('sha256').update(content).digest('hex')],
    );
    assert.deepEqual(sumIn(path), { rows: 3000, bytes: 6000 });
    assert.deepEqual(readdirSync(directory).toSorted(), [snapshot.name, `${snapshot.name}.json`]);
    for (const name of readdirSync(directory))
      assert.equal(statSync(join(directory, name)).mode & 0o777, 0o644);
    assert.equal(await checkNewestSnapshot({ directory, maxAgeMs: 60_000, now: Date.now() }), null);
    assert.deepEqual(store.list(), [snapshot]);
  });

  test('opens in the sqlite3 program, even in a read-only directory', async (context) => {
    const sqlite = findProgram('sqlite3');
    if (sqlite === null) return context.skip('needs sqlite3: apt-get install sqlite3');
    const { store, databasePath, directory } = await openSnapshotFixture(context);
    createUsageFile(databasePath, { rows: 3000 });
    const { name } = await store.take();
    const ask = (path: string): string =>
      execFileSync(
        sqlite,
        ['-readonly', path, 'PRAGMA integrity_check; SELECT count(*), total(total_bytes) FROM usage'],
        {
          encoding: 'utf8',
        },
      );
    assert.equal(ask(fileOf(store, name)), 'ok\n3000|6000.0\n');
    if (!requireMount(context)) return;
    assert.equal(ask(join(mountReadOnly(context, directory), name)), 'ok\n3000|6000.0\n');
    assert.equal(readdirSync(directory).length, 2);
  });

  test('is continued by the reference', async (context) => {
    const { store, databasePath } = await openSnapshotFixture(context);
    createUsageFile(databasePath);
    const { name } = await store.take();
    const restored = `${databasePath}.restored`;
    copyFileSync(fileOf(store, name), restored);
    const program = `db = get_db(sys.argv[1])
db.execute("INSERT INTO usage VALUES (1600000000, 5.5, NULL, 7, 'lonely')")
db.commit()
print(db.execute("SELECT SUM(total_bytes) AS bytes FROM usage").fetchone()["bytes"])`;
    const printed = runWithReference(context, program, restored);
    if (printed !== null) assert.equal(printed, '13\n');
  });

  test('of a database of the reference can be opened', async (context) => {
    const { store, databasePath } = await openSnapshotFixture(context);
    const program = `db = get_db(sys.argv[1])
db.execute("INSERT INTO usage VALUES (1600000000, 5.5, NULL, 7, 'lonely')")
db.commit()`;
    if (runWithReference(context, program, databasePath) === null) return;
    const { name, rows } = await store.take();
    assert.equal(rows, 1);
    assert.deepEqual(sumIn(fileOf(store, name)), { rows: 1, bytes: 7 });
  });

  test('is taken during continuous writes, and ends with a transaction', async (context) => {
    const { store, databasePath } = await openSnapshotFixture(context);
    createUsageFile(databasePath, { rows: 300_000 });
    const writer = await startWriter(databasePath);
    context.after(() => writer[Symbol.asyncDispose]());
    const commits = (): number => writer.stdout.split('\n').length - 1;
    const before = commits();
    const { name, rows } = await store.take();
    const during = commits() - before;
    assert.ok(during >= 3, `only ${during} commits while the snapshot was taken`);
    const sum = sumIn(fileOf(store, name));
    assert.equal(sum.rows, rows);
    assert.deepEqual([rows % 3, sum.bytes], [0, rows * 2]);
    // Bytes 18 and 19 would be 2 for a write-ahead log, which can be opened only in a writable directory.
    assert.deepEqual([...readFileSync(fileOf(store, name)).subarray(18, 20)], [1, 1]);
    // It has the state at its start, not at its end.
    assert.ok(rows >= 300_000 + before * 3);
    assert.ok(rows < 300_000 + (before + during) * 3);
    await stopWriter(writer);
    assert.doesNotMatch(writer.stdout, /failed|unusable/u);
    assert.equal(sumIn(databasePath).rows, 300_000 + commits() * 3);
  });

  test('of a closed database in a read-only volume can be taken', async (context) => {
    if (!requireMount(context)) return;
    const { databasePath, options } = await openSnapshotFixture(context);
    const volume = `${databasePath}.volume`;
    mkdirSync(volume);
    createUsageFile(join(volume, 'usage.sqlite'));
    const mounted = join(mountReadOnly(context, volume), 'usage.sqlite');
    const store = await SnapshotStore.open({
      ...options,
      source: { ...options.source, databasePath: mounted },
    });
    assert.equal((await store.take()).rows, 3);
    assert.deepEqual(readdirSync(volume), ['usage.sqlite']);
  });
});

describe('the store', () => {
  test('shares a running snapshot between callers, and takes another one afterwards', async (context) => {
    const { store, databasePath } = await openSnapshotFixture(context);
    createUsageFile(databasePath);
    const [one, other] = await Promise.all([store.take(), store.take()]);
    assert.equal(one, other);
    const next = await store.take();
    assert.notEqual(next.name, one.name);
    assert.deepEqual(snapshotNames(store), [next.name, one.name]);
  });

  test('keeps the configured number of newest snapshots', async (context) => {
    const { databasePath, directory, options } = await openSnapshotFixture(context);
    createUsageFile(databasePath);
    const older = addOlderSnapshots(directory, 5, 100);
    const store = await SnapshotStore.open({ ...options, keep: 3 });
    assert.deepEqual(snapshotNames(store), older);
    const { name } = await store.take();
    assert.deepEqual(snapshotNames(store), [name, ...older.slice(0, 2)]);
    assert.equal(readdirSync(directory).length, 6);
  });

  test('keeps a new snapshot even if the clock was set back', async (context) => {
    const { databasePath, directory, options } = await openSnapshotFixture(context);
    createUsageFile(databasePath);
    addOlderSnapshots(directory, 1, 100);
    const future = {
      name: 'usage-29991231T000000Z.sqlite',
      time: '2999-12-31T00:00:00.000Z',
      bytes: 3,
      rows: 1,
    };
    writeFileSync(join(directory, future.name), 'abc');
    writeFileSync(
      join(directory, `${future.name}.json`),
      JSON.stringify({ ...future, sha256: '0'.repeat(64) }),
    );
    const store = await SnapshotStore.open({ ...options, keep: 1 });
    const { name } = await store.take();
    assert.deepEqual(snapshotNames(store), [name]);
  });

  test('lists only files that match their metadata, and has no path for others', async (context) => {
    const { directory, options } = await openSnapshotFixture(context);
    const [sound = '', short = '', alone = ''] = addOlderSnapshots(directory, 3, 100);
    truncateSync(join(directory, short), 50);
    rmSync(join(directory, `${alone}.json`));
    writeFileSync(join(directory, 'notes.txt'), 'by the operator');
    const store = await SnapshotStore.open(options);
    assert.deepEqual(snapshotNames(store), [sound]);
    assert.equal(store.pathOf(sound), join(directory, sound));
    for (const name of [short, alone, 'notes.txt', `${sound}.json`, `./${sound}`, '', '..']) {
      assert.equal(store.pathOf(name), null);
    }
    assert.ok(existsSync(join(directory, 'notes.txt')));
    assert.ok(existsSync(join(directory, alone)));
    rmSync(join(directory, sound));
    await store.refresh();
    assert.deepEqual(snapshotNames(store), []);
  });

  test('reports an unreadable database, and works after its repair', async (context) => {
    const { store, databasePath, directory } = await openSnapshotFixture(context);
    await assert.rejects(store.take(), (error) => {
      assert.ok(error instanceof SnapshotError);
      assert.match(error.message, /^there is no usage database ".*" yet: start the relay/u);
      return true;
    });
    writeFileSync(databasePath, 'garbage '.repeat(1000));
    await assert.rejects(store.take(), /it is not an SQLite database/u);
    // A page that only a full copy reads.
    createUsageFile(`${databasePath}.good`, { rows: 3000 });
    writeFileSync(databasePath, readFileSync(`${databasePath}.good`).fill(0x55, 8 * 4096, 9 * 4096));
    await assert.rejects(store.take(), /was discarded: SQLite's check says|the file is corrupt/u);
    assert.deepEqual(readdirSync(directory), []);
    rmSync(databasePath);
    createUsageFile(databasePath);
    assert.equal((await store.take()).rows, 3);
  });

  test('cannot be opened in an unwritable directory, which is reported', async (context) => {
    const { options } = await openSnapshotFixture(context);
    const file = join(await scratch(context), 'file');
    writeFileSync(file, '');
    await assert.rejects(SnapshotStore.open({ ...options, directory: file }), (error) => {
      assert.ok(error instanceof SnapshotError);
      assert.match(error.message, /^can't keep snapshots in ".*file": .*SIDECAR_SNAPSHOT_DIR$/u);
      return true;
    });
  });
});
