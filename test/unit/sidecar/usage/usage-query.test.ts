import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import Database from 'better-sqlite3';
import * as fc from 'fast-check';
import { GRANULARITIES } from '../../../../src/sidecar/api.ts';
import type { Granularity, UsageRow } from '../../../../src/sidecar/api.ts';
import {
  queryRecordsPage,
  queryPeriods,
  toWaitingBuckets,
} from '../../../../src/sidecar/usage/usage-query.ts';
import type { RecordPosition, RecordRow } from '../../../../src/sidecar/usage/usage-query.ts';
import { Dice } from '../../../support/dice.ts';
import { scratch } from '../../../support/scratch.ts';
import {
  HAPPY_RECORD,
  expectedRows,
  expectedWaiting,
  createUsageDatabase,
} from '../../../support/usage-records.ts';
import type { ValidRecord, StoredRecord } from '../../../support/usage-records.ts';

const EVER = { from: 0, to: 253_402_300_799 };

async function open(context: TestContext, records: readonly StoredRecord[]): Promise<Database.Database> {
  const { databasePath } = createUsageDatabase(await scratch(context), records);
  const database = new Database(databasePath, { readonly: true });
  context.after(() => database.close());
  return database;
}

function rowsOf(database: Database.Database, by: Granularity, span = EVER): UsageRow[] {
  return [...queryPeriods(database, by, span)].flatMap(({ rows }) => rows);
}

function waitingOf(database: Database.Database, span = EVER): unknown {
  const sums: number[] = [];
  for (const { waiting } of queryPeriods(database, 'day', span)) {
    for (const [at, count] of waiting.entries()) sums[at] = (sums[at] ?? 0) + count;
  }
  return toWaitingBuckets(sums);
}

/** Records of a winter with a leap day; a third are blurred to the hour. Sums of the fractions are exact. */
function someRecords(count: number): ValidRecord[] {
  const dice = new Dice(4);
  const moods = ['happy', 'happy', 'lonely', 'errory', 'redundant', 'somethingelse'];
  return Array.from({ length: count }, () => {
    const started = Date.UTC(2023, 10, 20) / 1000 + dice.between(0, 120 * 86_400 * 8) / 8;
    return {
      started: dice.happens(0.3) ? Math.floor(started / 3600) * 3600 : started,
      total_time: dice.size(10_000) / 4,
      waiting_time: dice.happens(0.4) ? null : dice.size(10_000) / 2,
      total_bytes: dice.size(1e12),
      result: moods[dice.between(0, moods.length - 1)] ?? '',
    };
  });
}

const at = (time: string): number => Date.parse(time) / 1000;

const started = (time: string): ValidRecord => ({ ...HAPPY_RECORD, started: at(time) });

const waited = (waiting_time: number | null): ValidRecord => ({
  ...HAPPY_RECORD,
  waiting_time,
  total_time: waiting_time ?? 0,
});

const starts = (rows: readonly UsageRow[]): string[] => rows.map(({ start }) => start);

