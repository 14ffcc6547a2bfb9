import assert from 'node:assert/strict';
import { once } from 'node:events';
import {
  copyFileSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { Worker } from 'node:worker_threads';
import Database from 'better-sqlite3';
import { openUsageDatabase } from '../../../../src/sidecar/usage/usage-source.ts';
import { Program } from '../../../support/programs.ts';
import { until } from '../../../support/scratch.ts';
import {
  addUsage,
  createUsageFile,
  killWriter,
  startWriter,
  stopWriter,
  readUsageSum,
  runWithReference,
} from '../../../support/usage-files.ts';
import {
  assertWholeTransactions,
  createUsageFixture,
  openAndSum,
  fileMetadata,
} from '../../../support/usage-fixture.ts';

describe('a closed database', () => {
  test('is read without creating files beside it', async (context) => {
    const source = await createUsageFixture(context);
    createUsageFile(source.databasePath, { rows: 300 });
    const before = fileMetadata(source.volume);
    assert.deepEqual(openAndSum(source), { rows: 300, bytes: 600 });
    assert.deepEqual(fileMetadata(source.volume), before);
  });

  test('is copied once per state, and copies are removed when the database is opened', async (context) => {
    const source = await createUsageFixture(context);
    createUsageFile(source.databasePath);
    openAndSum(source);
    const copies = fileMetadata(source.scratchDirectory);
    assert.equal(copies.length, 1);
    assert.equal(openAndSum(source).rows, 3);
    assert.deepEqual(fileMetadata(source.scratchDirectory), copies);

    const writer = new Database(source.databasePath);
    addUsage(writer, 3);
    assert.equal(openAndSum(source).rows, 6);
    assert.deepEqual(readdirSync(source.scratchDirectory), []);
    writer.close();
    assert.equal(openAndSum(source).rows, 6);
    assert.equal(readdirSync(source.scratchDirectory).length, 1);
    assert.notDeepEqual(fileMetadata(source.scratchDirectory), copies);
  });

  test('can be read by several threads at once', async (context) => {
    const source = await createUsageFixture(context);
    createUsageFile(source.databasePath, { rows: 30_000 });
    const url = import.meta.resolve('../../../../src/sidecar/usage/usage-source.ts');
    const program = `
      const { parentPort, workerData } = require('node:worker_threads');
      import(${JSON.stringify(url)}).then(({ openUsageDatabase }) => {
        for (let round = 0; round < 10; round += 1) {
          const opened = openUsageDatabase(workerData);
          parentPort.postMessage(opened.database.prepare('SELECT count(*) FROM usage').pluck().get());
          opened.database.close();
        }
      });`;
    const counts: unknown[] = [];
    const threads = [1, 2, 3].map(() => new Worker(program, { eval: true, workerData: source }));
    for (const thread of threads) thread.on('message', (count) => counts.push(count));
    assert.deepEqual(await Promise.all(threads.map((thread) => once(thread, 'exit'))), [[0], [0], [0]]);
    assert.deepEqual(
      counts,
      Array.from({ length: 30 }, () => 30_000),
    );
    assert.equal(readdirSync(source.scratchDirectory).length, 1);
  });

  test('can be read without its shared memory, including its log', async (context) => {
    const source = await createUsageFixture(context);
    const writer = await startWriter(source.databasePath);
    await killWriter(writer);
    rmSync(`${source.databasePath}-shm`);
    const before = fileMetadata(source.volume);
    assertWholeTransactions(openAndSum(source));
    assert.deepEqual(fileMetadata(source.volume), before);
  });
});

describe('the database of a relay', () => {
  test('is always read between transactions', async (context) => {
    const source = await createUsageFixture(context);
    const writer = await startWriter(source.databasePath);
    context.after(() => writer[Symbol.asyncDispose]());
    const seen = new Set<number>();
    await until(() => {
      const sum = openAndSum(source);
      assertWholeTransactions(sum);
      return seen.add(sum.rows).size >= 20;
    });
    await stopWriter(writer);
    assert.doesNotMatch(writer.stdout, /failed|unusable/u);
  });
});

describe('a database with a rollback journal', () => {
  test('is read in place, and is the only kind that blocks its writer', async (context) => {
    const source = await createUsageFixture(context);
    createUsageFile(source.databasePath, { journalMode: 'delete' });
    const opened = openUsageDatabase(source);
    assert.equal(opened.blocksWriter, true);
    opened.database.close();
    assert.deepEqual(readdirSync(source.volume), ['usage.sqlite']);
    assert.throws(() => readdirSync(source.scratchDirectory), /ENOENT/u);
    const writer = new Database(source.databasePath);
    context.after(() => writer.close());
    writer.pragma('journal_mode = WAL');
    addUsage(writer, 1);
    const inPlace = openUsageDatabase(source);
    assert.equal(inPlace.blocksWriter, false);
    inPlace.database.close();
  });

  test('can be read during a transaction of its writer', async (context) => {
    const source = await createUsageFixture(context);
    createUsageFile(source.databasePath, { journalMode: 'delete' });
    const writer = new Database(source.databasePath);
    context.after(() => writer.close());
    writer.exec('BEGIN IMMEDIATE');
    addUsage(writer, 1);
    assert.equal(readdirSync(source.volume).length, 2);
    assert.equal(openAndSum(source).rows, 3);
  });

  test('is read in the state before an interrupted transaction', async (context) => {
    const source = await createUsageFixture(context);
    createUsageFile(source.databasePath, { rows: 3000, journalMode: 'delete' });
    // The state after a power cut: the journal is complete and the database is partly written.
    const original = readFileSync(source.databasePath);
    const writer = new Database(source.databasePath);
    writer.pragma('cache_size = 1');
    writer.pragma('cache_spill = 1');
    writer.exec('BEGIN IMMEDIATE');
    writer.exec('UPDATE usage SET total_bytes = 1000');
    const half = [readFileSync(source.databasePath), readFileSync(`${source.databasePath}-journal`)] as const;
    writer.exec('ROLLBACK');
    writer.close();
    assert.ok(!half[0].equals(original));
    writeFileSync(source.databasePath, half[0]);
    writeFileSync(`${source.databasePath}-journal`, half[1]);
    const before = fileMetadata(source.volume);
    assert.deepEqual(openAndSum(source), { rows: 3000, bytes: 6000 });
    assert.deepEqual(fileMetadata(source.volume), before);
  });

  test('stays locked for its reader, even if it is opened a second time', async (context) => {
    const source = await createUsageFixture(context);
    createUsageFile(source.databasePath, { journalMode: 'delete' });
    const reader = openUsageDatabase(source);
    context.after(() => reader.database.close());
    reader.database.exec('BEGIN');
    assert.equal(readUsageSum(reader.database).rows, 3);
    assert.equal(openAndSum(source).rows, 3);
    const program = `
      import Database from ${JSON.stringify(import.meta.resolve('better-sqlite3'))};
      const database = new Database(${JSON.stringify(source.databasePath)}, { timeout: 0 });
      try { database.exec('BEGIN EXCLUSIVE'); console.log('got it'); } catch (error) { console.log(error.code); }`;
    const writer = new Program([process.execPath, '--input-type=module', '--eval', program]);
    await writer.succeeds(20_000);
    assert.equal(writer.stdout, 'SQLITE_BUSY\n');
  });

  test('of the reference can be read', async (context) => {
    const source = await createUsageFixture(context);
    const program = `db = get_db(sys.argv[1])
db.execute("INSERT INTO usage VALUES (1600000000, 5.5, NULL, 7, 'lonely')")
db.commit()`;
    if (runWithReference(context, program, source.databasePath) === null) return;
    assert.deepEqual(openAndSum(source), { rows: 1, bytes: 7 });
    assert.deepEqual(readdirSync(source.volume), ['usage.sqlite']);
  });

  test('is an error while it is locked', async (context) => {
    const source = await createUsageFixture(context);
    createUsageFile(source.databasePath, { journalMode: 'delete' });
    const writer = new Database(source.databasePath);
    writer.exec('BEGIN EXCLUSIVE');
    assert.throws(() => openAndSum(source), /another program has locked it/u);
    writer.close();
    assert.equal(openAndSum(source).rows, 3);
  });
});

test('a replaced file is read at the next open', async (context) => {
  const source = await createUsageFixture(context);
  createUsageFile(source.databasePath, { rows: 3 });
  assert.equal(openAndSum(source).rows, 3);
  const other = join(mkdtempSync(join(source.volume, 'new-')), 'usage.sqlite');
  createUsageFile(other, { rows: 9 });
  renameSync(other, source.databasePath);
  assert.equal(openAndSum(source).rows, 9);
  createUsageFile(other, { rows: 12 });
  copyFileSync(other, source.databasePath);
  assert.equal(openAndSum(source).rows, 12);
});

test('a scratch directory that cannot be created is an error with its path', async (context) => {
  const source = await createUsageFixture(context);
  createUsageFile(source.databasePath);
  writeFileSync(source.scratchDirectory, 'a file');
  assert.throws(() => openAndSum(source), /private copy of the usage database in ".*scratch"/u);
});
