import { stat } from 'node:fs/promises';
import { errorCode } from '../process/errors.ts';
import type { RelayStatus } from '../status/relay-status.ts';
import type { DatabaseState, Health, LiveStatus, RelayState } from './api.ts';
import type { SnapshotSchedule } from './snapshots/snapshot-schedule.ts';
import type { SnapshotStore } from './snapshots/snapshot-store.ts';

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

/** Timeout for the relay's status, in milliseconds; the relay answers at once. */
export const STATUS_TIMEOUT_MS = 1000;

/** Timeout for a health check, in milliseconds; the relay has to run it first. */
export const CHECK_TIMEOUT_MS = 1800;

/** The relay's status is cached for this long, however many pages request it. In milliseconds. */
const STATUS_TTL_MS = 500;

/** The relay's answer to a health check, with additional details. */
interface RelayHealth extends Health {
  readonly [detail: string]: unknown;
}

/** Client of the relay's status port. */
export class RelayClient {
  readonly #url: string;
  #cached: { readonly state: Promise<RelayState>; readonly at: number } | null = null;

  /** @param url base URL of the status port, without a trailing slash */
  constructor(url: string) {
    this.#url = url;
  }

  /** The current state of the relay. Never rejects: a relay that does not answer is `down`. */
  state(): Promise<RelayState> {
    const now = performance.now();
    if (this.#cached === null || now - this.#cached.at >= STATUS_TTL_MS)
      this.#cached = { state: this.#fetchState(), at: now };
    return this.#cached.state;
  }

  async #fetchState(): Promise<RelayState> {
    const answer = await this.#request('/status.json', STATUS_TIMEOUT_MS, isStatus);
    return typeof answer === 'string' ? { state: 'down', problem: answer } : { ...answer, state: 'up' };
  }

  /** Runs a health check of the relay. Never rejects. */
  async health(check: 'relay' | 'transfer'): Promise<RelayHealth> {
    const answer = await this.#request(`/health/${check}`, CHECK_TIMEOUT_MS, isHealth);
    return typeof answer === 'string' ? { ok: false, problem: answer } : answer;
  }

  /** Returns the answer, or a sentence with the problem. */
  async #request<Answer>(
    path: string,
    timeoutMs: number,
    isAnswer: (value: unknown) => value is Answer,
  ): Promise<Answer | string> {
    try {
      const signal = AbortSignal.timeout(timeoutMs);
      const response = await fetch(this.#url + path, { signal, redirect: 'error' });
      const answer: unknown = await response.json();
      if (isAnswer(answer)) return answer;
    } catch (error) {
      if (!isUnexpectedResponse(error))
        return `the relay's status port does not answer at ${this.#url} (${describeFetchError(error)})`;
    }
    return `the service at ${this.#url} is not a compatible transit relay`;
  }
}

/** The response was not HTTP, not JSON, or a redirect. */
function isUnexpectedResponse(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  if (error instanceof SyntaxError) return true;
  const { cause } = error;
  return (
    cause instanceof Error && (cause.name === 'HTTPParserError' || cause.message === 'unexpected redirect')
  );
}

function describeFetchError(error: unknown): string {
  if (!(error instanceof Error)) return 'unknown';
  if (error.name === 'TimeoutError') return 'timeout';
  const { cause } = error;
  if (!(cause instanceof Error)) return error.message;
  return 'code' in cause ? String(cause.code) : cause.message;
}

function isHealth(answer: unknown): answer is RelayHealth {
  if (typeof answer !== 'object' || answer === null || !('ok' in answer && 'problem' in answer)) return false;
  return typeof answer.ok === 'boolean' && (answer.problem === null || typeof answer.problem === 'string');
}

const STATUS_NUMBERS = ['uptime_seconds', 'pairs', 'waiting', 'relayed_bytes', 'bytes_per_second'] as const;

function isStatus(answer: unknown): answer is RelayStatus {
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
