import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import Database from 'better-sqlite3';
import { UsageSourceError } from '../../../../src/sidecar/usage/usage-source.ts';
import type { UsageSource } from '../../../../src/sidecar/usage/usage-source.ts';
import { createUsageFile } from '../../../support/usage-files.ts';
import { createUsageFixture, openAndSum, fileMetadata } from '../../../support/usage-fixture.ts';

function assertFault(source: UsageSource, kind: UsageSourceError['kind'], message: RegExp): void {
  assert.throws(
    () => openAndSum(source),
    (error) => {
      assert.ok(error instanceof UsageSourceError);
      assert.match(error.message, message);
      assert.doesNotMatch(error.message, /\n/u);
      assert.equal(error.kind, kind);
      return true;
    },
  );
}

function sql(text: string): (path: string) => void {
  return (path) => {
    const database = new Database(path);
    database.exec(text);
    database.close();
  };
}

describe('a file that is not a usage database', () => {
  const cases: Record<
    string,
    [make: (path: string) => void, kind: UsageSourceError['kind'], message: RegExp]
  > = {
    'a missing file': [() => undefined, 'missing', /there is no usage database ".*" yet/u],
    'an empty file': [(path) => writeFileSync(path, ''), 'missing', /has no usage tables/u],
    'a database without tables': [sql('PRAGMA user_version = 1'), 'missing', /has no usage tables/u],
    'one byte': [(path) => writeFileSync(path, 'S'), 'unreadable', /not an SQLite database/u],
    garbage: [
      (path) => writeFileSync(path, 'garbage '.repeat(1000)),
      'unreadable',
      /not an SQLite database/u,
    ],
    'a directory': [(path) => mkdirSync(path), 'unreadable', /is not a file/u],
    'a database with only tables of other programs': [
      sql('CREATE TABLE songs (title TEXT)'),
      'missing',
      /has no usage tables/u,
    ],
    'a database of another program': [
      sql('CREATE TABLE usage (title TEXT)'),
      'unreadable',
      /not of a transit relay; set SIDECAR_USAGE_DB/u,
    ],
    'a schema of another version': [
      sql('CREATE TABLE version (version INTEGER); INSERT INTO version VALUES (2)'),
      'unreadable',
      /schema version is 2/u,
    ],
    'a database with a corrupt page': [
      (path) => {
        createUsageFile(path);
        writeFileSync(path, readFileSync(path).fill(0x55, 2 * 4096, 3 * 4096));
      },
      'unreadable',
      /the file is corrupt/u,
    ],
    'a truncated database': [
      (path) => {
        createUsageFile(path, { rows: 3000, journalMode: 'delete' });
        writeFileSync(path, readFileSync(path).subarray(0, 5000));
      },
      'unreadable',
      /the file is corrupt/u,
    ],
  };
  for (const [what, [make, kind, message]] of Object.entries(cases)) {
    test(`is an error, and not changed: ${what}`, async (context) => {
      const source = await createUsageFixture(context);
      make(source.databasePath);
      const before = fileMetadata(source.volume);
      assertFault(source, kind, message);
      assert.deepEqual(fileMetadata(source.volume), before);
      rmSync(source.databasePath, { recursive: true, force: true });
      createUsageFile(source.databasePath);
      assert.equal(openAndSum(source).rows, 3);
    });
  }

  test('is an error if its directory is missing', async (context) => {
    const source = await createUsageFixture(context);
    rmSync(source.volume, { recursive: true });
    assertFault(source, 'missing', /there is no usage database/u);
    writeFileSync(source.volume, 'a file where a directory should be');
    assertFault(source, 'missing', /there is no usage database/u);
  });
});
