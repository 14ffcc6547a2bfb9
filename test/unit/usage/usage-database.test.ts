import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import Database from 'better-sqlite3';
import { UsageDatabase } from '../../../src/usage/usage-database.ts';
import type { DatabaseResponse } from '../../../src/usage/usage-database.ts';
import { scratch } from '../../support/scratch.ts';
import {
  SUM_QUERY,
  addUsage,
  createUsageFile,
  requireMount,
  mountReadOnly,
} from '../../support/usage-files.ts';

interface TestDatabase {
  readonly path: string;
  readonly movedPath: string;
  /** Writes one record with this number of bytes. */
  readonly write: (bytes: number) => DatabaseResponse;
  readonly close: () => DatabaseResponse;
}

async function openDatabase(context: TestContext): Promise<TestDatabase> {
  const directory = await scratch(context);
  const path = join(directory, 'usage.sqlite');
  const database = new UsageDatabase(path);
  context.after(() => database.handle({ kind: 'close' }));
  return {
    path,
    movedPath: join(directory, 'away.sqlite'),
    close: () => database.handle({ kind: 'close' }),
    write: (bytes) => {
      const record = {
        started: 1,
        total_time: 1,
        waiting_time: 1,
        total_bytes: bytes,
        mood: 'happy',
      } as const;
      return database.handle({ kind: 'write', records: [record], current: CURRENT });
    },
  };
}

/** Records and their bytes in a database that only the relay has open. */
function sum(path: string): unknown {
  const database = new Database(path, { readonly: true });
  try {
    assert.deepEqual(database.pragma('integrity_check'), [{ integrity_check: 'ok' }]);
    return database.prepare(SUM_QUERY).get();
  } finally {
    database.close();
  }
}

const CURRENT = { rebooted: 1, updated: 1, connected: 0, waiting: 0, incomplete_bytes: 0 };

const DONE = { kind: 'done' };

test('a deleted database is recreated with the next record', async (context) => {
  const { path, write } = await openDatabase(context);
  assert.deepEqual(write(1), DONE);
  rmSync(path);
  assert.deepEqual(write(2), DONE);
  assert.deepEqual(write(4), DONE);
  assert.deepEqual(sum(path), { rows: 2, bytes: 6 });
});

test('a deleted directory is retried', async (context) => {
  const directory = join(await scratch(context), 'data');
  mkdirSync(directory);
  const path = join(directory, 'usage.sqlite');
  const database = new UsageDatabase(path);
  const request = { kind: 'write', records: [], current: CURRENT } as const;
  assert.deepEqual(database.handle(request), DONE);
  rmSync(directory, { recursive: true });
  const response = database.handle(request);
  assert.ok(response.kind === 'unusable');
  assert.match(response.reason, /^there is no directory/u);
  mkdirSync(directory);
  assert.deepEqual(database.handle(request), DONE);
  database.handle({ kind: 'close' });
  assert.deepEqual(sum(path), { rows: 0, bytes: 0 });
});

test('a moved database keeps its records and gets no later ones', async (context) => {
  const { path, movedPath, write } = await openDatabase(context);
  for (const bytes of [1, 2, 4]) write(bytes);
  const next = `${movedPath}-next`;
  createUsageFile(next, { rows: 3000 });
  renameSync(path, movedPath);
  renameSync(next, path);
  assert.deepEqual(write(8), DONE);
  assert.deepEqual(sum(path), { rows: 3001, bytes: 6008 });
  assert.deepEqual(sum(movedPath), { rows: 3, bytes: 7 });
});

test('a deleted write-ahead log loses no record', async (context) => {
  const { path, write } = await openDatabase(context);
  write(1);
  rmSync(`${path}-wal`);
  assert.deepEqual(write(2), DONE);
  assert.deepEqual(sum(path), { rows: 2, bytes: 3 });
  assert.ok(existsSync(`${path}-wal`));
});

test('while a program reads a moved database, its log and the next database are not changed', async (context) => {
  const { path, movedPath, write } = await openDatabase(context);
  write(1);
  const reader = new Database(path, { readonly: true });
  context.after(() => reader.close());
  const reading = reader.prepare(SUM_QUERY).iterate();
  reading.next();
  write(2);
  renameSync(path, movedPath);
  writeFileSync(path, '');
  assert.deepEqual(write(4), {
    kind: 'failed',
    code: 'SQLITE_BUSY',
    reason: 'another program keeps the database locked',
  });
  assert.equal(statSync(path).size, 0);
  reading.return?.();
  assert.deepEqual(write(4), DONE);
  reader.close();
  assert.deepEqual(sum(path), { rows: 1, bytes: 4 });
  assert.deepEqual(sum(movedPath), { rows: 2, bytes: 3 });
});

