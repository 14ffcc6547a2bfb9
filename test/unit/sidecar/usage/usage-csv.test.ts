import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import Database from 'better-sqlite3';
import * as fc from 'fast-check';
import { GRANULARITIES } from '../../../../src/sidecar/api.ts';
import type { UsageRow } from '../../../../src/sidecar/api.ts';
import { JobPool } from '../../../../src/sidecar/job-pool.ts';
import type { JobRunner } from '../../../../src/sidecar/job-pool.ts';
import { UsageCsvError, toPeriodLine, streamUsageCsv } from '../../../../src/sidecar/usage/usage-csv.ts';
import { aggregate, csvPage } from '../../../../src/sidecar/usage/usage-job.ts';
import type { CsvGranularity, CsvTask } from '../../../../src/sidecar/usage/usage-job.ts';
import type { UsageSource } from '../../../../src/sidecar/usage/usage-source.ts';
import { scratch } from '../../../support/scratch.ts';
import { HAPPY_RECORD, createUsageDatabase, insertRecords } from '../../../support/usage-records.ts';
import type { StoredRecord } from '../../../support/usage-records.ts';

const EVER = { from: 0, to: 253_402_300_799 };

const PERIOD_HEADER = 'start,mood,records,total_bytes,total_time,waiting_time\r\n';

const RECORD_HEADER = 'started,total_time,waiting_time,total_bytes,mood\r\n';

/** A job that needs more memory fails with its process. All records of a long CSV need several times this. */
const HEAP_MIB = 16;

function processes(context: TestContext): JobPool {
  const pool = new JobPool({ maxProcesses: 1, heapMiB: HEAP_MIB });
  context.after(() => pool.close());
  return pool;
}

/** Streams without processes, for many small CSVs. */
function streamCsv(
  source: UsageSource,
  by: CsvGranularity,
  pool: JobRunner<'csvPage'> | null = null,
): AsyncGenerator<string> {
  const here = { run: (_name: 'csvPage', task: CsvTask) => Promise.resolve(csvPage(task)) };
  const range = { by, ...EVER };
  const { signal } = new AbortController();
  return streamUsageCsv({ source, pool: pool ?? here, range, nowMs: 0, signal });
}

async function toList(stream: AsyncGenerator<string>): Promise<string[]> {
  const found: string[] = [];
  for await (const page of stream) found.push(page);
  return found;
}

async function all(stream: AsyncGenerator<string>): Promise<string> {
  return (await toList(stream)).join('');
}

/** Bytes of live objects on the heap, without garbage. */
function heapBytes(): number {
  setFlagsFromString('--expose-gc');
  runInNewContext('gc()');
  return process.memoryUsage().heapUsed;
}

async function sourceOf(context: TestContext, records: readonly StoredRecord[]): Promise<UsageSource> {
  return createUsageDatabase(await scratch(context), records);
}

/** Fills a database with `count` records of a year, a quarter of them at the start of an hour. */
async function manyRecords(context: TestContext, count: number): Promise<UsageSource> {
  const source = await sourceOf(context, []);
  const database = new Database(source.databasePath);
  database
    .prepare(
      `WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < @count - 1),
         s(i, started) AS (SELECT i, 1700000000 + i * 31536000.0 / @count FROM n)
       INSERT INTO usage (started, total_time, waiting_time, total_bytes, result)
         SELECT CASE WHEN i % 4 = 0 THEN started - started % 3600 ELSE started END, 1.5, 0.25, i, 'happy' FROM s`,
    )
    .run({ count });
  database.close();
  return source;
}

