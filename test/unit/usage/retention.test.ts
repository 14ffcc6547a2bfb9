import assert from 'node:assert/strict';
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import Database from 'better-sqlite3';
import { MOODS } from '../../../src/protocol/messages.ts';
import { deleteRecords, readDeletedTotals } from '../../../src/usage/retention.ts';
import { SqliteSink } from '../../../src/usage/sqlite-sink.ts';
import type { CurrentState, RetentionOptions } from '../../../src/usage/sqlite-sink.ts';
import { scratch } from '../../support/scratch.ts';
import { addUsage, createUsageFile, readUsageSum } from '../../support/usage-files.ts';
import { HAPPY_RECORD, insertRecords } from '../../support/usage-records.ts';

/** Start of the first record of `createUsageFile`; each further one is a second later. */
const FIRST = 1_600_000_000;

async function open(context: TestContext, rows: number): Promise<Database.Database> {
  const path = join(await scratch(context), 'usage.sqlite');
  createUsageFile(path, { rows });
  const database = new Database(path);
  context.after(() => database.close());
  return database;
}

/** @returns number of records per batch */
function deleteAll(database: Database.Database, before: number): number[] {
  const batches: number[] = [];
  for (;;) {
    const { records, isComplete } = deleteRecords(database, before);
    batches.push(records);
    if (isComplete) return batches;
  }
}

describe('the deletion of old records', () => {
  test('keeps newer records and the totals of all', async (context) => {
    const database = await open(context, 3000);
    assert.deepEqual(deleteAll(database, FIRST + 2500), [1000, 1000, 500]);
    assert.deepEqual(readUsageSum(database), { rows: 500, bytes: 1001 });
    const { records, bytes, count, lastRowid } = readDeletedTotals(database);
    assert.deepEqual([[...records], bytes, count, lastRowid], [[['happy', 2500]], 4999, 2500, 2500n]);
    assert.equal(database.prepare('SELECT min(started) FROM usage').pluck().get(), FIRST + 2500);
    assert.deepEqual(deleteAll(database, FIRST + 2500), [0]);
  });

  test('creates no table if there is nothing to delete', async (context) => {
    const database = await open(context, 3);
    assert.deepEqual(deleteAll(database, FIRST), [0]);
    assert.equal(
      database.prepare("SELECT 1 FROM sqlite_schema WHERE name = 'usage_deleted'").get(),
      undefined,
    );
    assert.equal(readDeletedTotals(database).count, 0);
  });

  test('counts the records of each mood', async (context) => {
    const database = await open(context, 0);
    const all = [...MOODS, 'unknown'];
    insertRecords(
      database,
      all.map((result) => ({ ...HAPPY_RECORD, started: 1, result })),
    );
    deleteAll(database, 2);
    const { records, count } = readDeletedTotals(database);
    assert.equal(count, all.length);
    assert.deepEqual([...records.keys()].toSorted(), [...MOODS, 'other'].toSorted());
  });

  test('counts unknown moods together, and keeps records without a time', async (context) => {
    const database = await open(context, 0);
    insertRecords(database, [
      { ...HAPPY_RECORD, started: 1, result: 'odd', total_bytes: 5 },
      { ...HAPPY_RECORD, started: 1, result: null, total_bytes: 'many' },
      { ...HAPPY_RECORD, started: 'never' },
      { ...HAPPY_RECORD, started: null },
    ]);
    assert.deepEqual(deleteAll(database, 2), [2]);
    assert.equal(readUsageSum(database).rows, 2);
    const { records, bytes } = readDeletedTotals(database);
    assert.deepEqual([[...records], bytes], [[['other', 2]], 5]);
  });

  test('returns the space to the file system', async (context) => {
    const database = await open(context, 200_000);
    const size = (): number => {
      database.pragma('wal_checkpoint(TRUNCATE)');
      return statSync(database.name).size;
    };
    const before = size();
    deleteAll(database, FIRST + 190_000);
    const after = size();
    // 1000 pages of 4 KiB stay for new records.
    assert.ok(after < before / 10 + 1000 * 4096, `${before} bytes before, ${after} after`);
    assert.equal(database.pragma('integrity_check', { simple: true }), 'ok');
  });

  test('reuses the space for new records in a database without auto_vacuum', async (context) => {
    const database = await open(context, 0);
    database.pragma('journal_mode = DELETE');
    database.pragma('auto_vacuum = NONE');
    database.exec('VACUUM');
    addUsage(database, 100_000);
    const pages = database.pragma('page_count', { simple: true });
    deleteAll(database, FIRST + 90_000);
    // The totals need two pages more: a table and its index.
    assert.equal(database.pragma('page_count', { simple: true }), Number(pages) + 2);
    database.pragma('auto_vacuum = INCREMENTAL');
    database.exec('VACUUM');
    assert.equal(database.pragma('auto_vacuum', { simple: true }), 2);
    assert.ok(Number(database.pragma('page_count', { simple: true })) < Number(pages) / 5);
  });
});

describe('a sink with a retention time', () => {
  async function records(context: TestContext, retention: RetentionOptions | null): Promise<unknown[]> {
    const path = join(await scratch(context), 'usage.sqlite');
    createUsageFile(path, { rows: 2500 });
    const deleted = Promise.withResolvers<number>();
    const ignore = (): void => undefined;
    const events = {
      onFailed: ignore,
      onRecovered: ignore,
      onDropped: ignore,
      onNotice: ignore,
      onDeleted: deleted.resolve,
    };
    const current = (): CurrentState => ({ rebooted: 1, connected: 0, waiting: 0, incomplete_bytes: 0 });
    const sink = await SqliteSink.open(path, current, events, retention);
    sink.record({
      started: Date.now() / 1000,
      total_time: 1,
      waiting_time: null,
      total_bytes: 0,
      mood: 'lonely',
    });
    if (retention !== null) assert.equal(await deleted.promise, 2500);
    await sink.close();
    const database = new Database(path, { readonly: true });
    context.after(() => database.close());
    return database.prepare('SELECT count(*) AS n, result FROM usage GROUP BY result').all();
  }

  test('deletes in batches between writes', async (context) => {
    const found = await records(context, { maxAgeMs: 3_600_000, initialDelayMs: 0 });
    assert.deepEqual(found, [{ n: 1, result: 'lonely' }]);
  });

  test('deletes nothing without a retention time', async (context) => {
    const found = await records(context, null);
    assert.deepEqual(found, [
      { n: 2500, result: 'happy' },
      { n: 1, result: 'lonely' },
    ]);
  });
});