test('a database on a file system that is mounted read-only is unusable, with this reason', async (context) => {
  if (!requireMount(context)) return;
  const { path } = await openDatabase(context);
  createUsageFile(path);
  const mounted = join(mountReadOnly(context, dirname(path)), 'usage.sqlite');
  const reason = `"${mounted}" is on a file system that is mounted read-only`;
  assert.deepEqual(new UsageDatabase(mounted).handle({ kind: 'open' }), { kind: 'unusable', reason });
});

test('a corrupt database is reopened after its repair', async (context) => {
  const { path, movedPath, write } = await openDatabase(context);
  write(1);
  renameSync(path, movedPath);
  writeFileSync(path, 'garbage '.repeat(2000));
  assert.deepEqual(write(2), { kind: 'unusable', reason: 'it is not an SQLite database' });
  renameSync(movedPath, path);
  assert.deepEqual(write(2), DONE);
  assert.deepEqual(sum(path), { rows: 2, bytes: 3 });
});

describe('the write-ahead log', () => {
  /** Makes the log larger than needed. */
  const grow = (path: string): void => {
    const other = new Database(path);
    addUsage(other, 120_000);
    other.close();
  };

  test('is truncated after its readers have finished, and long readers are reported once', async (context) => {
    const path = join(await scratch(context), 'usage.sqlite');
    const database = new UsageDatabase(path, { retryMs: 0, reportAfterMs: 0 });
    context.after(() => database.handle({ kind: 'close' }));
    const write = (): DatabaseResponse => database.handle({ kind: 'write', records: [], current: CURRENT });
    const log = (): number => statSync(`${path}-wal`).size;
    assert.deepEqual(write(), DONE);
    const reader = new Database(path, { readonly: true });
    context.after(() => reader.close());
    reader.exec('BEGIN');
    reader.prepare(SUM_QUERY).get();
    grow(path);
    const bytes = log();
    assert.ok(bytes > 5 * 2 ** 20, `${bytes} bytes`);
    const [response, next] = [write(), write()];
    assert.ok(response.kind === 'done');
    assert.deepEqual(
      response.notices?.map(({ kind }) => kind),
      ['wal blocked'],
    );
    assert.deepEqual(next, DONE);
    assert.ok(log() >= bytes);
    reader.exec('COMMIT');
    assert.deepEqual(write(), { kind: 'done', notices: [{ kind: 'wal truncated' }] });
    assert.equal(log(), 0);
    assert.deepEqual(write(), DONE);
  });

  test('is reported with its size after readers have blocked its truncation for two minutes', async (context) => {
    const startMs = 1_000_000;
    let nowMs = startMs;
    context.mock.method(performance, 'now', () => nowMs);
    const { path, write } = await openDatabase(context);
    const notices = (): unknown => {
      const response = write(1);
      return response.kind === 'done' ? (response.notices ?? []) : response;
    };
    assert.deepEqual(notices(), []);
    const reader = new Database(path, { readonly: true });
    context.after(() => reader.close());
    const reading = reader.prepare(SUM_QUERY).iterate();
    reading.next();
    grow(path);
    for (const afterMs of [0, 119_999, 124_998]) {
      nowMs = startMs + afterMs;
      assert.deepEqual(notices(), [], `after ${afterMs} ms`);
    }
    // Five seconds after the last attempt.
    nowMs = startMs + 124_999;
    assert.deepEqual(notices(), [{ kind: 'wal blocked', seconds: 125, bytes: statSync(`${path}-wal`).size }]);
    reading.return?.();
  });

  test('is truncated after a VACUUM by another program', async (context) => {
    const path = join(await scratch(context), 'usage.sqlite');
    const database = new UsageDatabase(path);
    context.after(() => database.handle({ kind: 'close' }));
    const write = (): DatabaseResponse => database.handle({ kind: 'write', records: [], current: CURRENT });
    assert.deepEqual(write(), DONE);
    grow(path);
    const other = new Database(path);
    other.exec('VACUUM');
    other.close();
    assert.ok(statSync(`${path}-wal`).size > 5 * 2 ** 20);
    assert.deepEqual(write(), DONE);
    assert.ok(statSync(`${path}-wal`).size <= 4 * 2 ** 20);
  });
});

