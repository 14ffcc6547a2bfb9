import assert from 'node:assert/strict';
import Database from 'better-sqlite3';
import { UsageReader } from '../support/relay-process.ts';
import { eventually } from '../support/programs.ts';

/**
 * Time for records to be on disk once nothing blocks writes, in milliseconds. The relay retries every 5 s.
 */
const WRITTEN_TIMEOUT_MS = 30_000;

/**
 * Bytes of the `happy` records of a usage database, by size. Rows that a test inserted have old dates and are
 * left out.
 */
export function sizesIn(path: string): number[] {
  using reader = new UsageReader(path);
  return reader
    .rows()
    .filter(({ result, started }) => result === 'happy' && started > 1_700_000_000)
    .map(({ total_bytes: bytes }) => bytes)
    .toSorted((one, other) => one - other);
}

/** Waits until the database has exactly these records, each once, and the file is intact. */
export async function assertWritten(path: string, sizes: readonly number[]): Promise<void> {
  const wanted = sizes.toSorted((one, other) => one - other);
  await eventually(
    () => `expected ${wanted.length} records in ${path}, found ${readable(path)?.length}`,
    WRITTEN_TIMEOUT_MS,
    () => ((readable(path)?.length ?? 0) >= wanted.length ? true : null),
  );
  assert.deepEqual(sizesIn(path), wanted);
  assertIntact(path);
}

/** Checks that SQLite finds no error in the file. */
export function assertIntact(path: string): void {
  const database = new Database(path, { readonly: true });
  try {
    assert.deepEqual(database.pragma('integrity_check'), [{ integrity_check: 'ok' }]);
  } finally {
    database.close();
  }
}

/** Null while there is no database or none that can be read. */
function readable(path: string): number[] | null {
  try {
    return sizesIn(path);
  } catch {
    return null;
  }
}
