import { deepEqual, equal, match, ok, throws } from 'node:assert/strict';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import Database from 'better-sqlite3';
import { ImportError, ImportTarget, importRecords } from '../../../src/usage/import-records.ts';
import {
  INVALID_ROWS,
  VALID_ROWS,
  createCombinedDatabase,
  readQuotedValues,
} from '../../support/combined-database.ts';
import { scratch } from '../../support/scratch.ts';
import { createUsageFile, mountTmpfs, requireMount } from '../../support/usage-files.ts';

interface Paths {
  readonly directory: string;
  readonly old: string;
  readonly new: string;
}

async function createPaths(context: TestContext): Promise<Paths> {
  const directory = await scratch(context);
  return { directory, old: join(directory, 'relay.sqlite'), new: join(directory, 'usage.sqlite') };
}

/** The message of a rejected import. */
function importErrorOf(work: () => unknown): string {
  try {
    work();
  } catch (error) {
    ok(error instanceof ImportError, String(error));
    return error.message;
  }
  throw new Error('nothing was rejected');
}

/** All files of a directory with their content and modification time. */
function contents(directory: string): unknown[] {
  return readdirSync(directory)
    .toSorted()
    .map((name) => {
      const path = join(directory, name);
      const state = statSync(path, { throwIfNoEntry: false });
      return [name, state?.mtimeMs, state?.isFile() === true ? readFileSync(path, 'latin1') : null];
    });
}