describe('sums by period', () => {
  for (const by of GRANULARITIES) {
    test(`by ${by} match sums computed from the records`, async (context) => {
      const records = someRecords(5000);
      const database = await open(context, records);
      assert.deepEqual(rowsOf(database, by), expectedRows(records, by, EVER.from, EVER.to));
      const span = { from: at('2023-12-24T18:17:16.125Z'), to: at('2024-03-01T07:00:00.5Z') };
      assert.deepEqual(rowsOf(database, by, span), expectedRows(records, by, span.from, span.to));
    });
  }

  test('have the same waiting buckets as the records', async (context) => {
    const records = someRecords(5000);
    assert.deepEqual(waitingOf(await open(context, records)), expectedWaiting(records));
  });

  test('separate months, in leap years and others, and in the year 2000', async (context) => {
    const times = ['1970-01-01', '1999-12-31', '2000-02-29', '2000-03-01', '2023-02-28', '2024-02-29'];
    const records = times.flatMap((day) => [started(`${day}T00:00:00Z`), started(`${day}T23:59:59.875Z`)]);
    const database = await open(context, records);
    assert.deepEqual(
      starts(rowsOf(database, 'month')),
      ['1970-01', '1999-12', '2000-02', '2000-03', '2023-02', '2024-02'].map((m) => `${m}-01T00:00:00.000Z`),
    );
    assert.deepEqual(
      starts(rowsOf(database, 'day')),
      times.map((day) => `${day}T00:00:00.000Z`),
    );
    assert.ok(rowsOf(database, 'day').every((row) => row.records === 2));
  });

  test('of a span within an hour have only records of that span', async (context) => {
    const minutes = ['05:14:59', '05:15:00', '05:59:59', '06:00:00', '06:29:59', '06:30:00'];
    const database = await open(
      context,
      minutes.map((time) => started(`2026-11-23T${time}Z`)),
    );
    const span = { from: at('2026-11-23T05:15:00Z'), to: at('2026-11-23T06:30:00Z') };
    const rows = rowsOf(database, 'hour', span);
    assert.deepEqual(starts(rows), ['2026-11-23T05:00:00.000Z', '2026-11-23T06:00:00.000Z']);
    assert.deepEqual(
      rows.map(({ records }) => records),
      [2, 2],
    );
  });

  test('of an empty range are empty', async (context) => {
    const database = await open(context, [HAPPY_RECORD]);
    assert.deepEqual(
      rowsOf(database, 'hour', { from: HAPPY_RECORD.started + 1, to: HAPPY_RECORD.started + 2 }),
      [],
    );
    assert.deepEqual(
      rowsOf(database, 'hour', { from: HAPPY_RECORD.started - 1, to: HAPPY_RECORD.started }),
      [],
    );
  });

  test('are correct for more records than one statement sums, even with the same start', async (context) => {
    const before = started('2026-11-23T04:00:00Z');
    const after = started('2026-11-23T05:30:01Z');
    const simultaneous = Array.from({ length: 45_000 }, () => HAPPY_RECORD);
    const records = [before, ...simultaneous, after, started('2026-11-24T00:00:00Z')];
    const database = await open(context, records);
    assert.deepEqual(rowsOf(database, 'hour'), expectedRows(records, 'hour', EVER.from, EVER.to));
    const alone = { from: HAPPY_RECORD.started, to: HAPPY_RECORD.started + 1 };
    assert.deepEqual(
      rowsOf(database, 'month', alone),
      expectedRows(simultaneous, 'month', EVER.from, EVER.to),
    );
  });

  test('count invalid values of a foreign database as 0, and do not fail', async (context) => {
    const { started: time } = HAPPY_RECORD;
    const database = await open(context, [
      HAPPY_RECORD,
      { started: null, total_time: 1, waiting_time: 1, total_bytes: 1, result: 'happy' },
      { started: 'yesterday', total_time: 1, waiting_time: 1, total_bytes: 1, result: 'happy' },
      { started: Buffer.from('now'), total_time: 1, waiting_time: 1, total_bytes: 1, result: 'happy' },
      { started: time, total_time: null, waiting_time: null, total_bytes: null, result: 'happy' },
      { started: time, total_time: 'long', waiting_time: 'too', total_bytes: 'many', result: 'happy' },
      { started: time, total_time: Infinity, waiting_time: Infinity, total_bytes: 1, result: 'lonely' },
      { started: time, total_time: 1, waiting_time: 1, total_bytes: 10, result: null },
      { started: time, total_time: 1, waiting_time: 1, total_bytes: 20, result: Buffer.from('x') },
      { started: time, total_time: 1, waiting_time: 1, total_bytes: 30, result: '' },
      { started: time, total_time: 1, waiting_time: 1, total_bytes: 40, result: 'm'.repeat(5000) },
    ]);
    const start = '2026-11-23T05:00:00.000Z';
    assert.deepEqual(rowsOf(database, 'hour'), [
      { start, mood: 'happy', records: 3, total_bytes: 4096, total_time: 12.5, waiting_time: 3.25 },
      { start, mood: 'lonely', records: 1, total_bytes: 1, total_time: 0, waiting_time: 0 },
      { start, mood: 'm'.repeat(100), records: 1, total_bytes: 40, total_time: 1, waiting_time: 1 },
      { start, mood: 'unknown', records: 3, total_bytes: 60, total_time: 3, waiting_time: 3 },
    ]);
    assert.deepEqual(waitingOf(database), expectedWaiting([HAPPY_RECORD]));
  });

  test('do not fail beyond the range of integers', async (context) => {
    const records = Array.from({ length: 3 }, () => ({ ...HAPPY_RECORD, total_bytes: 2n ** 62n }));
    const [row] = rowsOf(await open(context, records), 'day');
    assert.equal(row?.total_bytes, 3 * 2 ** 62);
  });

  test('have no rounding errors', async (context) => {
    const database = await open(context, [0.1, 0.2, 0.4].map(waited));
    const [row] = rowsOf(database, 'day');
    assert.deepEqual([row?.total_time, row?.waiting_time], [0.7, 0.7]);
  });

  test('include the upper bound of each waiting bucket', async (context) => {
    const waits = [0, 1, 1.25, 5, 5.5, 30, 120, 600, 3600, 3600.5, 1e6, null];
    const records = waits.map(waited);
    const lonely = { ...HAPPY_RECORD, waiting_time: 2, result: 'lonely' };
    assert.deepEqual(waitingOf(await open(context, [...records, lonely])), [
      { at_most_seconds: 1, records: 2 },
      { at_most_seconds: 5, records: 2 },
      { at_most_seconds: 30, records: 2 },
      { at_most_seconds: 120, records: 1 },
      { at_most_seconds: 600, records: 1 },
      { at_most_seconds: 3600, records: 1 },
      { at_most_seconds: null, records: 2 },
    ]);
  });
});

