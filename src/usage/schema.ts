import type { Database } from 'better-sqlite3';

/** The file is not a usage database. The message is a sentence for the operator. */
export class SchemaError extends Error {}

/** The reference's schema version. Its Munin plugins and third-party scripts read this schema. */
const SCHEMA_VERSION = 1;

const TABLES: Readonly<Record<string, readonly string[]>> = {
  version: ['version'],
  current: ['rebooted', 'updated', 'connected', 'waiting', 'incomplete_bytes'],
  usage: ['started', 'total_time', 'waiting_time', 'total_bytes', 'result'],
};

const CREATE = `
  CREATE TABLE version (version INTEGER);
  CREATE TABLE current (
    rebooted INTEGER, updated INTEGER, connected INTEGER, waiting INTEGER, incomplete_bytes INTEGER
  );
  CREATE TABLE usage (
    started INTEGER, total_time INTEGER, waiting_time INTEGER, total_bytes INTEGER, result VARCHAR
  );
  CREATE INDEX usage_started_index ON usage (started);
  CREATE INDEX usage_result_index ON usage (result);
  INSERT INTO version (version) VALUES (${SCHEMA_VERSION});
`;

/** Optional additional tables; see retention.ts. */
const OPTIONAL_TABLES: Readonly<Record<string, readonly string[]>> = {
  usage_deleted: ['result', 'records', 'total_bytes', 'last_rowid'],
};

/**
 * The tables are created only in a database without any of these names. Other tables, such as a replicator's,
 * are allowed.
 */
const RESERVED_NAMES = [
  ...Object.keys(TABLES),
  ...Object.keys(OPTIONAL_TABLES),
  'usage_started_index',
  'usage_result_index',
];

/**
 * Creates the usage schema if the database has no part of it; tables of other programs may exist. All other
 * databases are only read, so that a rejected file is not changed.
 *
 * @throws SchemaError if the database uses these names for something else, or has another version
 * @throws SqliteError if it can't be read or written
 */
export function ensureSchema(database: Database): void {
  if (hasSchema(database)) return;
  // Allows deletions to return their space. It has no effect if other tables exist already.
  database.pragma('auto_vacuum = INCREMENTAL');
  database.transaction(() => database.exec(CREATE)).immediate();
}

const FIND_NAME = `SELECT 1 FROM sqlite_schema
  WHERE name COLLATE NOCASE IN (${RESERVED_NAMES.map((name) => `'${name}'`).join(', ')}) LIMIT 1`;

/** Types in PRAGMA table_list, in words. */
const OBJECT_KINDS: Readonly<Record<string, string>> = {
  view: 'a view',
  virtual: 'a virtual table',
  shadow: 'part of a virtual table',
};

/**
 * Whether `database` has the usage schema; false if it has no part of it. It only reads.
 *
 * Only ordinary tables with ordinary columns are accepted. Views, virtual tables and generated columns can
 * compute forever.
 *
 * @throws SchemaError if the database belongs to another program, or has another version
 * @throws SqliteError if it can't be read
 */
export function hasSchema(database: Database): boolean {
  // SQLite then does not run functions with side effects or virtual tables that the file's own schema uses.
  database.pragma('trusted_schema = OFF');
  if (database.prepare(FIND_NAME).get() === undefined) return false;
  if (readObjectKind(database, 'version') === null)
    throw new SchemaError('it is a database, but not of a transit relay');
  checkTable(database, 'version', TABLES['version'] ?? []);
  const version = database.prepare('SELECT version FROM version').pluck().get();
  if (version !== SCHEMA_VERSION) {
    throw new SchemaError(
      typeof version === 'number'
        ? `its schema version is ${version}; this relay supports ${SCHEMA_VERSION}`
        : 'its version table is empty',
    );
  }
  for (const [table, columns] of Object.entries(TABLES)) checkTable(database, table, columns);
  for (const [table, columns] of Object.entries(OPTIONAL_TABLES)) {
    if (readObjectKind(database, table) !== null) checkTable(database, table, columns);
  }
  return true;
}

/** `table` for an ordinary table; null if the name is not in use. */
function readObjectKind(database: Database, name: string): string | null {
  const kind = database
    .prepare<[string], string>("SELECT type FROM pragma_table_list(?) WHERE schema = 'main'")
    .pluck()
    .get(name);
  return kind ?? null;
}

/** @throws SchemaError */
function checkTable(database: Database, table: string, columns: readonly string[]): void {
  const kind = readObjectKind(database, table);
  if (kind !== null && kind !== 'table')
    throw new SchemaError(`its "${table}" is ${OBJECT_KINDS[kind] ?? kind}, not a table`);
  const found = database
    .prepare<[string], { name: string; hidden: number }>('SELECT name, hidden FROM pragma_table_xinfo(?)')
    .all(table);
  const missing = columns.filter((column) => !found.some(({ name }) => name === column));
  if (missing.length > 0) throw new SchemaError(`its table "${table}" lacks ${missing.join(', ')}`);
  const computed = found.find(({ hidden }) => hidden !== 0);
  if (computed !== undefined)
    throw new SchemaError(`its table "${table}" has the generated column ${computed.name}`);
}

/**
 * For checks and copies, which read the whole database: other tables are allowed, but none that run their own
 * code.
 *
 * @throws SchemaError
 */
export function rejectVirtualTables(database: Database): void {
  const name = database
    .prepare<[], string>("SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'virtual'")
    .pluck()
    .get();
  if (name !== undefined)
    throw new SchemaError(`it has the virtual table "${name}", which relays never create`);
}
