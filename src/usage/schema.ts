import type { Database } from 'better-sqlite3';

/** Why a file can't be the usage database, in a sentence for the operator. */
export class SchemaError extends Error {}

/** The reference's schema version; its Munin plugins and other people's scripts read this schema. */
export const SCHEMA_VERSION = 1;

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

/** May be there beside the others; see retention.ts. */
const OPTIONAL_TABLES: Readonly<Record<string, readonly string[]>> = {
  usage_deleted: ['result', 'records', 'total_bytes', 'last_rowid'],
};

/** A database in which none of these is may get all of them. Others, like those of a replicator, are not ours. */
const RESERVED_NAMES = [
  ...Object.keys(TABLES),
  ...Object.keys(OPTIONAL_TABLES),
  'usage_started_index',
  'usage_result_index',
];

/**
 * Makes sure that `database` has the usage schema, and creates it where there is nothing of it, beside the tables of other programs. Any other
 * file is only read, so that one that is refused stays as it was.
 *
 * @throws SchemaError for a database that uses these names for something else, or of another version
 * @throws SqliteError when it can't be read or written
 */
export function ensureSchema(database: Database): void {
  if (hasSchema(database)) return;
  // Without effect where other tables are there already. It lets deleted records give back their space.
  database.pragma('auto_vacuum = INCREMENTAL');
  database.transaction(() => database.exec(CREATE)).immediate();
}

const FIND_NAME = `SELECT 1 FROM sqlite_schema
  WHERE name COLLATE NOCASE IN (${RESERVED_NAMES.map((name) => `'${name}'`).join(', ')}) LIMIT 1`;

/** Kinds of what a query can read by name, in words; see PRAGMA table_list. */
const OBJECT_KINDS: Readonly<Record<string, string>> = {
  view: 'a view',
  virtual: 'a virtual table',
  shadow: 'a part of a virtual table',
};

/**
 * Whether `database` has the usage schema; false where it has nothing of it. It only reads.
 *
 * Only ordinary tables with ordinary columns count. Views, virtual tables and generated columns can compute forever.
 *
 * @throws SchemaError for a database of something else, or of another version
 * @throws SqliteError when it can't be read
 */
export function hasSchema(database: Database): boolean {
  // SQLite neither calls functions with side effects nor uses virtual tables for what the file's own schema says.
  database.pragma('trusted_schema = OFF');
  if (database.prepare(FIND_NAME).get() === undefined) return false;
  if (readObjectKind(database, 'version') === null)
    throw new SchemaError('it is a database, but not one of a transit relay');
  checkTable(database, 'version', TABLES['version'] ?? []);
  const version = database.prepare('SELECT version FROM version').pluck().get();
  if (version !== SCHEMA_VERSION) {
    throw new SchemaError(
      typeof version === 'number'
        ? `its schema version is ${version}, and this relay knows ${SCHEMA_VERSION}`
        : 'its version table is empty',
    );
  }
  for (const [table, columns] of Object.entries(TABLES)) checkTable(database, table, columns);
  for (const [table, columns] of Object.entries(OPTIONAL_TABLES)) {
    if (readObjectKind(database, table) !== null) checkTable(database, table, columns);
  }
  return true;
}

/** `table` for an ordinary one; null where nothing has that name. */
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
    throw new SchemaError(`its "${table}" is ${OBJECT_KINDS[kind] ?? kind}, and not a table`);
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
 * For a database that is read whole, as a check and a copy do: other tables may be there, but none that run code of their own.
 *
 * @throws SchemaError
 */
export function rejectVirtualTables(database: Database): void {
  const name = database
    .prepare<[], string>("SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'virtual'")
    .pluck()
    .get();
  if (name !== undefined) throw new SchemaError(`it has the virtual table "${name}", which no relay makes`);
}
