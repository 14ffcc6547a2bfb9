import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, readdirSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import Database from 'better-sqlite3';
import {
  SourceChangedError,
  createCopy,
  findCopy,
  readJournalKind,
  removeCopies,
  statDatabaseFiles,
} from '../../../../src/sidecar/usage/usage-source-copy.ts';
import { scratch } from '../../../support/scratch.ts';
import { addUsage, createUsageFile, readUsageSum } from '../../../support/usage-files.ts';

interface Paths {
  readonly path: string;
  readonly copies: string;
}

async function createPaths(context: TestContext): Promise<Paths> {
  const directory = await scratch(context);
  const path = join(directory, 'usage.sqlite');
  createUsageFile(path);
  return { path, copies: join(directory, 'copies') };
}

test('a file that cannot be read has no kind of journal, but an error', async (context) => {
  const path = join(await scratch(context), 'missing');
  assert.throws(() => readJournalKind(path), /missing/u);
});

describe('a private copy', () => {
  test('is found only for its own state of the database', async (context) => {
    const { path, copies } = await createPaths(context);
    const files = statDatabaseFiles(path);
    assert.equal(findCopy(copies, files), null);
    const copy = createCopy(path, files, copies);
    assert.equal(findCopy(copies, statDatabaseFiles(path)), copy);
    utimesSync(path, 1, 1);
    assert.equal(findCopy(copies, statDatabaseFiles(path)), null);
  });

  test('is a single file that can be read without write permission', async (context) => {
    const { path, copies } = await createPaths(context);
    const copy = createCopy(path, statDatabaseFiles(path), copies);
    // Bytes 18 and 19 would be 2 for a write-ahead log.
    assert.deepEqual([...readFileSync(copy).subarray(18, 20)], [1, 1]);
    const database = new Database(copy, { readonly: true });
    context.after(() => database.close());
    assert.equal(readUsageSum(database).rows, 3);
    assert.equal(readdirSync(copies).length, 1);
  });

  test('is not made of a database that was written meanwhile', async (context) => {
    const { path, copies } = await createPaths(context);
    const files = statDatabaseFiles(path);
    const writer = new Database(path);
    context.after(() => writer.close());
    addUsage(writer, 3);
    assert.throws(() => createCopy(path, files, copies), SourceChangedError);
    assert.deepEqual(readdirSync(copies), []);
  });

  test('is removed when unused, as are abandoned files, but not unfinished ones', async (context) => {
    const { path, copies } = await createPaths(context);
    mkdirSync(copies);
    const abandoned = join(copies, 'usage-copy-one.unfinished');
    for (const file of [
      abandoned,
      `${abandoned}-wal`,
      join(copies, 'usage-copy-two.unfinished'),
      join(copies, 'notes'),
    ]) {
      writeFileSync(file, '');
    }
    utimesSync(abandoned, 1, 1);
    utimesSync(`${abandoned}-wal`, 1, 1);
    const copy = createCopy(path, statDatabaseFiles(path), copies);
    assert.deepEqual(
      readdirSync(copies)
        .map((name) => join(copies, name))
        .toSorted(),
      [join(copies, 'notes'), copy, join(copies, 'usage-copy-two.unfinished')],
    );
    removeCopies(copies, null);
    assert.deepEqual(readdirSync(copies).toSorted(), ['notes', 'usage-copy-two.unfinished']);
  });
});
