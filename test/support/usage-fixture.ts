import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { openUsageDatabase } from '../../src/sidecar/usage/usage-source.ts';
import type { UsageSource } from '../../src/sidecar/usage/usage-source.ts';
import { scratch } from './scratch.ts';
import { readUsageSum } from './usage-files.ts';
import type { UsageSum } from './usage-files.ts';

/** A relay's volume, and the other paths that a reader needs. */
export interface UsageFixture extends UsageSource {
  /** The directory with the database. */
  readonly volume: string;
}

/** Creates directories for a test, without a database. */
export async function createUsageFixture(context: TestContext): Promise<UsageFixture> {
  const directory = await scratch(context);
  const volume = join(directory, 'volume');
  mkdirSync(volume);
  return { volume, databasePath: join(volume, 'usage.sqlite'), scratchDirectory: join(directory, 'scratch') };
}

/** Opens the database, sums its records, and closes it. */
export function openAndSum(source: UsageSource): UsageSum {
  const opened = openUsageDatabase(source);
  try {
    return readUsageSum(opened.database);
  } finally {
    opened.database.close();
  }
}

/** All metadata of the files in a directory that a reader could change. */
export function fileMetadata(directory: string): unknown[] {
  return readdirSync(directory)
    .toSorted()
    .map((name) => {
      const { ino, size, mtimeMs, uid, mode } = statSync(join(directory, name));
      return { name, ino, size, mtimeMs, uid, mode };
    });
}

/** Checks that the sum ends at a transaction of the writer, which has three records with 6 bytes. */
export function assertWholeTransactions({ rows, bytes }: UsageSum): void {
  assert.ok(rows > 0);
  assert.deepEqual([rows % 3, bytes], [0, rows * 2]);
}
