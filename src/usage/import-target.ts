import { randomUUID } from 'node:crypto';
import { closeSync, fsyncSync, linkSync, lstatSync, openSync, rmSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import Database from 'better-sqlite3';
import type { Statement } from 'better-sqlite3';
import { errorCode } from '../error-code.ts';
import { ImportError } from './import-error.ts';
import type { OldRecord } from './import-source.ts';
import { ensureSchema } from './schema.ts';
import { whyNotWritten } from './why-not-written.ts';

/** What SQLite may have put beside a database that is gone, and would take for a part of the new one. */
const LEFTOVERS = ['-wal', '-shm', '-journal'] as const;

const INSERT = `INSERT INTO usage (started, total_time, waiting_time, total_bytes, result) VALUES (?, ?, ?, ?, ?)`;

/** No relay has run on it yet. The reference's own import writes the same. */
const CURRENT = `INSERT INTO current (rebooted, updated, connected, waiting, incomplete_bytes) VALUES (0, 0, 0, 0, 0)`;

/**
 * A usage database in the making. It is written under a name of its own, and gets the one it is meant for when all of it is
 * on disk; until then there is nothing by that name.
 */
export class ImportTarget {
  readonly #path: string;
  readonly #unfinished: string;
  readonly #database: Database.Database;
  readonly #insert: Statement;

  /** @throws ImportError when there is something by that name already, or nothing can be made there */
  constructor(path: string) {
    this.#path = resolve(path);
    this.#unfinished = `${this.#path}.unfinished-${randomUUID()}`;
    this.#database = this.#say(() => {
      refuseToReplace(this.#path);
      return new Database(this.#unfinished);
    });
    try {
      this.#insert = this.#say(() => prepare(this.#database));
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** @throws ImportError when there is no more room */
  add(record: OldRecord): void {
    this.#say(() => this.#insert.run(...record));
  }

  /** Puts it in its place, for good. @throws ImportError when that is taken meanwhile, or it can't be written */
  finish(): void {
    this.#say(() => {
      this.#database.exec('COMMIT');
      this.#database.close();
      flush(this.#unfinished);
      // Unlike a rename, a link never replaces what has that name.
      linkSync(this.#unfinished, this.#path);
      flush(dirname(this.#path));
    });
  }

  /** Leaves nothing but what is finished. */
  close(): void {
    this.#database.close();
    rmSync(this.#unfinished, { force: true });
  }

  /** Runs what writes, and says in words what was wrong. */
  #say<T>(write: () => T): T {
    try {
      return write();
    } catch (error) {
      throw toImportError(this.#path, error);
    }
  }
}

function prepare(database: Database.Database): Statement {
  // One file at any time: what is left of it when this process is killed is never read.
  database.pragma('journal_mode = MEMORY');
  ensureSchema(database);
  database.exec(`BEGIN; ${CURRENT}`);
  return database.prepare(INSERT);
}

function toImportError(path: string, error: unknown): unknown {
  if (error instanceof ImportError) return error;
  const code = errorCode(error);
  if (code === 'EEXIST') return taken(path);
  const why = whyNotMade(path, code, error);
  return why === null ? error : new ImportError(`can't make "${path}": ${why}`);
}

function whyNotMade(path: string, code: string, error: unknown): string | null {
  // better-sqlite3 looks for the directory itself and throws a TypeError.
  if (/^(?:SQLITE_(?:CANTOPEN|READONLY|PERM)|EACCES|EROFS)/u.test(code) || error instanceof TypeError)
    return whyNotWritten(path);
  if (/^(?:SQLITE_FULL|ENOSPC|EDQUOT)/u.test(code)) return 'there is no more room';
  if (/^(?:EPERM|ENOSYS|ENOTSUP|EOPNOTSUPP)$/u.test(code))
    return 'its file system knows no hard links; import into a directory on another one, and copy the file';
  return code === 'unknown' ? null : code;
}

function refuseToReplace(path: string): void {
  if (isThere(path)) throw taken(path);
  for (const suffix of LEFTOVERS) {
    const left = `${path}${suffix}`;
    if (isThere(left))
      throw new ImportError(
        `"${left}" is what another database of that name has left, and would damage this one: move it away`,
      );
  }
}

function taken(path: string): ImportError {
  return new ImportError(
    `"${path}" is there already, and stays as it is: name another file, or move it away`,
  );
}

/** A link that leads nowhere is there too. */
function isThere(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false }) !== undefined;
}

/** After a power cut a name must not stand for less than the whole. */
function flush(path: string): void {
  const descriptor = openSync(path, 'r');
  try {
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}
