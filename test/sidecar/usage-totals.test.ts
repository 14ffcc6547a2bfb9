import assert from 'node:assert/strict';
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
import type { TestContext } from 'node:test';
import Database from 'better-sqlite3';
import { JobPool } from '../../src/sidecar/job-pool.ts';
import type { JobRunner } from '../../src/sidecar/job-pool.ts';
import { NO_TOTALS, UsageTotals } from '../../src/sidecar/usage/usage-totals.ts';
import { until } from '../support/scratch.ts';
import {
  addUsage,
  createUsageFile,
  runWithReference,
  startWriter,
  stopWriter,
} from '../support/usage-files.ts';
import { createUsageFixture, fileMetadata } from '../support/usage-fixture.ts';
import type { UsageFixture } from '../support/usage-fixture.ts';

/** Records for several pages. */
const MANY = 1_000_000;

/** Totals of a database that may be created later, with a real process. */
class Stage {
  jobs = 0;
  readonly source: UsageFixture;
  readonly totals: UsageTotals;
  readonly faults: unknown[] = [];
  readonly #pool = new JobPool({ maxProcesses: 1 });

  private constructor(context: TestContext, source: UsageFixture) {
    this.source = source;
    const run: JobRunner<'totals'>['run'] = (name, task, options) => {
      this.jobs += 1;
      return this.#pool.run(name, task, options);
    };
    this.totals = new UsageTotals({
      source,
      pool: { run },
      onInternalError: (error) => this.faults.push(error),
    });
    context.after(async () => {
      await this.totals.close();
      await this.#pool.close();
    });
  }

  static async open(context: TestContext): Promise<Stage> {
    return new Stage(context, await createUsageFixture(context));
  }

  get path(): string {
    return this.source.databasePath;
  }

  /** Replaces the file with one that `change` has modified. */
  replace(rows: number, change = ''): void {
    const other = join(mkdtempSync(join(this.source.volume, '..', 'new-')), 'usage.sqlite');
    createUsageFile(other, { rows });
    const database = new Database(other);
    database.exec(change);
    database.close();
    renameSync(other, this.path);
  }

  /** Expects that the database can be read and has this number of happy records. */
  async expect(records: number): Promise<void> {
    assert.equal(await this.totals.refresh(), true);
    this.stays(records);
  }

  /** Expects that it can't be read, and that the totals are unchanged. */
  async expectFault(records: number): Promise<void> {
    assert.equal(await this.totals.refresh(), false);
    this.stays(records);
  }

  stays(records: number): void {
    assert.deepEqual(this.totals.current.records, { ...NO_TOTALS.records, happy: records });
  }
}

