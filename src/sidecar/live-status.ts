import { hostname } from 'node:os';
import { stat } from 'node:fs/promises';
import { errorCode } from '../process/errors.ts';
import { VERSION } from '../process/version.ts';
import type { RelayStatus, ServiceState } from '../status/relay-status.ts';
import type { DatabaseState, LiveStatus, OperatorWarning } from './api.ts';
import type { RelayClient } from './relay-client.ts';
import type { SnapshotSchedule } from './snapshots/snapshot-schedule.ts';
import type { SnapshotStore } from './snapshots/snapshot-store.ts';

/** The sources of `GET /live.json`. */
interface LiveStatusSource {
  readonly relay: RelayClient;
  readonly databasePath: string;
  readonly store: SnapshotStore;
  readonly schedule: SnapshotSchedule;
  /** Of the configuration. */
  readonly warnings: readonly OperatorWarning[];
}

/** Identity of this process. */
const SIDECAR = { version: VERSION, host: hostname(), started: new Date().toISOString() };

/** Collects the data of `GET /live.json`. */
export async function readLiveStatus({
  relay,
  databasePath,
  store,
  schedule,
  warnings,
}: LiveStatusSource): Promise<LiveStatus> {
  const snapshots = store.list();
  const { problem } = schedule;
  return {
    now: new Date().toISOString(),
    relay: await relay.state(),
    database: await readDatabaseState(databasePath),
    snapshots: {
      count: snapshots.length,
      newest: snapshots[0] ?? null,
      problem,
      next: schedule.next.toISOString(),
    },
    sidecar: SIDECAR,
    warnings: sidecarWarnings(warnings, schedule),
  };
}

/**
 * Current problems of the sidecar itself.
 *
 * @param permanent those of its configuration
 */
export function sidecarWarnings(
  permanent: readonly OperatorWarning[],
  { problem }: Pick<SnapshotSchedule, 'problem'>,
): readonly OperatorWarning[] {
  return problem === null ? permanent : [...permanent, { event: 'snapshot_failed', message: problem }];
}

const STATUS_NUMBERS = ['uptime_seconds', 'pairs', 'waiting', 'relayed_bytes', 'bytes_per_second'] as const;

/** The fields that relays of all versions report. */
type BaseStatus = Pick<RelayStatus, 'started' | 'draining' | (typeof STATUS_NUMBERS)[number]> &
  Partial<RelayStatus>;

const STATES: readonly unknown[] = [
  'serving',
  'refusing',
  'over_quota',
  'draining',
] satisfies readonly ServiceState[];

const NO_REJECTIONS = { connections: 0, waiting: 0, address: 0, quota: 0, shutdown: 0 };

/**
 * The answer of a relay of any version, with defaults for the fields that it does not have. Null: it is not the
 * status of a relay.
 */
export function toRelayStatus(answer: unknown): RelayStatus | null {
  if (!isBaseStatus(answer)) return null;
  const { state, refused, refused_last_hour: lastHour, quota } = answer;
  return {
    version: '',
    host: '',
    refusing: null,
    connections: 2 * answer.pairs + answer.waiting,
    limits: { connections: null, waiting: null },
    certificates: [],
    warnings: [],
    usage: { queued: 0, dropped: 0, problem: null },
    ...answer,
    state: state !== undefined && STATES.includes(state) ? state : stateOf(answer),
    refused: hasCounts(refused) ? refused : NO_REJECTIONS,
    refused_last_hour: hasCounts(lastHour) ? lastHour : NO_REJECTIONS,
    // Without its times, nothing can be said about the use of a quota.
    quota: quota?.counts_since === undefined ? null : quota,
  };
}

/** The state of a relay that does not report it. */
function stateOf({ draining, quota }: BaseStatus): ServiceState {
  if (draining) return 'draining';
  return quota && quota.used_bytes >= quota.limit_bytes ? 'over_quota' : 'serving';
}

function hasCounts(counts: unknown): counts is RelayStatus['refused'] {
  if (typeof counts !== 'object' || counts === null) return false;
  const values = new Map<string, unknown>(Object.entries(counts));
  return Object.keys(NO_REJECTIONS).every((reason) => typeof values.get(reason) === 'number');
}

function isBaseStatus(answer: unknown): answer is BaseStatus {
  if (typeof answer !== 'object' || answer === null) return false;
  const values = new Map<string, unknown>(Object.entries(answer));
  return (
    typeof values.get('started') === 'string' &&
    typeof values.get('draining') === 'boolean' &&
    STATUS_NUMBERS.every((name) => typeof values.get(name) === 'number')
  );
}

/** Size and time of the database files, without opening the database. */
export async function readDatabaseState(path: string): Promise<DatabaseState> {
  try {
    const main = await stat(path);
    if (!main.isFile()) return { state: 'unreadable', problem: `the usage database "${path}" is not a file` };
    // The write-ahead log holds writes that are not in the database file yet.
    const log = await stat(`${path}-wal`).catch(() => null);
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
