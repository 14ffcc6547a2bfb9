import assert from 'node:assert/strict';
import {
  copyFileSync,
  linkSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import Database from 'better-sqlite3';
import { JobPool } from '../../../../src/sidecar/job-pool.ts';
import type { JobRunner } from '../../../../src/sidecar/job-pool.ts';
import { NO_TOTALS, UsageTotals } from '../../../../src/sidecar/usage/usage-totals.ts';
import { until } from '../../../support/scratch.ts';
import {
  addUsage,
  createUsageFile,
  runWithReference,
  startWriter,
  stopWriter,
} from '../../../support/usage-files.ts';
import { createUsageFixture, fileMetadata } from '../../../support/usage-fixture.ts';
import type { UsageFixture } from '../../../support/usage-fixture.ts';

/** Records for three pages. */
const MANY = 850_000;

/** A database with as many records, for all tests: its creation takes most of a second. */
const directoryOfMany = mkdtempSync(join(tmpdir(), 'relay-test-'));
const manyPath = join(directoryOfMany, 'usage.sqlite');
before(() => createUsageFile(manyPath, { rows: MANY, journalMode: 'delete' }));
after(() => rmSync(directoryOfMany, { recursive: true }));

/** Totals of a database that may be created later, with a real process. */
class TotalsFixture {
  jobs = 0;
  readonly source: UsageFixture;
  readonly totals: UsageTotals;
  readonly errors: unknown[] = [];
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
      onInternalError: (error) => this.errors.push(error),
    });
    context.after(async () => {
      await this.totals.close();
      await this.#pool.close();
    });
  }

  static async open(context: TestContext): Promise<TotalsFixture> {
    return new TotalsFixture(context, await createUsageFixture(context));
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
  async expectFailure(records: number): Promise<void> {
    assert.equal(await this.totals.refresh(), false);
    this.stays(records);
  }

  stays(records: number): void {
    assert.deepEqual(this.totals.current.records, { ...NO_TOTALS.records, happy: records });
  }
}