describe('pages of records', () => {
  function pages(database: Database.Database, limit: number, from: number, to: number): RecordRow[][] {
    const found: RecordRow[][] = [];
    let position: RecordPosition | null = { from, afterRowid: null };
    while (position !== null) {
      const page: ReturnType<typeof queryRecordsPage> = queryRecordsPage(database, position, to, limit);
      found.push([...page.rows]);
      position = page.next;
    }
    return found;
  }

  test('have each record once, even with the same start', () => {
    const start = fc.oneof(fc.integer({ min: 0, max: 4 }), fc.constantFrom(1.5, 1.25, 3.75));
    fc.assert(
      fc.property(
        fc.array(start, { maxLength: 40 }),
        fc.integer({ min: 1, max: 8 }),
        fc.integer({ min: 0, max: 2 }),
        fc.integer({ min: 3, max: 5 }),
        (begins, limit, from, to) => {
          const database = new Database(':memory:');
          database.exec(
            'CREATE TABLE usage (started, total_time, waiting_time, total_bytes, result); CREATE INDEX i ON usage (started)',
          );
          // Each record is identified by its bytes.
          const insert = database.prepare('INSERT INTO usage VALUES (?, 1, 1, ?, ?)');
          for (const [number, begin] of begins.entries()) insert.run(begin, number, 'happy');
          const found = pages(database, limit, from, to);
          const expected = [...begins.entries()]
            .filter(([, begin]) => begin >= from && begin < to)
            .toSorted(([one, begin], [other, otherBegin]) => begin - otherBegin || one - other)
            .map(([number]) => number);
          assert.deepEqual(
            found.flat().map(({ total_bytes }) => total_bytes),
            expected,
          );
          assert.ok(found.every((page) => page.length <= limit));
          database.close();
        },
      ),
      { numRuns: 300 },
    );
  });

  test('replace invalid values', async (context) => {
    const database = await open(context, [
      { ...HAPPY_RECORD, started: HAPPY_RECORD.started + 0.0015 },
      {
        started: HAPPY_RECORD.started + 1,
        total_time: null,
        waiting_time: null,
        total_bytes: 'x',
        result: null,
      },
      { started: null, total_time: 1, waiting_time: 1, total_bytes: 1, result: 'happy' },
    ]);
    assert.deepEqual(pages(database, 10, EVER.from, EVER.to), [
      [
        {
          started: '2026-11-23T05:30:00.002Z',
          total_time: 12.5,
          waiting_time: 3.25,
          total_bytes: 4096,
          mood: 'happy',
        },
        {
          started: '2026-11-23T05:30:01.000Z',
          total_time: 0,
          waiting_time: null,
          total_bytes: 0,
          mood: 'unknown',
        },
      ],
    ]);
  });
});