describe('a closed database', () => {
  test('is a single file', async (context) => {
    const { path, write, close } = await openDatabase(context);
    write(1);
    assert.ok(existsSync(`${path}-wal`));
    assert.deepEqual(close(), DONE);
    assert.deepEqual(readdirSync(dirname(path)), ['usage.sqlite']);
    assert.deepEqual(versionsOf(path), [1, 1]);
    assert.deepEqual(write(2), DONE);
    assert.deepEqual(versionsOf(path), [2, 2]);
    assert.deepEqual(close(), DONE);
    assert.deepEqual(sum(path), { rows: 2, bytes: 3 });
  });

  test('can be read from a read-only directory', async (context) => {
    if (!requireMount(context)) return;
    const { path, write, close } = await openDatabase(context);
    write(1);
    close();
    const mounted = mountReadOnly(context, dirname(path));
    assert.deepEqual(sum(join(mounted, 'usage.sqlite')), { rows: 1, bytes: 1 });
  });

  test('keeps its log while a program reads it, and loses no record', async (context) => {
    const { path, write, close } = await openDatabase(context);
    write(1);
    const reader = new Database(path, { readonly: true });
    context.after(() => reader.close());
    assert.deepEqual(reader.prepare(SUM_QUERY).get(), { rows: 1, bytes: 1 });
    write(2);
    assert.deepEqual(close(), DONE);
    assert.deepEqual(versionsOf(path), [2, 2]);
    assert.deepEqual(reader.prepare(SUM_QUERY).get(), { rows: 2, bytes: 3 });
  });

  test('has all its records if it was moved, and does not change the file that replaced it', async (context) => {
    const { path, movedPath, write, close } = await openDatabase(context);
    write(1);
    renameSync(path, movedPath);
    const other = Buffer.from('something else');
    writeFileSync(path, other);
    assert.deepEqual(close(), DONE);
    assert.ok(readFileSync(path).equals(other));
    assert.deepEqual(versionsOf(movedPath), [2, 2]);
    rmSync(path);
    assert.deepEqual(sum(movedPath), { rows: 1, bytes: 1 });
  });
});

describe('without shared memory, which a write-ahead log needs,', () => {
  const NOTICED = { kind: 'done', notices: [{ kind: 'rollback journal' }] };

  /** SQLite can't change the size of a pipe, so it fails as on a file system that can't share memory. */
  const removeSharedMemory = (path: string): void => {
    execFileSync('mkfifo', [`${path}-shm`]);
  };

  test('a new database has a rollback journal, and can be read between writes', async (context) => {
    const { path, write } = await openDatabase(context);
    removeSharedMemory(path);
    assert.deepEqual(write(1), NOTICED);
    assert.deepEqual(sum(path), { rows: 1, bytes: 1 });
    assert.deepEqual(write(2), DONE);
    assert.deepEqual(sum(path), { rows: 2, bytes: 3 });
    assert.deepEqual(versionsOf(path), [1, 1]);
  });

  test('a database that has had a write-ahead log keeps its records', async (context) => {
    const { path, write } = await openDatabase(context);
    createUsageFile(path, { rows: 3 });
    assert.deepEqual(versionsOf(path), [2, 2]);
    removeSharedMemory(path);
    assert.deepEqual(write(10), NOTICED);
    assert.deepEqual(sum(path), { rows: 4, bytes: 16 });
    assert.deepEqual(versionsOf(path), [1, 1]);
  });

  test("a database of another program that has had a write-ahead log gets the relay's tables", async (context) => {
    const { path, write } = await openDatabase(context);
    const other = new Database(path);
    other.exec('PRAGMA journal_mode = WAL; CREATE TABLE _litestream_seq (id INTEGER)');
    other.close();
    removeSharedMemory(path);
    assert.deepEqual(write(1), NOTICED);
    assert.deepEqual(sum(path), { rows: 1, bytes: 1 });
  });
});

/** The read and write versions: 2 for a write-ahead log, 1 for a rollback journal. */
function versionsOf(path: string): number[] {
  return [...readFileSync(path).subarray(18, 20)];
}

describe('a database to which another relay writes', () => {
  const SHARED = { kind: 'done', notices: [{ kind: 'shared' }] };

  /** Writes the state of a relay that started at this time. */
  const writeTo = (database: UsageDatabase, rebooted: number): DatabaseResponse =>
    database.handle({ kind: 'write', records: [], current: { ...CURRENT, rebooted } });

  test('is reported by both with their next write', async (context) => {
    const path = join(await scratch(context), 'usage.sqlite');
    const [one, other] = [new UsageDatabase(path), new UsageDatabase(path)];
    context.after(() => [one, other].map((database) => database.handle({ kind: 'close' })));
    assert.deepEqual(writeTo(one, 1.25), DONE);
    assert.deepEqual(writeTo(one, 1.25), DONE);
    assert.deepEqual(writeTo(other, 2.5), DONE);
    assert.deepEqual(writeTo(one, 1.25), SHARED);
    assert.deepEqual(writeTo(one, 1.25), DONE);
    assert.deepEqual(writeTo(other, 2.5), SHARED);
  });

  test('is not reported after a restart, or if the file was replaced', async (context) => {
    const { path, movedPath, write } = await openDatabase(context);
    const previous = new UsageDatabase(movedPath);
    writeTo(previous, 7);
    previous.handle({ kind: 'close' });
    assert.deepEqual(write(1), DONE);
    rmSync(path);
    renameSync(movedPath, path);
    assert.deepEqual(write(1), DONE);
  });
});
