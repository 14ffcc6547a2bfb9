import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import Database from 'better-sqlite3';
import { NO_TOTALS, addTotals } from '../../../../src/sidecar/usage/usage-totals.ts';
import type { RecordTotals, RecordTotalsState } from '../../../../src/sidecar/usage/usage-totals.ts';
import { deleteRecords } from '../../../../src/usage/retention.ts';
import { ensureSchema } from '../../../../src/usage/schema.ts';
import { addUsage } from '../../../support/usage-files.ts';
import { HAPPY_RECORD, insertRecords } from '../../../support/usage-records.ts';
import type { StoredRecord } from '../../../support/usage-records.ts';

const ALL = 1_000_000;

function databaseWith(context: TestContext, records: readonly StoredRecord[]): Database.Database {
  const database = new Database(':memory:');
  context.after(() => database.close());
  ensureSchema(database);
  insertRecords(database, records);
  return database;
}

function record(result: unknown, total_bytes: unknown): StoredRecord {
  return { ...HAPPY_RECORD, result, total_bytes };
}

function sumOf({ records, bytes }: RecordTotals): RecordTotals {
  return { records, bytes };
}

function happy(records: number, bytes: number): RecordTotals {
  return { records: { ...NO_TOTALS.records, happy: records }, bytes };
}

/** All pages in one call. */
function read(
  database: Database.Database,
  known: RecordTotalsState | null = null,
  file = 'one',
): RecordTotalsState {
  const { state, isComplete } = addTotals(database, file, known, ALL);
  assert.equal(isComplete, true);
  return state;
}

describe('the totals of a usage database', () => {
  test('include all records, by mood', (context) => {
    const moods = ['happy', 'happy', 'lonely', 'redundant', 'impatient', 'errory', 'empty', 'happy'];
    const database = databaseWith(
      context,
      moods.map((result, index) => record(result, index * 10)),
    );
    assert.deepEqual(sumOf(read(database)), {
      records: { happy: 3, lonely: 1, redundant: 1, impatient: 1, errory: 1, empty: 1, other: 0 },
      bytes: 280,
    });
  });

  test('are zero without records, and include new ones', (context) => {
    const database = databaseWith(context, []);
    const nothing = read(database);
    assert.deepEqual(sumOf(nothing), NO_TOTALS);
    addUsage(database, 3);
    assert.deepEqual(sumOf(read(database, nothing)), happy(3, 6));
  });

  test('count invalid values as other moods and no bytes', (context) => {
    const moods = ['Happy', ' happy', '', 'x'.repeat(100_000), '"} 1\n', null, 7, Buffer.from('happy')];
    const amounts = [
      null,
      'many',
      Buffer.from('1'),
      -5,
      Number.POSITIVE_INFINITY,
      Number.NEGATIVE_INFINITY,
      4,
    ];
    const database = databaseWith(context, [
      ...moods.map((result) => record(result, 1)),
      ...amounts.map((bytes) => record('happy', bytes)),
    ]);
    assert.deepEqual(sumOf(read(database)), {
      records: { ...NO_TOTALS.records, happy: 7, other: 8 },
      bytes: 12,
    });
  });

  test('stay finite if the bytes exceed the range of numbers', (context) => {
    const database = databaseWith(context, [record('happy', 1.7e308), record('happy', 1.7e308)]);
    assert.equal(read(database).bytes, Number.MAX_VALUE);
  });

  test('of millions of records are read in pages', (context) => {
    const database = databaseWith(context, []);
    addUsage(database, 90_000);
    const first = addTotals(database, 'one', null, 40_000);
    assert.equal(first.isComplete, false);
    assert.deepEqual(sumOf(first.state), happy(40_000, 79_999));
    const second = addTotals(database, 'one', first.state, 40_000);
    assert.equal(second.isComplete, false);
    const third = addTotals(database, 'one', second.state, 40_000);
    assert.equal(third.isComplete, true);
    assert.deepEqual(sumOf(third.state), happy(90_000, 180_000));
  });

  test('are complete if a window ends with the last record', (context) => {
    const database = databaseWith(context, []);
    addUsage(database, 40_000);
    const all = read(database);
    assert.deepEqual(sumOf(all), happy(40_000, 79_999));
    assert.deepEqual(sumOf(read(database, all)), happy(40_000, 79_999));
  });

  test('read no record twice, and keep deleted ones', (context) => {
    const database = databaseWith(context, [HAPPY_RECORD, HAPPY_RECORD, HAPPY_RECORD]);
    const known = read(database);
    // These are not read again.
    database.exec('DELETE FROM usage WHERE rowid = 1; UPDATE usage SET total_bytes = 0 WHERE rowid = 2');
    insertRecords(database, [record('lonely', 1)]);
    assert.deepEqual(sumOf(read(database, known)), {
      records: { ...NO_TOTALS.records, happy: 3, lonely: 1 },
      bytes: 3 * HAPPY_RECORD.total_bytes + 1,
    });
  });

  test('include records with any rowid', (context) => {
    const database = databaseWith(context, []);
    const insertAt = database.prepare<[bigint]>(
      "INSERT INTO usage (rowid, started, total_bytes, result) VALUES (?, 1, 2, 'happy')",
    );
    // The last two are equal as floating-point numbers.
    for (const rowid of [-7n, 0n, 2n ** 53n, 2n ** 63n - 2n, 2n ** 63n - 1n]) insertAt.run(rowid);
    const all = read(database);
    assert.deepEqual(sumOf(all), happy(5, 10));
    assert.deepEqual(read(database, all), all);
  });

  const REPLACED: Readonly<Record<string, string>> = {
    'the last record was deleted': 'DELETE FROM usage WHERE rowid = 3',
    'all records were deleted': 'DELETE FROM usage',
    'another record replaced the last one': `DELETE FROM usage WHERE rowid = 3;
      INSERT INTO usage VALUES (1, 2, 3, 4, 'happy')`,
    'the last record differs only in its mood': "UPDATE usage SET result = 'lonely' WHERE rowid = 3",
    'the last record differs only in its start': 'UPDATE usage SET started = 1 WHERE rowid = 3',
  };
  for (const [what, sql] of Object.entries(REPLACED)) {
    test(`restart if ${what}`, (context) => {
      const database = databaseWith(context, [HAPPY_RECORD, record('happy', 1), HAPPY_RECORD]);
      const known = read(database);
      // Only a full read sees it.
      database.exec(`UPDATE usage SET total_bytes = 99 WHERE rowid = 2; ${sql}`);
      const state = read(database, known);
      assert.deepEqual(state, read(database));
      assert.notDeepEqual(sumOf(state), sumOf(known));
    });
  }

  test('restart if the file was replaced, regardless of its last record', (context) => {
    const known = read(databaseWith(context, [HAPPY_RECORD, HAPPY_RECORD]));
    const other = databaseWith(context, [record('happy', 1), HAPPY_RECORD]);
    assert.deepEqual(sumOf(read(other, known, 'two')), happy(2, 1 + HAPPY_RECORD.total_bytes));
    // With the same content there is no difference.
    assert.deepEqual(
      sumOf(read(databaseWith(context, [HAPPY_RECORD, HAPPY_RECORD]), known, 'two')),
      sumOf(known),
    );
  });
});

