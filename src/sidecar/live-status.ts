import { stat } from 'node:fs/promises';
import { errorCode } from '../process/errors.ts';
import type { DatabaseState, LiveStatus } from './api.ts';
import type { RelayClient } from './relay-client.ts';
import type { SnapshotSchedule } from './snapshots/snapshot-schedule.ts';
import type { SnapshotStore } from './snapshots/snapshot-store.ts';

/** Suffix of the write-ahead log, which holds writes that are not in the database file yet. */
const WAL_SUFFIX = '-wal';

/** Collects the data of `GET /live.json`. */
export async function readLiveStatus(
  relay: RelayClient,
  databasePath: string,
  store: SnapshotStore,
  schedule: SnapshotSchedule,
): Promise<LiveStatus> {
  const snapshots = store.list();
  return {
    now: new Date().toISOString(),
    relay: await relay.state(),
    database: await readDatabaseState(databasePath),
    snapshots: {
      count: snapshots.length,
      newest: snapshots[0] ?? null,
      problem: schedule.problem,
      next: schedule.next.toISOString(),
    },
  };
}

/** Size and time of the database files, without opening the database. */
export async function readDatabaseState(path: string): Promise<DatabaseState> {
  try {
    const main = await stat(path);
    if (!main.isFile()) return { state: 'unreadable', problem: `the usage database "${path}" is not a file` };
    const log = await stat(path + WAL_SUFFIX).catch(() => null);
    return {
      state: 'ok',
      bytes: main.size + (log?.size ?? 0),
      modified: new Date(Math.max(main.mtimeMs, log?.mtimeMs ?? 0)).toISOString(),
    };
  } catch (error) {
    const code = errorCode(error);
    return code === 'ENOENT'
      ? { state: 'missing', problem: `there is no usage database at "${path}" yet` }
      : { state: 'unreadable', problem: `the usage database "${path}" can't be accessed (${code})` };
  }
}