describe('an import', () => {
  test('copies all records in order, counts them by mood, and does not change the old file', async (context) => {
    const { directory, old, new: path } = await createPaths(context);
    createCombinedDatabase(old);
    const before = contents(directory);
    const counts = importRecords(old, path);
    deepEqual(
      [...counts],
      [
        ['happy', 2],
        ['lonely', 1],
        ['errory', 1],
      ],
    );
    deepEqual(readQuotedValues(path, 'usage'), readQuotedValues(old, 'transit_usage'));
    deepEqual(readdirSync(directory).toSorted(), ['relay.sqlite', 'usage.sqlite']);
    deepEqual(contents(directory).slice(0, 1), before);
  });

  test('creates the reference’s schema, with an empty `current` row', async (context) => {
    const { old, new: path } = await createPaths(context);
    createCombinedDatabase(old, []);
    deepEqual([...importRecords(old, path)], []);
    const expected = join(await scratch(context), 'expected.sqlite');
    createUsageFile(expected, { rows: 0, journalMode: 'delete' });
    deepEqual(rowsOf(path, 'SELECT * FROM sqlite_schema'), rowsOf(expected, 'SELECT * FROM sqlite_schema'));
    deepEqual(rowsOf(path, 'SELECT * FROM version'), [{ version: 1 }]);
    deepEqual(rowsOf(path, 'SELECT * FROM current'), [
      { rebooted: 0, updated: 0, connected: 0, waiting: 0, incomplete_bytes: 0 },
    ]);
    deepEqual(rowsOf(path, 'PRAGMA integrity_check'), [{ integrity_check: 'ok' }]);
  });

  test('copies invalid values unchanged', async (context) => {
    const { old, new: path } = await createPaths(context);
    createCombinedDatabase(old, [...INVALID_ROWS, ...VALID_ROWS]);
    deepEqual(Object.fromEntries(importRecords(old, path)), {
      happy: 2,
      lonely: 1,
      errory: 1,
      redundant: 1,
      other: 4,
    });
    deepEqual(readQuotedValues(path, 'usage'), readQuotedValues(old, 'transit_usage'));
    equal(readQuotedValues(path, 'usage').length, INVALID_ROWS.length + VALID_ROWS.length);
  });

  const existing: readonly (readonly [what: string, create: (path: string) => void, sentence: RegExp])[] = [
    [
      'a file',
      (path) => writeFileSync(path, 'precious'),
      /usage\.sqlite" exists already and was not changed/u,
    ],
    ['an empty file', (path) => writeFileSync(path, ''), /exists already/u],
    ['a directory', (path) => mkdirSync(path), /exists already/u],
    ['a link that leads nowhere', (path) => symlinkSync('nowhere', path), /exists already/u],
    [
      'a log without its database',
      (path) => writeFileSync(`${path}-wal`, 'x'),
      /-wal" is left over from another/u,
    ],
    ['shared memory', (path) => writeFileSync(`${path}-shm`, 'x'), /-shm" is left over from another/u],
    ['a journal', (path) => writeFileSync(`${path}-journal`, 'x'), /-journal" is left over from another/u],
  ];
  for (const [what, create, sentence] of existing) {
    test(`replaces nothing: ${what}`, async (context) => {
      const { directory, old, new: path } = await createPaths(context);
      createCombinedDatabase(old);
      create(path);
      const before = contents(directory);
      match(
        importErrorOf(() => importRecords(old, path)),
        sentence,
      );
      deepEqual(contents(directory), before);
    });
  }

  test('does not replace a file that was created during the import', async (context) => {
    const { directory, new: path } = await createPaths(context);
    const target = new ImportTarget(path);
    target.add([1, 2, 3, 4, 'happy']);
    ok(!existsSync(path));
    writeFileSync(path, 'precious');
    match(
      importErrorOf(() => target.publish()),
      /exists already/u,
    );
    target.close();
    deepEqual(readdirSync(directory), ['usage.sqlite']);
    equal(readFileSync(path, 'utf8'), 'precious');
  });

  test('leaves nothing behind after any error', async (context) => {
    const { directory, old, new: path } = await createPaths(context);
    createCombinedDatabase(old);
    const size = statSync(old).size;
    truncateSync(old, size - 4096);
    match(
      importErrorOf(() => importRecords(old, path)),
      /the file is corrupt/u,
    );
    deepEqual(readdirSync(directory), ['relay.sqlite']);
    const target = new ImportTarget(path);
    target.add([1, 2, 3, 4, 'happy']);
    throws(() => target.add([1]));
    target.close();
    deepEqual(readdirSync(directory), ['relay.sqlite']);
  });

  test('leaves nothing behind when the disk is full', async (context) => {
    const { old } = await createPaths(context);
    if (!requireMount(context)) return;
    createCombinedDatabase(
      old,
      Array.from({ length: 20_000 }, (_, at) => [at, 1, 1, 1, 'happy']),
    );
    const disk = mountTmpfs(context, 'size=256k');
    match(
      importErrorOf(() => importRecords(old, join(disk, 'usage.sqlite'))),
      /the disk is full/u,
    );
    deepEqual(readdirSync(disk), []);
  });

  test('reports a missing directory', async (context) => {
    const { directory, old } = await createPaths(context);
    createCombinedDatabase(old);
    match(
      importErrorOf(() => importRecords(old, join(directory, 'gone', 'usage.sqlite'))),
      /there is no directory/u,
    );
  });
});

describe('a file that can’t be imported', () => {
  const unusable: readonly (readonly [what: string, create: (path: string) => void, sentence: RegExp])[] = [
    ['a file that is not there', () => undefined, /can't be read \(ENOENT\)/u],
    ['a directory', (path) => mkdirSync(path), /it is not a file/u],
    ['an empty file', (path) => writeFileSync(path, ''), /not an SQLite database/u],
    ['a text', (path) => writeFileSync(path, 'garbage '.repeat(999)), /not an SQLite database/u],
    [
      'a usage database of this relay',
      (path) => createUsageFile(path),
      /write-ahead log, so it is from this relay .*; there is nothing to import/u,
    ],
    [
      'a usage database of the reference',
      (path) => createUsageFile(path, { journalMode: 'delete' }),
      /it is a usage database; there is nothing to import/u,
    ],
    [
      'a database of a mailbox server alone',
      (path) => createDatabase(path, 'CREATE TABLE version (version); CREATE TABLE nameplates (id)'),
      /has no table "transit_usage"/u,
    ],
    [
      'a table that lacks a column',
      (path) => createDatabase(path, 'CREATE TABLE transit_usage (started, total_time, total_bytes, type)'),
      /"transit_usage" lacks waiting_time, result/u,
    ],
    [
      'a view, which may never end',
      (path) =>
        createDatabase(
          path,
          `CREATE VIEW transit_usage AS SELECT 1 AS rowid, 1 AS started, 1 AS total_time, 1 AS waiting_time,
           1 AS total_bytes, 'happy' AS result`,
        ),
      /has no table "transit_usage"/u,
    ],
    ['a database of a server that was killed while it wrote', createHotJournal, /killed during a write/u],
  ];
  for (const [what, create, sentence] of unusable) {
    test(`is reported and not changed: ${what}`, async (context) => {
      const { directory, old, new: path } = await createPaths(context);
      create(old);
      const before = contents(directory);
      match(
        importErrorOf(() => importRecords(old, path)),
        sentence,
      );
      deepEqual(contents(directory), before);
    });
  }

  test('is a database while another program has it locked', async (context) => {
    const { old, new: path } = await createPaths(context);
    createCombinedDatabase(old);
    const server = new Database(old);
    context.after(() => server.close());
    server.exec('BEGIN EXCLUSIVE');
    match(
      importErrorOf(() => importRecords(old, path)),
      /another program is writing to it/u,
    );
    server.exec('COMMIT');
    equal(importRecords(old, path).get('happy'), 2);
  });
});

function rowsOf(path: string, query: string): unknown[] {
  const database = new Database(path, { readonly: true });
  try {
    return database.prepare(query).all();
  } finally {
    database.close();
  }
}

function createDatabase(path: string, sql: string): void {
  const database = new Database(path);
  database.exec(sql);
  database.close();
}

/** The files on disk during a transaction that is too large for its cache. */
function createHotJournal(path: string): void {
  const source = `${path}-source`;
  createCombinedDatabase(source);
  const database = new Database(source);
  database.pragma('cache_size = 1');
  database.exec('BEGIN');
  const insert = database.prepare("INSERT INTO transit_usage VALUES (1, 1, 1, 1, 'happy')");
  for (let row = 0; row < 5000; row += 1) insert.run();
  for (const suffix of ['', '-journal']) copyFileSync(`${source}${suffix}`, `${path}${suffix}`);
  database.close();
}