describe('the CSV', () => {
  test('by day has the rows of the report', async (context) => {
    const lonely = { ...HAPPY_RECORD, waiting_time: null, total_bytes: 0, result: 'lonely' };
    const source = await sourceOf(context, [
      HAPPY_RECORD,
      HAPPY_RECORD,
      lonely,
      { ...HAPPY_RECORD, started: HAPPY_RECORD.started + 86_400 },
    ]);
    assert.equal(
      await all(streamCsv(source, 'day', processes(context))),
      `${PERIOD_HEADER}2026-11-23T00:00:00.000Z,happy,2,8192,25,6.5\r\n` +
        '2026-11-23T00:00:00.000Z,lonely,1,0,12.5,0\r\n2026-11-24T00:00:00.000Z,happy,1,4096,12.5,3.25\r\n',
    );
  });

  test('by record has the records, with empty cells without a waiting time', async (context) => {
    const source = await sourceOf(context, [
      HAPPY_RECORD,
      { ...HAPPY_RECORD, waiting_time: null, result: 'lonely' },
    ]);
    assert.equal(
      await all(streamCsv(source, 'record', processes(context))),
      `${RECORD_HEADER}2026-11-23T05:30:00.000Z,12.5,3.25,4096,happy\r\n2026-11-23T05:30:00.000Z,12.5,,4096,lonely\r\n`,
    );
  });

  test('of an empty range is a header', async (context) => {
    const source = await sourceOf(context, []);
    assert.equal(await all(streamCsv(source, 'month')), PERIOD_HEADER);
    assert.equal(await all(streamCsv(source, 'record')), RECORD_HEADER);
  });

  test('without an end ends with the second of the request', async (context) => {
    const source = await sourceOf(context, [
      HAPPY_RECORD,
      { ...HAPPY_RECORD, started: HAPPY_RECORD.started + 1 },
    ]);
    const { signal } = new AbortController();
    const range = { by: 'record', from: 0, to: null } as const;
    const nowMs = HAPPY_RECORD.started * 1000 + 999;
    const text = await all(streamUsageCsv({ source, pool: processes(context), range, nowMs, signal }));
    assert.equal(text.split('\r\n').length, 3);
  });

  const moods: readonly (readonly [mood: string, cell: string])[] = [
    ['happy', 'happy'],
    ['a,b', '"a,b"'],
    ['say "x"', '"say ""x"""'],
    ['two\r\nlines', '"two\r\nlines"'],
    ['=1+1', "'=1+1"],
    ['+1', "'+1"],
    ['-1', "'-1"],
    ['@sum', "'@sum"],
    ['\t=1', "'\t=1"],
    ['\n=1', `"'\n=1"`],
    ['=A1,"x"', `"'=A1,""x"""`],
    ['a=1', 'a=1'],
    ['müde 😴', 'müde 😴'],
  ];
  for (const [mood, cell] of moods) {
    test(`writes the mood ${JSON.stringify(mood)} as ${JSON.stringify(cell)}`, async (context) => {
      const source = await sourceOf(context, [{ ...HAPPY_RECORD, result: mood }]);
      const record = `2026-11-23T05:30:00.000Z,12.5,3.25,4096,${cell}\r\n`;
      assert.equal(await all(streamCsv(source, 'record')), RECORD_HEADER + record);
      const day = `2026-11-23T00:00:00.000Z,${cell},1,4096,12.5,3.25\r\n`;
      assert.equal(await all(streamCsv(source, 'day')), PERIOD_HEADER + day);
    });
  }

  test('has the same rows as the report for all records', async (context) => {
    const source = await sourceOf(context, []);
    // As long as it is open, readers need no other program to look at the file.
    const writer = new Database(source.databasePath);
    context.after(() => writer.close());
    writer.pragma('journal_mode = WAL');
    writer.pragma('synchronous = OFF');
    const record = fc.record({
      started: fc.oneof(fc.integer({ min: 1e9, max: 1e9 + 1e7 }), fc.constantFrom(1e9, 1e9 + 0.5, 1.7e9)),
      total_time: fc.integer({ min: 0, max: 1e6 }),
      waiting_time: fc.option(fc.integer({ min: 0, max: 1e6 })),
      total_bytes: fc.integer({ min: 0, max: 2 ** 40 }),
      result: fc.constantFrom('happy', 'lonely', 'odd'),
    });
    const property = fc.asyncProperty(
      fc.array(record, { maxLength: 30 }),
      fc.constantFrom(...GRANULARITIES),
      async (records, by) => {
        writer.exec('DELETE FROM usage');
        insertRecords(writer, records);
        const report = aggregate({ source, by, ...EVER, now: EVER.to });
        assert.ok(report.kind === 'ok');
        const lines = report.rows.map((row: UsageRow) => toPeriodLine(row)).join('');
        assert.equal(await all(streamCsv(source, by)), PERIOD_HEADER + lines);
        assert.equal((await all(streamCsv(source, 'record'))).split('\r\n').length, records.length + 2);
      },
    );
    await fc.assert(property, { numRuns: 60 });
  });
});