describe('totals of all time', () => {
  test('are zeros before the first refresh, and without a database', async (context) => {
    const stage = await Stage.open(context);
    assert.deepEqual(stage.totals.current, NO_TOTALS);
    await stage.expectFault(0);
    createUsageFile(stage.path, { rows: 3 });
    await stage.expect(3);
    assert.equal(stage.totals.current.bytes, 6);
  });

  test('follow a writer without blocking it', async (context) => {
    const stage = await Stage.open(context);
    const writer = await startWriter(stage.path);
    context.after(() => writer[Symbol.asyncDispose]());
    for (let time = 0; time < 5; time += 1) {
      const before = stage.totals.current.records.happy;
      assert.equal(await stage.totals.refresh(), true);
      const { records, bytes } = stage.totals.current;
      assert.deepEqual([records.lonely, records.errory], [records.happy, records.happy]);
      assert.equal(bytes, records.happy * 6);
      assert.ok(records.happy >= before && records.happy > 0);
      const lines = writer.stdout.length;
      await until(() => writer.stdout.length > lines);
    }
    await stopWriter(writer);
    assert.doesNotMatch(writer.stdout, /failed|refused/u);
    assert.equal(await stage.totals.refresh(), true);
    const written = writer.stdout.match(/done/gu)?.length ?? 0;
    assert.equal(stage.totals.current.records.happy, written);
    const before = fileMetadata(stage.source.volume);
    assert.equal(await stage.totals.refresh(), true);
    assert.deepEqual(fileMetadata(stage.source.volume), before);
  });

  test('are published only when they are complete', async (context) => {
    const stage = await Stage.open(context);
    createUsageFile(stage.path, { rows: MANY });
    assert.equal(await stage.totals.refresh(), true);
    stage.stays(0);
    // The other pages are read in the background.
    await until(() => stage.totals.current.records.happy > 0);
    stage.stays(MANY);
    assert.equal(stage.jobs, 3);
    await stage.expect(MANY);
    assert.equal(stage.jobs, 4);
    assert.deepEqual(stage.faults, []);
  });

  test('stay unchanged until those of a replaced file are complete', async (context) => {
    const stage = await Stage.open(context);
    createUsageFile(stage.path, { rows: 5 });
    await stage.expect(5);
    stage.replace(MANY);
    assert.equal(await stage.totals.refresh(), true);
    stage.stays(5);
    await until(() => stage.totals.current.records.happy !== 5);
    stage.stays(MANY);
  });

  test('are read by one job at a time', async (context) => {
    const stage = await Stage.open(context);
    createUsageFile(stage.path);
    const answers = await Promise.all(Array.from({ length: 50 }, () => stage.totals.refresh()));
    assert.deepEqual(new Set(answers), new Set([true]));
    assert.equal(stage.jobs, 1);
  });

  test('restart with a replaced file, even with the same inode', async (context) => {
    const stage = await Stage.open(context);
    createUsageFile(stage.path, { rows: 9 });
    await stage.expect(9);
    stage.replace(12);
    await stage.expect(12);
    stage.replace(2);
    await stage.expect(2);
    stage.replace(2, 'UPDATE usage SET total_bytes = 100 WHERE rowid = 1');
    await stage.expect(2);
    assert.equal(stage.totals.current.bytes, 102);
    const other = join(stage.source.volume, '..', 'other.sqlite');
    createUsageFile(other, { rows: 1 });
    copyFileSync(other, stage.path);
    await stage.expect(1);
    rmSync(stage.path);
    await stage.expectFault(1);
    createUsageFile(stage.path, { rows: 3 });
    await stage.expect(3);
  });

  test('stay unchanged while the database is damaged', async (context) => {
    const stage = await Stage.open(context);
    createUsageFile(stage.path, { rows: 3000 });
    await stage.expect(3000);
    const whole = readFileSync(stage.path);
    writeFileSync(stage.path, Buffer.from(whole).fill(0x55, 4096));
    await stage.expectFault(3000);
    writeFileSync(stage.path, 'garbage '.repeat(1000));
    await stage.expectFault(3000);
    writeFileSync(stage.path, whole);
    await stage.expect(3000);
    assert.deepEqual(stage.faults, []);
  });

  test('stay unchanged while the database is locked', async (context) => {
    const stage = await Stage.open(context);
    createUsageFile(stage.path, { rows: 3, journalMode: 'delete' });
    await stage.expect(3);
    const writer = new Database(stage.path);
    context.after(() => writer.close());
    addUsage(writer, 2);
    writer.exec('BEGIN EXCLUSIVE');
    await stage.expectFault(3);
    writer.exec('COMMIT');
    await stage.expect(5);
  });

  test('include records of the reference', async (context) => {
    const stage = await Stage.open(context);
    const program = `db = get_db(sys.argv[1])
for row in [(1, 5.5, 1, 7, 'happy'), (2, 1, None, 0, 'lonely'), (3, 2, 1, 30, 'errory'), (4, 0, None, 0, 'jumpy')]:
    db.execute("INSERT INTO usage VALUES (?, ?, ?, ?, ?)", row)
db.commit()`;
    if (runWithReference(context, program, stage.path) === null) return;
    assert.equal(await stage.totals.refresh(), true);
    assert.deepEqual(stage.totals.current.records, {
      ...NO_TOTALS.records,
      happy: 1,
      lonely: 1,
      errory: 1,
      other: 1,
    });
    assert.equal(stage.totals.current.bytes, 37);
    assert.deepEqual(readdirSync(stage.source.volume), ['usage.sqlite']);
  });

  test('are aborted on close without an error', async (context) => {
    const stage = await Stage.open(context);
    createUsageFile(stage.path, { rows: MANY });
    const refreshed = stage.totals.refresh();
    await stage.totals.close();
    assert.equal(await refreshed, false);
    assert.equal(stage.jobs, 1);
    assert.deepEqual(stage.faults, []);
  });

  test('are missing after a failed process, which is reported, and are read by the next one', async (context) => {
    const source = await createUsageFixture(context);
    createUsageFile(source.databasePath);
    const faults: unknown[] = [];
    const pool = new JobPool({ maxProcesses: 1 });
    context.after(() => pool.close());
    const error = new Error('a process has died');
    let failing = true;
    const run: JobRunner<'totals'>['run'] = (name, task, options) =>
      failing ? Promise.reject(error) : pool.run(name, task, options);
    const totals = new UsageTotals({ source, pool: { run }, onInternalError: (fault) => faults.push(fault) });
    assert.equal(await totals.refresh(), false);
    assert.deepEqual(faults, [error]);
    failing = false;
    assert.equal(await totals.refresh(), true);
    assert.equal(totals.current.records.happy, 3);
  });
});
