import { deepEqual, equal } from 'node:assert/strict';
import { describe, test } from 'node:test';
import Database from 'better-sqlite3';
import { MOODS } from '../../../src/protocol/messages.ts';
import { deleteRecords } from '../../../src/usage/retention.ts';
import { ensureSchema } from '../../../src/usage/schema.ts';
import { read } from './deployment-settings.ts';

const PAGE = read('docs/usage-records.md');

/** A database with all tables, one record and one deleted record of 5 bytes each. */
function createDatabase(): Database.Database {
  const database = new Database(':memory:');
  ensureSchema(database);
  database.exec("INSERT INTO usage VALUES (1, 1, 1, 5, 'happy'), (3, 1, 1, 5, 'happy')");
  deleteRecords(database, 2);
  return database;
}

/** Names and types of all columns by table. */
function columnsOf(database: Database.Database): unknown {
  return database
    .prepare(
      `SELECT tables.name AS "table", columns.name AS "column", columns.type
      FROM sqlite_schema AS tables, pragma_table_info(tables.name) AS columns
      WHERE tables.type = 'table' ORDER BY 1, columns.cid`,
    )
    .all();
}

describe('docs/usage-records.md', () => {
  test('has the schema of the usage database', () => {
    const [, sql = ''] = /```sql\n([^`]+)```/u.exec(PAGE) ?? [];
    const documented = new Database(':memory:');
    documented.exec(sql);
    deepEqual(columnsOf(documented), columnsOf(createDatabase()));
  });

  test('has queries that count the records', () => {
    const queries = [...PAGE.matchAll(/^sqlite3 usage\.sqlite '(SELECT [^']+)'$/gmu)];
    const results = queries.map(([, sql = '']) => createDatabase().prepare(sql).raw().all());
    deepEqual(results, [[['happy', 1, 5]], [['happy', 2]]]);
  });

  test('has a command that makes a database return its free space', () => {
    const [, sql = ''] = /^sqlite3 usage\.sqlite '(PRAGMA [^']+)'$/mu.exec(PAGE) ?? [];
    const database = new Database(':memory:');
    database.exec(sql);
    equal(database.pragma('auto_vacuum', { simple: true }), 2);
  });

  test('describes every mood once', () => {
    const described = [...PAGE.matchAll(/^- `(\w+)`: /gmu)].map(([, mood]) => mood);
    deepEqual(described, [...MOODS]);
  });
});