describe('the totals when the relay deletes old records', () => {
  /** Records of `addUsage`, which start one second apart. */
  const FIRST = 1_600_000_000;

  test('stay the same for existing and new readers', (context) => {
    const database = databaseWith(context, [record('strange', 5)]);
    addUsage(database, 3000);
    const known = read(database);
    assert.equal(known.bytes, 6005);
    assert.deepEqual(deleteRecords(database, FIRST + 500), { records: 500, isComplete: true });
    assert.deepEqual(sumOf(read(database, known)), sumOf(known));
    assert.deepEqual(sumOf(read(database)), sumOf(known));
    insertRecords(database, [record('lonely', 1)]);
    const more = { records: { ...known.records, lonely: 1 }, bytes: known.bytes + 1 };
    assert.deepEqual(sumOf(read(database, known)), more);
    assert.deepEqual(sumOf(read(database)), more);
  });

  test('include records that were deleted before they were read', (context) => {
    const database = databaseWith(context, []);
    addUsage(database, 3);
    const known = read(database);
    insertRecords(database, [{ ...record('lonely', 7), started: 1 }, record('happy', 1)]);
    deleteRecords(database, 2);
    const whole = { records: { ...NO_TOTALS.records, happy: 4, lonely: 1 }, bytes: 14 };
    assert.deepEqual(sumOf(read(database, known)), whole);
    assert.deepEqual(sumOf(read(database)), whole);
  });

  test('are complete if records are deleted between two pages', (context) => {
    const database = databaseWith(context, []);
    addUsage(database, 60_000);
    const whole = sumOf(read(database));
    // Some records that were read, and some that were not.
    for (const isRead of [true, false]) {
      const page = addTotals(database, 'one', null, 20_000);
      assert.equal(page.isComplete, false);
      const before = isRead ? FIRST + 500 : FIRST + 30_000;
      while (!deleteRecords(database, before).isComplete);
      assert.deepEqual(sumOf(read(database, page.state)), whole);
    }
  });

  test('stay the same if all records are deleted and rowids restart', (context) => {
    const database = databaseWith(context, []);
    addUsage(database, 3);
    let known = read(database);
    deleteRecords(database, FIRST + 10);
    assert.deepEqual(sumOf(read(database, known)), happy(3, 6));
    insertRecords(database, [
      { ...record('happy', 6), started: FIRST + 4 },
      { ...record('happy', 0), started: FIRST + 5 },
    ]);
    known = read(database, known);
    assert.deepEqual(sumOf(known), happy(5, 12));
    deleteRecords(database, FIRST + 10);
    assert.deepEqual(sumOf(read(database, known)), happy(5, 12));
  });
});
