import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { scratch } from './scratch.ts';
import { SidecarProcess } from './sidecar-process.ts';
import { createUsageDatabase } from './usage-records.ts';
import type { ValidRecord } from './usage-records.ts';

/** A URL without a relay: no service listens on such a low port. `fetch` blocks port 1. */
export const UNREACHABLE_URL = 'http://127.0.0.1:2';

/** A sidecar and its files. All of it is removed after the test. */
export interface SidecarFixture {
  readonly sidecar: SidecarProcess;
  readonly url: string;
  /** The relay's directory, which contains only the database. */
  readonly volume: string;
  readonly databasePath: string;
  readonly snapshots: string;
}

/**
 * Starts a sidecar, by default without a relay.
 *
 * @param records of the database, of which a first snapshot is taken; null for no database
 */
export async function startSidecar(
  context: TestContext,
  records: readonly ValidRecord[] | null,
  settings: Readonly<Record<string, string>> = {},
): Promise<SidecarFixture> {
  const directory = await scratch(context);
  const volume = join(directory, 'volume');
  const databasePath = join(volume, 'usage.sqlite');
  const snapshots = join(directory, 'snapshots');
  mkdirSync(volume);
  if (records !== null) createUsageDatabase(volume, records);
  const sidecar = await SidecarProcess.start({
    SIDECAR_USAGE_DB: databasePath,
    SIDECAR_SNAPSHOT_DIR: snapshots,
    SIDECAR_RELAY_STATUS: UNREACHABLE_URL,
    ...settings,
  });
  context.after(() => sidecar[Symbol.asyncDispose]());
  if (records !== null) await sidecar.waitForLog(/"msg":"snapshot taken"/u);
  return { sidecar, url: sidecar.url, volume, databasePath, snapshots };
}

/** A few records of different hours, days, months and moods. */
export function sampleRecords(count: number): ValidRecord[] {
  const start = Date.UTC(2024, 0, 30, 21) / 1000;
  const moods = ['happy', 'lonely', 'happy', 'errory'];
  return Array.from({ length: count }, (_, index) => ({
    started: start + index * 1000,
    total_time: index % 50,
    waiting_time: index % 2 === 0 ? index % 40 : null,
    total_bytes: index * 7,
    result: moods[index % moods.length] ?? 'happy',
  }));
}
