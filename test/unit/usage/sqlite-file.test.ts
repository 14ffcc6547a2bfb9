import assert from 'node:assert/strict';
import { copyFileSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import Database from 'better-sqlite3';
import {
  SQLITE_HEADER_BYTES,
  journalKindOf,
  quickCheck,
  readFileIdentity,
  reasonForCode,
  sizeFromHeader,
  walBytes,
} from '../../../src/usage/sqlite-file.ts';
import { scratch } from '../../support/scratch.ts';

function create(path: string, pageBytes: number, journalMode: 'wal' | 'delete'): void {
  const database = new Database(path);
  database.pragma(`page_size = ${pageBytes}`);
  database.pragma(`journal_mode = ${journalMode}`);
  database.exec('CREATE TABLE t (a INTEGER CHECK (a < 10)); INSERT INTO t VALUES (1)');
  database.close();
}

describe('the header of a database', () => {
  for (const pageBytes of [512, 4096, 65_536]) {
    test(`has the size of the file with pages of ${pageBytes} bytes, and the journal`, async (context) => {
      const directory = await scratch(context);
      for (const [mode, kind] of [
        ['wal', 'write-ahead log'],
        ['delete', 'rollback journal'],
      ] as const) {
        const path = join(directory, mode);
        create(path, pageBytes, mode);
        const header = readFileSync(path).subarray(0, SQLITE_HEADER_BYTES);
        assert.equal(sizeFromHeader(header), statSync(path).size);
        assert.equal(journalKindOf(header), kind);
      }
    });
  }

  test('is not found in other files', () => {
    for (const text of ['', 'SQLite format 3', `SQLite format 2\0${'\x02'.repeat(84)}`])
      assert.equal(journalKindOf(Buffer.from(text, 'latin1')), 'no database');
  });

  test('requires a write-ahead log if only its readers or writers need one', () => {
    for (const versions of [
      [1, 2],
      [2, 1],
    ]) {
      const header = Buffer.concat([
        Buffer.from('SQLite format 3\0\x10\0'),
        Buffer.from(versions),
        Buffer.alloc(80),
      ]);
      assert.equal(journalKindOf(header), 'write-ahead log');
    }
  });
});

test('the check finds damage, but no records that violate constraints', async (context) => {
  const path = join(await scratch(context), 'database');
  create(path, 4096, 'delete');
  const database = new Database(path);
  database.pragma('ignore_check_constraints = ON');
  database.exec('INSERT INTO t VALUES (100)');
  database.close();
  const checked = (): string | null => {
    const opened = new Database(path, { readonly: true });
    try {
      return quickCheck(opened);
    } finally {
      opened.close();
    }
  };
  assert.equal(checked(), null);
  const bytes = readFileSync(path);
  // The number of cells of the table's page, which has two.
  bytes.writeUInt16BE(500, 4096 + 3);
  writeFileSync(path, bytes);
  assert.match(checked() ?? '', /^SQLite's check says "[^\n]+"$/u);
});

test('the size of the write-ahead log is that of its file, and 0 without one', async (context) => {
  const path = join(await scratch(context), 'database');
  create(path, 4096, 'delete');
  using database = disposable(new Database(path));
  assert.equal(walBytes(database.value), 0);
  database.value.pragma('journal_mode = wal');
  database.value.exec('INSERT INTO t VALUES (2)');
  assert.equal(walBytes(database.value), statSync(`${path}-wal`).size);
  assert.ok(walBytes(database.value) > 0);
});

test('a file keeps its identity when it is written to, but not when it is replaced or removed', async (context) => {
  const path = join(await scratch(context), 'file');
  assert.equal(readFileIdentity(path), 'none');
  writeFileSync(path, 'text');
  const first = readFileIdentity(path);
  writeFileSync(path, 'other text');
  assert.equal(readFileIdentity(path), first);
  copyFileSync(path, `${path}.new`);
  renameSync(`${path}.new`, path);
  assert.notEqual(readFileIdentity(path), first);
  rmSync(path);
  assert.equal(readFileIdentity(path), 'none');
  assert.equal(readFileIdentity(join(path, 'below', 'nothing')), 'none');
});

test('extended error codes have the reason of their primary code', () => {
  const reasons = { SQLITE_IOERR: 'the disk failed', SQLITE_FULL: 'the disk is full' };
  assert.equal(reasonForCode(reasons, 'SQLITE_IOERR_READ'), 'the disk failed');
  assert.equal(reasonForCode(reasons, 'SQLITE_FULL'), 'the disk is full');
  assert.equal(reasonForCode(reasons, 'SQLITE_BUSY'), undefined);
});

function disposable(value: Database.Database): Disposable & { readonly value: Database.Database } {
  return { value, [Symbol.dispose]: () => void value.close() };
}