describe('a long CSV', () => {
  test('is sent in pages, and has the rows of the report', async (context) => {
    const source = await manyRecords(context, 30_000);
    for (const by of GRANULARITIES) {
      const report = aggregate({ source, by, ...EVER, now: EVER.to });
      assert.ok(report.kind === 'ok');
      const found = await toList(streamCsv(source, by));
      assert.equal(found.length > 1, by === 'hour', `${found.length} pages by ${by}`);
      assert.equal(found.join(''), PERIOD_HEADER + report.rows.map(toPeriodLine).join(''));
    }
  });

  test('of many records needs little memory, and has each record once', async (context) => {
    const count = 250_000;
    const source = await manyRecords(context, count);
    const before = heapBytes();
    let [characters, sum, lines, most] = [0, 0, 0, before];
    let previous = '';
    for await (const page of streamCsv(source, 'record', processes(context))) {
      characters += page.length;
      for (const line of page.split('\r\n').slice(lines === 0 ? 1 : 0, -1)) {
        lines += 1;
        const [started = '', , , bytes] = line.split(',');
        assert.ok(started >= previous, line);
        previous = started;
        sum += Number(bytes);
      }
      if (lines % 25_000 === 0) most = Math.max(most, heapBytes());
    }
    // The records are identified by their bytes, which are 0, 1, 2, …
    assert.deepEqual([lines, sum], [count, (count * (count - 1)) / 2]);
    assert.ok(characters > 10e6, `${characters} characters`);
    assert.ok(most - before < 2.5e6, `${most - before} bytes of heap`);
    const months = await toList(streamCsv(source, 'month'));
    const counts = months
      .join('')
      .split('\r\n')
      .slice(1, -1)
      .map((line) => Number(line.split(',')[2]));
    assert.equal(
      counts.reduce((one, other) => one + other),
      count,
    );
  });
});

describe('an error', () => {
  test('at the start is thrown before the first page', async (context) => {
    const source = { ...(await sourceOf(context, [])), databasePath: '/nowhere/usage.sqlite' };
    await assert.rejects(streamCsv(source, 'record', processes(context)).next(), (error) => {
      assert.ok(error instanceof UsageCsvError);
      assert.equal(error.state, 'missing');
      assert.match(error.message, /\/nowhere\/usage\.sqlite/u);
      return true;
    });
  });

  test('in a later page ends the stream', async (context) => {
    const source = await manyRecords(context, 20_000);
    const stream = streamCsv(source, 'record', processes(context));
    assert.equal((await stream.next()).done, false);
    rmSync(source.databasePath);
    await assert.rejects(stream.next(), UsageCsvError);
    assert.equal((await stream.next()).done, true);
  });

  test('is thrown by an aborted stream', async (context) => {
    const source = await manyRecords(context, 20_000);
    const closed = new AbortController();
    const range = { by: 'record', ...EVER } as const;
    const stream = streamUsageCsv({
      source,
      pool: processes(context),
      range,
      nowMs: 0,
      signal: closed.signal,
    });
    await stream.next();
    const next = stream.next();
    closed.abort();
    await assert.rejects(next, { name: 'AbortError' });
  });
});
