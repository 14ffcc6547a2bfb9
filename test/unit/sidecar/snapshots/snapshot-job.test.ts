import assert from 'node:assert/strict';
import { readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import Database from 'better-sqlite3';
import {
  DamagedCopyError,
  DutyCycleThrottle,
  copySizeBytes,
  copyThrottled,
  finalizeCopy,
  takeSnapshot,
} from '../../../../src/sidecar/snapshots/snapshot-job.ts';
import { readSnapshots } from '../../../../src/sidecar/snapshots/snapshot-files.ts';
import type { OpenUsageDatabase } from '../../../../src/sidecar/usage/usage-source.ts';
import { scratch } from '../../../support/scratch.ts';
import { addOlderSnapshots } from '../../../support/snapshot-fixture.ts';
import {
  addUsage,
  createUsageFile,
  mountTmpfs,
  readUsageSum,
  requireMount,
} from '../../../support/usage-files.ts';

/** A throttle that counts its pauses. */
class CountingThrottle extends DutyCycleThrottle {
  pauses = 0;

  override pause(): void {
    this.pauses += 1;
    super.pause();
  }
}

interface OpenSource {
  readonly directory: string;
  readonly path: string;
  /** Writes to the database during the copy. */
  readonly writer: Database.Database;
  readonly source: OpenUsageDatabase;
}

/** An open database, and a read transaction that sees 30,000 records. */
async function openSource(context: TestContext, { blocksWriter = false } = {}): Promise<OpenSource> {
  const directory = await scratch(context);
  const path = join(directory, 'usage.sqlite');
  createUsageFile(path, { rows: 30_000 });
  const writer = new Database(path);
  const database = new Database(path, { readonly: true });
  context.after(() => {
    database.close();
    writer.close();
  });
  database.exec('BEGIN');
  assert.equal(readUsageSum(database).rows, 30_000);
  return { directory, path, writer, source: { database, blocksWriter } };
}

describe('a throttled copy', () => {
  test('has the state of the transaction, regardless of later writes', async (context) => {
    const { directory, writer, source } = await openSource(context);
    const to = join(directory, 'copy');
    const throttle = new CountingThrottle();
    const bytes = copySizeBytes(source.database);
    const pause = throttle.pause.bind(throttle);
    throttle.pause = () => {
      addUsage(writer, 3);
      pause();
    };
    await copyThrottled(source, to, throttle);
    assert.ok(throttle.pauses > 1);
    // The copy was not restarted: it took the steps for its pages and a first one that copies nothing.
    assert.ok(
      throttle.pauses <= Math.ceil(bytes / 2 ** 20) + 1,
      `${throttle.pauses} steps for ${bytes} bytes`,
    );
    assert.equal(finalizeCopy(to, bytes), 30_000);
    assert.equal(readFileSync(to).length, bytes);
    assert.equal(readUsageSum(writer).rows, 30_000 + 3 * throttle.pauses);
  });

  test('is not throttled if it blocks the writer', async (context) => {
    const { directory, source } = await openSource(context, { blocksWriter: true });
    const to = join(directory, 'copy');
    const throttle = new CountingThrottle();
    await copyThrottled(source, to, throttle);
    assert.equal(throttle.pauses, 0);
    assert.equal(finalizeCopy(to, copySizeBytes(source.database)), 30_000);
  });

  test('does not overwrite a file', async (context) => {
    const { path, source } = await openSource(context);
    const before = readFileSync(path);
    await assert.rejects(copyThrottled(source, path, new DutyCycleThrottle()), { code: 'EEXIST' });
    assert.ok(readFileSync(path).equals(before));
  });

  test('fails on a disk that is too small for it', async (context) => {
    if (!requireMount(context)) return;
    const { source } = await openSource(context);
    const to = join(mountTmpfs(context, 'size=1m'), 'copy');
    await assert.rejects(copyThrottled(source, to, new DutyCycleThrottle()), { code: 'SQLITE_FULL' });
    rmSync(to, { force: true });
  });
});

describe('the check of a copy', () => {
  test('detects damage and a wrong size', async (context) => {
    const path = join(await scratch(context), 'copy');
    createUsageFile(path, { rows: 3000 });
    const bytes = readFileSync(path).length;
    assert.equal(finalizeCopy(path, bytes), 3000);
    assert.throws(() => finalizeCopy(path, bytes + 4096), DamagedCopyError);
    // The type byte of the last leaf page of a table.
    const content = readFileSync(path);
    const leaf = [9, 8, 7, 6, 5].find((page) => content[page * 4096] === 13) ?? 0;
    content.fill(0, leaf * 4096, leaf * 4096 + 64);
    writeFileSync(path, content);
    assert.throws(() => finalizeCopy(path, bytes), DamagedCopyError);
  });
});

describe('a snapshot', () => {
  test('replaces the oldest ones beyond the number to keep', async (context) => {
    const { directory, path } = await openSource(context);
    const snapshots = join(directory, 'snapshots');
    const [newest] = addOlderSnapshots(snapshots, 3, 1000);
    const source = { databasePath: path, scratchDirectory: join(directory, 'scratch') };
    const outcome = await takeSnapshot({ source, directory: snapshots, keep: 2 });
    assert.ok(outcome.kind === 'taken');
    assert.equal(outcome.snapshot.rows, 30_000);
    const found = await readSnapshots(snapshots);
    assert.deepEqual(
      found.map(({ name }) => name),
      [outcome.snapshot.name, newest],
    );
  });

  test('fails with the figures if removing older ones frees no space', async (context) => {
    if (!requireMount(context)) return;
    const { directory, path } = await openSource(context);
    const disk = mountTmpfs(context, 'size=64m');
    const [newest, oldest] = addOlderSnapshots(disk, 2, 0);
    assert.ok(newest !== undefined && oldest !== undefined);
    for (const name of [newest, oldest]) {
      // The file is sparse.
      truncateSync(join(disk, name), 30_000_000);
      const metadata = readFileSync(join(disk, `${name}.json`), 'utf8');
      writeFileSync(join(disk, `${name}.json`), metadata.replace('"bytes":0', '"bytes":30000000'));
    }
    const source = { databasePath: path, scratchDirectory: join(directory, 'scratch') };
    const outcome = await takeSnapshot({ source, directory: disk, keep: 5 });
    assert.ok(outcome.kind === 'failed');
    assert.match(outcome.problem, /^the disk of ".*" has 67\.1 MB free, but a snapshot takes \d\.\d MB/u);
    assert.deepEqual(
      (await readSnapshots(disk)).map(({ name }) => name),
      [newest],
    );
  });
});

test('a pause is as long as the work before it', () => {
  const throttle = new DutyCycleThrottle();
  const began = performance.now();
  throttle.pause();
  assert.ok(performance.now() - began < 5, 'there was nothing to pause for');
  const workedMs = 60;
  while (performance.now() - began < workedMs);
  throttle.pause();
  assert.ok(performance.now() - began >= 2 * workedMs - 5);
});
