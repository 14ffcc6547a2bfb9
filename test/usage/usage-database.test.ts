import assert from 'node:assert/strict';
import { existsSync, mkdirSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { TestContext } from 'node:test';
import Database from 'better-sqlite3';
import type { Answer } from '../../src/usage/sqlite-messages.ts';
import { UsageDatabase } from '../../src/usage/usage-database.ts';
import { scratch } from '../support/scratch.ts';
import { SUM, createUsageFile } from '../support/usage-files.ts';

interface House {
  readonly path: string;
  readonly away: string;
  /** Writes one record of so many bytes. */
  readonly write: (bytes: number) => Answer;
}

async function house(context: TestContext): Promise<House> {
  const directory = await scratch(context);
  const path = join(directory, 'usage.sqlite');
  const database = new UsageDatabase(path);
  context.after(() => database.handle({ kind: 'close' }));
  return {
    path,
    away: join(directory, 'away.sqlite'),
    write: (bytes) => {
      const record = {
        started: 1,
        total_time: 1,
        waiting_time: 1,
        total_bytes: bytes,
        mood: 'happy',
      } as const;
      return database.handle({ kind: 'write', records: [record], current: null });
    },
  };
}

/** Of a database that nobody but the relay has open: records, and their bytes. */
function sum(path: string): unknown {
  const database = new Database(path, { readonly: true });
  try {
    assert.deepEqual(database.pragma('integrity_check'), [{ integrity_check: 'ok' }]);
    return database.prepare(SUM).get();
  } finally {
    database.close();
  }
}

const DONE = { kind: 'done' };

test('a database that is deleted is made anew with the next record', async (context) => {
  const { path, write } = await house(context);
  assert.deepEqual(write(1), DONE);
  rmSync(path);
  assert.deepEqual(write(2), DONE);
  assert.deepEqual(write(4), DONE);
  assert.deepEqual(sum(path), { rows: 2, bytes: 6 });
});

test('a directory that is deleted is waited for', async (context) => {
  const directory = join(await scratch(context), 'data');
  mkdirSync(directory);
  const path = join(directory, 'usage.sqlite');
  const database = new UsageDatabase(path);
  const request = { kind: 'write', records: [], current: null } as const;
  assert.deepEqual(database.handle(request), DONE);
  rmSync(directory, { recursive: true });
  const answer = database.handle(request);
  assert.ok(answer.kind === 'unfit');
  assert.match(answer.reason, /^there is no directory/u);
  mkdirSync(directory);
  assert.deepEqual(database.handle(request), DONE);
  database.handle({ kind: 'close' });
  assert.deepEqual(sum(path), { rows: 0, bytes: 0 });
});

test('a database that is moved away takes all of its records along, and none that come later', async (context) => {
  const { path, away, write } = await house(context);
  for (const bytes of [1, 2, 4]) write(bytes);
  const next = `${away}-next`;
  createUsageFile(next, { rows: 3000 });
  renameSync(path, away);
  renameSync(next, path);
  assert.deepEqual(write(8), DONE);
  assert.deepEqual(sum(path), { rows: 3001, bytes: 6008 });
  assert.deepEqual(sum(away), { rows: 3, bytes: 7 });
});

test('a log that is deleted takes no record with it', async (context) => {
  const { path, write } = await house(context);
  write(1);
  rmSync(`${path}-wal`);
  assert.deepEqual(write(2), DONE);
  assert.deepEqual(sum(path), { rows: 2, bytes: 3 });
  assert.ok(existsSync(`${path}-wal`));
});

test('while somebody reads a database that was moved away, its log is left alone, and so is the next database', async (context) => {
  const { path, away, write } = await house(context);
  write(1);
  const reader = new Database(path, { readonly: true });
  context.after(() => reader.close());
  const reading = reader.prepare(SUM).iterate();
  reading.next();
  write(2);
  renameSync(path, away);
  writeFileSync(path, '');
  assert.deepEqual(write(4), { kind: 'failed', code: 'SQLITE_BUSY' });
  assert.equal(statSync(path).size, 0);
  reading.return?.();
  assert.deepEqual(write(4), DONE);
  reader.close();
  assert.deepEqual(sum(path), { rows: 1, bytes: 4 });
  assert.deepEqual(sum(away), { rows: 2, bytes: 3 });
});

test('a database that turns out to be corrupt is opened anew when it has been put in order', async (context) => {
  const { path, away, write } = await house(context);
  write(1);
  renameSync(path, away);
  writeFileSync(path, 'garbage '.repeat(2000));
  assert.deepEqual(write(2), { kind: 'unfit', reason: 'it is not an SQLite database' });
  renameSync(away, path);
  assert.deepEqual(write(2), DONE);
  assert.deepEqual(sum(path), { rows: 2, bytes: 3 });
});
