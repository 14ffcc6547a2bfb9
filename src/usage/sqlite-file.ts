import { statSync } from 'node:fs';
import type { Database } from 'better-sqlite3';

/** The first bytes of every SQLite file. */
const MAGIC = Buffer.from('SQLite format 3\0');

/** Length of the header, in bytes. Source: https://www.sqlite.org/fileformat.html, section 1.3. */
export const SQLITE_HEADER_BYTES = 100;

/** The two bytes that hold the required read and write versions; 2 means a write-ahead log. */
const VERSIONS_OFFSET = 18;
const VERSIONS_END = 20;
const WAL_VERSION = 2;

const PAGE_SIZE_OFFSET = 16;
const PAGE_COUNT_OFFSET = 28;

/** The header's code for pages of 64 KiB, which do not fit into two bytes. */
const LARGEST_PAGE_CODE = 1;
const LARGEST_PAGE_BYTES = 65_536;

/**
 * The files of a database, as suffixes of its path: the database itself and the files that SQLite creates
 * beside it.
 */
export const FILE_SUFFIXES = ['', '-wal', '-shm', '-journal'] as const;

/** The kind of journal that a file's header requires. */
export type JournalKind = 'no database' | 'rollback journal' | 'write-ahead log';

/** @param header the first bytes of the file, up to `SQLITE_HEADER_BYTES` */
export function journalKindOf(header: Buffer): JournalKind {
  if (!header.subarray(0, MAGIC.length).equals(MAGIC)) return 'no database';
  const versions = header.subarray(VERSIONS_OFFSET, VERSIONS_END);
  return versions.includes(WAL_VERSION) ? 'write-ahead log' : 'rollback journal';
}

/** The size of the database in bytes, according to its header, of which `SQLITE_HEADER_BYTES` are needed. */
export function sizeFromHeader(header: Buffer): number {
  const code = header.readUInt16BE(PAGE_SIZE_OFFSET);
  const pageBytes = code === LARGEST_PAGE_CODE ? LARGEST_PAGE_BYTES : code;
  return pageBytes * header.readUInt32BE(PAGE_COUNT_OFFSET);
}

/**
 * Runs SQLite's check, which reads every page and every record. `integrity_check` also compares the indexes
 * with the table. That takes six times as long (5.7 s instead of 0.95 s for 10 million records) and finds
 * nothing that a copy page by page could have damaged.
 *
 * @returns SQLite's message in one line; null if no error was found
 * @throws SqliteError
 */
export function quickCheck(database: Database): string | null {
  // Constraints are code written by the file's author. A copy made page by page need not be tested against
  // them.
  database.pragma('trusted_schema = OFF');
  database.pragma('ignore_check_constraints = ON');
  const verdict = database.pragma('quick_check(1)', { simple: true });
  return verdict === 'ok' ? null : `SQLite's check says "${String(verdict).replaceAll('\n', ' ')}"`;
}

/** The reason for one of SQLite's error codes. Extended codes begin with their primary code: `SQLITE_IOERR_READ`. */
export function reasonForCode(reasons: Readonly<Record<string, string>>, code: string): string | undefined {
  return Object.entries(reasons).find(([primary]) => code.startsWith(primary))?.[1];
}

/** The size of the write-ahead log of an open database. */
export function walBytes(database: Database): number {
  return statSync(`${database.name}-wal`, { throwIfNoEntry: false })?.size ?? 0;
}

/** The identity of a path with no file, or with a file that this process cannot access. */
const NO_FILE = 'none';

/**
 * Identifies the file that has this path now. A file that is replaced or created again has another identity;
 * a file that is written to keeps its identity.
 */
export function readFileIdentity(path: string): string {
  try {
    const stat = statSync(path, { bigint: true, throwIfNoEntry: false });
    return stat === undefined ? NO_FILE : `${stat.dev}:${stat.ino}`;
  } catch {
    return NO_FILE;
  }
}
