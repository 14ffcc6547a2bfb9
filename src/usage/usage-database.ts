import Database from 'better-sqlite3';
import type { Statement } from 'better-sqlite3';
import { identityOf } from './file-identity.ts';
import { SchemaError, ensureSchema } from './schema.ts';
import type { Answer, Request } from './sqlite-messages.ts';
import type { CurrentUsage, UsageRecord } from './record.ts';
import { whyNotWritten } from './why-not-written.ts';

/** How long SQLite itself waits for a lock before a request fails and is tried again, in milliseconds. */
const BUSY_TIMEOUT_MS = 1000;

const INSERT_USAGE = `INSERT INTO usage (started, total_time, waiting_time, total_bytes, result)
  VALUES (@started, @total_time, @waiting_time, @total_bytes, @mood)`;

const INSERT_CURRENT = `INSERT INTO current (rebooted, updated, connected, waiting, incomplete_bytes)
  VALUES (@rebooted, @updated, @connected, @waiting, @incomplete_bytes)`;

interface Opened {
  readonly handle: Database.Database;
  /** Identities of the database and of its log. */
  readonly file: string;
  readonly log: string;
  readonly insertUsage: Statement<[UsageRecord]>;
  readonly clearCurrent: Statement<[]>;
  readonly insertCurrent: Statement<[CurrentUsage]>;
}

/** Errors that pass while a file stays as it is; after any other it is opened anew, since somebody may put it in order. */
const PASSING = /^SQLITE_(?:BUSY|LOCKED|FULL)/u;

/**
 * The usage database as the database thread has it. Opened on demand, so that a request also reopens it: a file that was
 * deleted, moved or replaced is let go of, and what has the name then is used, or made.
 */
export class UsageDatabase {
  readonly #path: string;
  #opened: Opened | null = null;

  constructor(path: string) {
    this.#path = path;
  }

  handle(request: Request): Answer {
    try {
      if (request.kind === 'close') this.#close();
      else if (request.kind === 'open') this.#open();
      else this.#write(request.records, request.current);
      return { kind: 'done' };
    } catch (error) {
      if (!(error instanceof Database.SqliteError && PASSING.test(error.code))) this.#close();
      return toAnswer(error, this.#path);
    }
  }

  #write(records: readonly UsageRecord[], current: CurrentUsage | null): void {
    const { handle, insertUsage, clearCurrent, insertCurrent } = this.#open();
    const writeAll = handle.transaction(() => {
      for (const record of records) insertUsage.run(record);
      if (current === null) return;
      clearCurrent.run();
      insertCurrent.run(current);
    });
    writeAll.immediate();
  }

  #open(): Opened {
    if (this.#opened !== null && this.#isInPlace(this.#opened)) return this.#opened;
    if (this.#opened !== null) this.#leave(this.#opened);
    const handle = new Database(this.#path, { timeout: BUSY_TIMEOUT_MS });
    try {
      ensureSchema(handle);
      // Readers never wait for the writer then, nor it for them. Where the file system can't do it
      // (no shared memory), SQLite stays with its old journal, which is as safe and only slower.
      handle.pragma('journal_mode = WAL');
      handle.pragma('synchronous = NORMAL');
      // A file that can't be written is to be found now, and not with the first record.
      handle.transaction(() => handle.prepare('DELETE FROM current WHERE 0').run()).immediate();
      this.#opened = {
        handle,
        file: identityOf(this.#path),
        log: identityOf(this.#logPath),
        insertUsage: handle.prepare(INSERT_USAGE),
        clearCurrent: handle.prepare('DELETE FROM current'),
        insertCurrent: handle.prepare(INSERT_CURRENT),
      };
      return this.#opened;
    } catch (error) {
      handle.close();
      throw error;
    }
  }

  get #logPath(): string {
    return `${this.#path}-wal`;
  }

  #isInPlace({ file, log }: Opened): boolean {
    return identityOf(this.#path) === file && identityOf(this.#logPath) === log;
  }

  /**
   * Lets go of a file that has lost its name, or whose log has. What is still in the log is written to the file first:
   * SQLite would leave a log that has kept its name, and take it for that of the next file, which that one does not survive.
   */
  #leave({ handle, log }: Opened): void {
    try {
      const left = handle.pragma('wal_checkpoint(TRUNCATE)', { simple: true });
      if (left === 1) throw new Database.SqliteError('somebody reads the log', 'SQLITE_BUSY');
    } catch (error) {
      // A file that can't be written any more is given up where its log can do no harm.
      if (identityOf(this.#logPath) === log) throw error;
    }
    this.#close();
  }

  #close(): void {
    this.#opened?.handle.close();
    this.#opened = null;
  }
}

/** SQLite's codes for files that will not get better by waiting, and what they mean to an operator. */
const UNFIT: Readonly<Record<string, string>> = {
  SQLITE_NOTADB: 'it is not an SQLite database',
  SQLITE_CORRUPT: 'the file is corrupt',
};

function toAnswer(error: unknown, path: string): Answer {
  if (error instanceof SchemaError) return { kind: 'unfit', reason: error.message };
  if (error instanceof Database.SqliteError) {
    if (/^SQLITE_(?:CANTOPEN|READONLY|PERM)/u.test(error.code))
      return { kind: 'unfit', reason: whyNotWritten(path) };
    const reason = UNFIT[error.code] ?? UNFIT[error.code.split('_').slice(0, 2).join('_')];
    return reason === undefined ? { kind: 'failed', code: error.code } : { kind: 'unfit', reason };
  }
  // better-sqlite3 looks for the directory itself and throws a TypeError.
  if (error instanceof TypeError) return { kind: 'unfit', reason: whyNotWritten(path) };
  return { kind: 'failed', code: error instanceof Error ? error.name : 'unknown' };
}
