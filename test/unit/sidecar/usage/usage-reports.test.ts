import assert from 'node:assert/strict';
import { rmSync, truncateSync, writeFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import Database from 'better-sqlite3';
import { GRANULARITIES } from '../../../../src/sidecar/api.ts';
import type { Granularity, RecordedTime } from '../../../../src/sidecar/api.ts';
import { JobPool } from '../../../../src/sidecar/job-pool.ts';
import { MAX_REPORT_PERIODS } from '../../../../src/sidecar/usage/usage-job.ts';
import type { AggregateOutcome, AggregateTask } from '../../../../src/sidecar/usage/usage-job.ts';
import type { UsageRange } from '../../../../src/sidecar/usage/usage-params.ts';
import { UsageReports } from '../../../../src/sidecar/usage/usage-reports.ts';
import type { ReportOutcome } from '../../../../src/sidecar/usage/usage-reports.ts';
import type { UsageSource } from '../../../../src/sidecar/usage/usage-source.ts';
import { scratch } from '../../../support/scratch.ts';
import {
  HAPPY_RECORD,
  expectedRows,
  expectedWaiting,
  insertRecords,
  createUsageDatabase,
} from '../../../support/usage-records.ts';
import type { ValidRecord } from '../../../support/usage-records.ts';

const NOW_MS = Date.parse('2026-11-23T05:30:15.700Z');

const DAY: UsageRange<Granularity> = { by: 'day', from: Date.UTC(2026, 10, 1) / 1000, to: null };

const NOTHING_RECORDED: RecordedTime = { from: null, to: null, relay_started: null };

/** Reports on a real database with real processes. */
function reportsOf(context: TestContext, source: UsageSource, clock = () => NOW_MS): UsageReports {
  const pool = new JobPool({ maxProcesses: 1 });
  const reports = new UsageReports({ source, pool, clock });
  context.after(async () => {
    await reports.close();
    await pool.close();
  });
  return reports;
}

function okOf(outcome: ReportOutcome): Extract<ReportOutcome, { kind: 'ok' }>['report'] {
  assert.ok(outcome.kind === 'ok', JSON.stringify(outcome));
  return outcome.report;
}

describe('a report', () => {
  const records: readonly ValidRecord[] = [
    HAPPY_RECORD,
    { ...HAPPY_RECORD, started: HAPPY_RECORD.started + 86_400 * 40, total_bytes: 7 },
    { ...HAPPY_RECORD, started: HAPPY_RECORD.started + 1, waiting_time: null, result: 'lonely' },
    { ...HAPPY_RECORD, started: HAPPY_RECORD.started + 7200, waiting_time: 700.5 },
  ];

  for (const by of GRANULARITIES) {
    test(`by ${by} matches the database, and has its range`, async (context) => {
      const reports = reportsOf(context, createUsageDatabase(await scratch(context), records));
      const [from, to] = [HAPPY_RECORD.started - 0.5, HAPPY_RECORD.started + 86_400 * 50];
      assert.deepEqual(okOf(await reports.report({ by, from, to })), {
        by,
        from: '2026-11-23T05:29:59.500Z',
        to: '2027-01-12T05:30:00.000Z',
        generated: '2026-11-23T05:30:15.700Z',
        recorded: {
          from: '2026-11-23T05:30:00.000Z',
          to: '2026-11-23T05:30:01.000Z',
          relay_started: null,
        },
        rows: expectedRows(records, by, from, to),
        waiting: expectedWaiting(records),
      });
    });
  }

  test('without an end ends with the second of the query', async (context) => {
    const within = { ...HAPPY_RECORD, started: NOW_MS / 1000 + 0.25 };
    const source = createUsageDatabase(await scratch(context), [
      HAPPY_RECORD,
      within,
      { ...HAPPY_RECORD, started: within.started + 1 },
    ]);
    const report = okOf(await reportsOf(context, source).report(DAY));
    assert.equal(report.to, '2026-11-23T05:30:16.000Z');
    assert.deepEqual(report.rows, expectedRows([HAPPY_RECORD, within], 'day', 0, Infinity));
  });

  test('of a database without records has all waiting buckets and no rows', async (context) => {
    const report = okOf(
      await reportsOf(context, createUsageDatabase(await scratch(context), [])).report(DAY),
    );
    assert.deepEqual(report.rows, []);
    assert.deepEqual(report.waiting, expectedWaiting([]));
  });

  test('says what time the database covers', async (context) => {
    const source = createUsageDatabase(await scratch(context), []);
    let nowMs = NOW_MS;
    const reports = reportsOf(context, source, () => (nowMs += 2000));
    const recorded = async (): Promise<RecordedTime> => okOf(await reports.report(DAY)).recorded;
    const write = (sql: string): void => {
      const database = new Database(source.databasePath);
      database.exec(sql);
      database.close();
    };
    assert.deepEqual(await recorded(), NOTHING_RECORDED);

    const time = (iso: string): number => Date.parse(iso) / 1000;
    write(`INSERT INTO current VALUES (${time('2026-11-22T01:00Z')}, ${time('2026-11-23T05:00Z')}, 0, 0, 0)`);
    const running = { from: '2026-11-22T01:00:00.000Z', to: '2026-11-23T05:00:00.000Z' };
    assert.deepEqual(await recorded(), { ...running, relay_started: running.from });

    write(`INSERT INTO usage (started) VALUES (NULL), ('text'), (x'00'), (9e999), (-5), (1e300)`);
    write(`INSERT INTO usage (started) VALUES (${time('2013-05-06T07:08:09Z')})`);
    const older = { ...running, from: '2013-05-06T07:08:09.000Z', relay_started: running.from };
    assert.deepEqual(await recorded(), older);

    write(`UPDATE current SET rebooted = 1e300, updated = 'text'`);
    const fromFuture = okOf(await reports.report(DAY));
    assert.deepEqual(fromFuture.recorded, {
      from: older.from,
      to: older.from,
      relay_started: fromFuture.generated,
    });
    write('DELETE FROM current; DELETE FROM usage');
    assert.deepEqual(await recorded(), NOTHING_RECORDED);
  });

  test('has a maximum number of periods, without empty ones', async (context) => {
    const hours = Array.from({ length: MAX_REPORT_PERIODS }, (_, hour) => hour);
    const hourly = hours.map((hour) => Object.assign({}, HAPPY_RECORD, { started: 1e9 + hour * 3600 }));
    const source = createUsageDatabase(await scratch(context), hourly);
    const reports = reportsOf(context, source);
    const range = { by: 'hour', from: -1e10, to: NOW_MS / 1000 } as const;
    assert.equal(okOf(await reports.report(range)).rows.length, MAX_REPORT_PERIODS);
    const database = new Database(source.databasePath);
    insertRecords(database, [HAPPY_RECORD]);
    database.close();
    const outcome = await reports.report({ ...range, from: range.from + 1 });
    assert.ok(outcome.kind === 'rejected');
    assert.match(outcome.problem, /more than 10000 periods .* usage\.csv/u);
    assert.equal(okOf(await reports.report({ ...range, by: 'day' })).by, 'day');
  });

  test('fails for a missing, foreign or damaged file, and works again with a valid one', async (context) => {
    const directory = await scratch(context);
    const source = createUsageDatabase(directory, []);
    let nowMs = NOW_MS;
    const reports = reportsOf(context, source, () => (nowMs += 2000));
    rmSync(source.databasePath);
    const missing = await reports.report(DAY);
    assert.ok(missing.kind === 'failed');
    assert.equal(missing.state, 'missing');
    assert.ok(missing.problem.includes(source.databasePath), missing.problem);

    writeFileSync(source.databasePath, 'this is not a database, but long enough to be one. '.repeat(100));
    const foreign = await reports.report(DAY);
    assert.ok(foreign.kind === 'failed');
    assert.equal(foreign.state, 'unreadable');

    rmSync(source.databasePath);
    createUsageDatabase(
      directory,
      Array.from({ length: 20_000 }, () => HAPPY_RECORD),
    );
    truncateSync(source.databasePath, 128 * 1024);
    const damaged = await reports.report(DAY);
    assert.ok(damaged.kind === 'failed');
    assert.equal(damaged.state, 'unreadable');
    assert.ok(damaged.problem.includes(source.databasePath), damaged.problem);

    rmSync(source.databasePath);
    createUsageDatabase(directory, [HAPPY_RECORD]);
    assert.equal(okOf(await reports.report(DAY)).rows.length, 1);
  });

  test('is aborted on close, as are later ones', async (context) => {
    const source = createUsageDatabase(await scratch(context), [HAPPY_RECORD]);
    const reports = reportsOf(context, source);
    const running = reports.report(DAY);
    const ended = assert.rejects(running, { name: 'AbortError' });
    await reports.close();
    await ended;
    await assert.rejects(reports.report(DAY), { name: 'AbortError' });
  });
});

/** A pool that responds at once or on demand, and counts its jobs. */
class FakePool {
  readonly tasks: AggregateTask[] = [];
  outcome: AggregateOutcome = { kind: 'ok', rows: [], waiting: [], recorded: NOTHING_RECORDED, tookMs: 0 };
  held: (() => void)[] | null = null;

  async run(_name: 'aggregate', task: AggregateTask): Promise<AggregateOutcome> {
    this.tasks.push(task);
    const { held, outcome } = this;
    if (held !== null) await new Promise<void>((resolve) => held.push(resolve));
    return outcome;
  }
}

describe('a cached report', () => {
  const source = { databasePath: '/data/usage.sqlite', scratchDirectory: '/scratch' };

  function createReports(): { pool: FakePool; reports: UsageReports; time: { nowMs: number } } {
    const pool = new FakePool();
    const time = { nowMs: NOW_MS };
    return { pool, reports: new UsageReports({ source, pool, clock: () => time.nowMs }), time };
  }

  test('is cached for at least a second', async () => {
    const { pool, reports, time } = createReports();
    const first = await reports.report(DAY);
    time.nowMs += 999;
    assert.equal(await reports.report({ ...DAY }), first);
    time.nowMs += 1;
    assert.notEqual(await reports.report(DAY), first);
    assert.equal(pool.tasks.length, 2);
    assert.deepEqual(pool.tasks[1], {
      source,
      by: 'day',
      from: DAY.from,
      to: Date.parse('2026-11-23T05:30:17Z') / 1000,
      now: NOW_MS / 1000 + 1,
    });
  });

  test('is cached for twenty times its duration', async () => {
    for (const outcome of [
      { kind: 'ok', rows: [], waiting: [], recorded: NOTHING_RECORDED, tookMs: 5000 },
      { kind: 'rejected', problem: 'too long', tookMs: 5000 },
    ] as const) {
      const { pool, reports, time } = createReports();
      pool.outcome = outcome;
      const first = await reports.report(DAY);
      time.nowMs += 99_999;
      assert.equal(await reports.report(DAY), first);
      time.nowMs += 1;
      await reports.report(DAY);
      assert.equal(pool.tasks.length, 2);
    }
  });

  test('is cached for a second if it failed', async () => {
    const { pool, reports, time } = createReports();
    pool.outcome = { kind: 'failed', state: 'missing', problem: 'nothing there' };
    assert.deepEqual(await reports.report(DAY), pool.outcome);
    time.nowMs += 999;
    await reports.report(DAY);
    assert.equal(pool.tasks.length, 1);
    time.nowMs += 1;
    await reports.report(DAY);
    assert.equal(pool.tasks.length, 2);
  });

  test('is shared by concurrent callers', async () => {
    const { pool, reports } = createReports();
    pool.held = [];
    const running = [reports.report(DAY), reports.report(DAY), reports.report({ ...DAY, by: 'month' })];
    assert.equal(pool.tasks.length, 2);
    for (const release of pool.held) release();
    const [one, other, month] = await Promise.all(running);
    assert.equal(one, other);
    assert.notEqual(one, month);
  });

  test('is not cached if the job failed', async () => {
    const { pool, reports } = createReports();
    const run = pool.run.bind(pool);
    pool.run = () => Promise.reject(new Error('the job failed'));
    await assert.rejects(reports.report(DAY), { message: 'the job failed' });
    pool.run = run;
    assert.equal((await reports.report(DAY)).kind, 'ok');
  });

  test('expires when the clock is set back', async () => {
    const { pool, reports, time } = createReports();
    await reports.report(DAY);
    time.nowMs -= 1;
    await reports.report(DAY);
    assert.equal(pool.tasks.length, 2);
  });

  test('is one of at most fifty, and the least recently used one is dropped', async () => {
    const { pool, reports } = createReports();
    const range = (from: number): UsageRange<Granularity> => ({ by: 'day', from, to: 1e9 });
    for (let from = 0; from < 50; from += 1) await reports.report(range(from));
    await reports.report(range(0));
    assert.equal(pool.tasks.length, 50);
    await reports.report(range(50));
    await reports.report(range(0));
    assert.equal(pool.tasks.length, 51);
    await reports.report(range(1));
    assert.equal(pool.tasks.length, 52);
  });
});
