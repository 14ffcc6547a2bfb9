import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { JobPool } from '../../src/sidecar/job-pool.ts';
import { snapshotName } from '../../src/sidecar/snapshots/snapshot-files.ts';
import { SnapshotStore } from '../../src/sidecar/snapshots/snapshot-store.ts';
import type { SnapshotStoreOptions } from '../../src/sidecar/snapshots/snapshot-store.ts';
import { scratch } from './scratch.ts';

/** A store with its files. */
export interface SnapshotFixture {
  readonly store: SnapshotStore;
  readonly databasePath: string;
  readonly directory: string;
  readonly options: SnapshotStoreOptions;
}

/** Opens an empty store for a database that does not exist yet. */
export async function openSnapshotFixture(
  context: TestContext,
  { directory, keep = 5 }: { readonly directory?: string; readonly keep?: number } = {},
): Promise<SnapshotFixture> {
  const place = await scratch(context);
  const pool = new JobPool({ maxProcesses: 2 });
  context.after(() => pool.close());
  const databasePath = join(place, 'usage.sqlite');
  const options = {
    directory: directory ?? join(place, 'snapshots'),
    keep,
    source: { databasePath, scratchDirectory: join(place, 'scratch') },
    pool,
  };
  const store = await SnapshotStore.open(options);
  context.after(() => store.close());
  return { store, databasePath, directory: options.directory, options };
}

/** Creates older snapshots, an hour apart, of this many bytes each. */
export function addOlderSnapshots(directory: string, count: number, bytes: number): string[] {
  mkdirSync(directory, { recursive: true });
  return Array.from({ length: count }, (_, index) => {
    const time = Date.now() - (index + 1) * 3_600_000;
    const name = snapshotName(time);
    const snapshot = { name, time: new Date(time).toISOString(), bytes, sha256: '0'.repeat(64), rows: 1 };
    writeFileSync(join(directory, name), Buffer.alloc(bytes, 1));
    writeFileSync(join(directory, `${name}.json`), JSON.stringify(snapshot));
    return name;
  });
}

/** Newest first. */
export const snapshotNames = (store: SnapshotStore): string[] => store.list().map(({ name }) => name);
