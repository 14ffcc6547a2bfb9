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

/**
 * Makes sure that `database` has the usage schema, and creates it in an empty file. Any other file is only
 * read, so that one that is refused stays as it was.
 *
 * @throws SchemaError for a database of something else, or of another version
 * @throws SqliteError when it can't be read or written
 */
export function ensureSchema(database: Database): void {
  if (!hasSchema(database)) database.transaction(() => database.exec(CREATE)).immediate();
}

/**
 * Whether `database` has the usage schema; false where it has no tables at all. It only reads.
 *
 * @throws SchemaError for a database of something else, or of another version
 * @throws SqliteError when it can't be read
 */
export function hasSchema(database: Database): boolean {
  const tables = new Set(
    database.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'").pluck().all(),
  );
  if (tables.size === 0) return false;
  if (!tables.has('version')) throw new SchemaError('it is a database, but not one of a transit relay');
  const version = database.prepare('SELECT version FROM version').pluck().get();
  if (version !== SCHEMA_VERSION) {
    throw new SchemaError(
      typeof version === 'number'
        ? `its schema version is ${version}, and this relay knows ${SCHEMA_VERSION}`
        : 'its version table is empty',
    );
  }
  for (const [table, columns] of Object.entries(TABLES)) {
    const found = new Set(database.prepare('SELECT name FROM pragma_table_info(?)').pluck().all(table));
    const missing = columns.filter((column) => !found.has(column));
    if (missing.length > 0) throw new SchemaError(`its table "${table}" lacks ${missing.join(', ')}`);
  }
  return true;
}