describe('totals of all time', () => {
  test('are zeros before the first refresh, and without a database', async (context) => {
    const fixture = await TotalsFixture.open(context);
    assert.deepEqual(fixture.totals.current, NO_TOTALS);
    await fixture.expectFailure(0);
    createUsageFile(fixture.path, { rows: 3 });
    await fixture.expect(3);
    assert.equal(fixture.totals.current.bytes, 6);
  });

  test('follow a writer without blocking it', async (context) => {
    const fixture = await TotalsFixture.open(context);
    const writer = await startWriter(fixture.path);
    context.after(() => writer[Symbol.asyncDispose]());
    for (let time = 0; time < 5; time += 1) {
      const previous = fixture.totals.current.records.happy;
      assert.equal(await fixture.totals.refresh(), true);
      const { records, bytes } = fixture.totals.current;
      assert.deepEqual([records.lonely, records.errory], [records.happy, records.happy]);
      assert.equal(bytes, records.happy * 6);
      assert.ok(records.happy >= previous && records.happy > 0);
      const lines = writer.stdout.length;
      await until(() => writer.stdout.length > lines);
    }
    await stopWriter(writer);
    assert.doesNotMatch(writer.stdout, /failed|unusable/u);
    assert.equal(await fixture.totals.refresh(), true);
    const written = writer.stdout.match(/done/gu)?.length ?? 0;
    assert.equal(fixture.totals.current.records.happy, written);
    const metadata = fileMetadata(fixture.source.volume);
    assert.equal(await fixture.totals.refresh(), true);
    assert.deepEqual(fileMetadata(fixture.source.volume), metadata);
  });

  test('are published only when they are complete', async (context) => {
    const fixture = await TotalsFixture.open(context);
    linkSync(manyPath, fixture.path);
    assert.equal(await fixture.totals.refresh(), true);
    fixture.stays(0);
    // The other pages are read in the background.
    await until(() => fixture.totals.current.records.happy > 0);
    fixture.stays(MANY);
    assert.equal(fixture.jobs, 3);
    await fixture.expect(MANY);
    assert.equal(fixture.jobs, 4);
    assert.deepEqual(fixture.errors, []);
  });

  test('stay unchanged until those of a replaced file are complete', async (context) => {
    const fixture = await TotalsFixture.open(context);
    createUsageFile(fixture.path, { rows: 5 });
    await fixture.expect(5);
    linkSync(manyPath, `${fixture.path}.new`);
    renameSync(`${fixture.path}.new`, fixture.path);
    assert.equal(await fixture.totals.refresh(), true);
    fixture.stays(5);
    await until(() => fixture.totals.current.records.happy !== 5);
    fixture.stays(MANY);
  });

  test('are read by one job at a time', async (context) => {
    const fixture = await TotalsFixture.open(context);
    createUsageFile(fixture.path);
    const answers = await Promise.all(Array.from({ length: 50 }, () => fixture.totals.refresh()));
    assert.deepEqual(new Set(answers), new Set([true]));
    assert.equal(fixture.jobs, 1);
  });

  test('restart with a replaced file, even with the same inode', async (context) => {
    const fixture = await TotalsFixture.open(context);
    createUsageFile(fixture.path, { rows: 9 });
    await fixture.expect(9);
    fixture.replace(12);
    await fixture.expect(12);
    fixture.replace(2);
    await fixture.expect(2);
    fixture.replace(2, 'UPDATE usage SET total_bytes = 100 WHERE rowid = 1');
    await fixture.expect(2);
    assert.equal(fixture.totals.current.bytes, 102);
    const other = join(fixture.source.volume, '..', 'other.sqlite');
    createUsageFile(other, { rows: 1 });
    copyFileSync(other, fixture.path);
    await fixture.expect(1);
    rmSync(fixture.path);
    await fixture.expectFailure(1);
    createUsageFile(fixture.path, { rows: 3 });
    await fixture.expect(3);
  });

  test('stay unchanged while the database is damaged', async (context) => {
    const fixture = await TotalsFixture.open(context);
    createUsageFile(fixture.path, { rows: 3000 });
    await fixture.expect(3000);
    const whole = readFileSync(fixture.path);
    writeFileSync(fixture.path, Buffer.from(whole).fill(0x55, 4096));
    await fixture.expectFailure(3000);
    writeFileSync(fixture.path, 'garbage '.repeat(1000));
    await fixture.expectFailure(3000);
    writeFileSync(fixture.path, whole);
    await fixture.expect(3000);
    assert.deepEqual(fixture.errors, []);
  });

  test('stay unchanged while the database is locked', async (context) => {
    const fixture = await TotalsFixture.open(context);
    createUsageFile(fixture.path, { rows: 3, journalMode: 'delete' });
    await fixture.expect(3);
    const writer = new Database(fixture.path);
    context.after(() => writer.close());
    addUsage(writer, 2);
    writer.exec('BEGIN EXCLUSIVE');
    await fixture.expectFailure(3);
    writer.exec('COMMIT');
    await fixture.expect(5);
  });

  test('include records of the reference', async (context) => {
    const fixture = await TotalsFixture.open(context);
    const program = `db = get_db(sys.argv[1])
for row in [(1, 5.5, 1, 7, 'happy'), (2, 1, None, 0, 'lonely'), (3, 2, 1, 30, 'errory'), (4, 0, None, 0, 'jumpy')]:
    db.execute("INSERT INTO usage VALUES (?, ?, ?, ?, ?)", row)
db.commit()`;
    if (runWithReference(context, program, fixture.path) === null) return;
    assert.equal(await fixture.totals.refresh(), true);
    assert.deepEqual(fixture.totals.current.records, {
      ...NO_TOTALS.records,
      happy: 1,
      lonely: 1,
      errory: 1,
      other: 1,
    });
    assert.equal(fixture.totals.current.bytes, 37);
    assert.deepEqual(readdirSync(fixture.source.volume), ['usage.sqlite']);
  });

  test('are aborted on close without an error', async (context) => {
    const fixture = await TotalsFixture.open(context);
    linkSync(manyPath, fixture.path);
    const refreshed = fixture.totals.refresh();
    await fixture.totals.close();
    assert.equal(await refreshed, false);
    assert.equal(fixture.jobs, 1);
    assert.deepEqual(fixture.errors, []);
  });

  test('are missing after a failed process, which is reported, and are read by the next one', async (context) => {
    const source = await createUsageFixture(context);
    createUsageFile(source.databasePath);
    const errors: unknown[] = [];
    const pool = new JobPool({ maxProcesses: 1 });
    context.after(() => pool.close());
    const error = new Error('a process has died');
    let failing = true;
    const run: JobRunner<'totals'>['run'] = (name, task, options) =>
      failing ? Promise.reject(error) : pool.run(name, task, options);
    const totals = new UsageTotals({
      source,
      pool: { run },
      onInternalError: (thrown) => errors.push(thrown),
    });
    assert.equal(await totals.refresh(), false);
    assert.deepEqual(errors, [error]);
    failing = false;
    assert.equal(await totals.refresh(), true);
    assert.equal(totals.current.records.happy, 3);
  });
});
