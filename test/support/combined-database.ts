import Database from 'better-sqlite3';

/** The part of the combined server's schema that an import uses. */
const CREATE = `
  CREATE TABLE version (version INTEGER);
  INSERT INTO version VALUES (3);
  CREATE TABLE nameplates (id INTEGER PRIMARY KEY AUTOINCREMENT, app_id VARCHAR, name VARCHAR, mailbox_id VARCHAR);
  CREATE TABLE messages (app_id VARCHAR, mailbox_id VARCHAR, side VARCHAR, phase VARCHAR, body VARCHAR);
  INSERT INTO messages VALUES ('app', 'box', 'side', 'pake', '00');
  CREATE TABLE mailbox_usage (app_id VARCHAR, started INTEGER, total_time INTEGER, waiting_time INTEGER, result VARCHAR);
  INSERT INTO mailbox_usage VALUES ('app', 1480000000, 1, 1, 'happy');
  CREATE TABLE transit_usage (
    started INTEGER, total_time INTEGER, waiting_time INTEGER, total_bytes INTEGER, result VARCHAR
  );
  CREATE INDEX transit_usage_idx ON transit_usage (started);
`;

/** Values of a record in the order of the table's columns. */
export type CombinedRow = readonly [
  started: unknown,
  totalTime: unknown,
  waitingTime: unknown,
  bytes: unknown,
  result: unknown,
];

/** What a combined server wrote. */
export const VALID_ROWS: readonly CombinedRow[] = [
  [1_480_000_000.25, 12.5, 3.25, 4096, 'happy'],
  [1_480_000_100.5, 61.125, null, 0, 'lonely'],
  [1_470_000_000, 0.5, null, 0, 'errory'],
  [1_480_000_300, 100, 2, 5_000_000_000, 'happy'],
];

/** Invalid values that a database may contain anyway. */
export const INVALID_ROWS: readonly CombinedRow[] = [
  [null, null, null, null, null],
  ['yesterday', 'long', '', 'much', 17],
  [-1, -0.5, 1e300, 9_007_199_254_740_993n, 'pruney'],
  [Buffer.from([0, 255]), 1, 1, 1, 'happy '],
  ['12', '1.5', '3', '4e2', 'redundant'],
];

/** The database of magic-wormhole's combined server before 0.11, with these records. */
export function createCombinedDatabase(path: string, rows: readonly CombinedRow[] = VALID_ROWS): void {
  const database = new Database(path);
  database.exec(CREATE);
  const insert = database.prepare('INSERT INTO transit_usage VALUES (?, ?, ?, ?, ?)');
  database.transaction(() => rows.forEach((row) => insert.run(...row)))();
  database.close();
}

/** All values of a table and their types as SQL literals, in the order of writing. */
export function readQuotedValues(path: string, table: 'transit_usage' | 'usage'): unknown[] {
  const database = new Database(path, { readonly: true });
  try {
    const columns = ['started', 'total_time', 'waiting_time', 'total_bytes', 'result'];
    const values = columns.map((column) => `typeof(${column}), quote(${column})`);
    return database
      .prepare(`SELECT ${values.join(', ')} FROM ${table} ORDER BY rowid`)
      .raw()
      .all();
  } finally {
    database.close();
  }
}
