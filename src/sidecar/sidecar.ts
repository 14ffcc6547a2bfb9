import { join } from 'node:path';
import { Router } from 'express';
import type { Express } from 'express';
import { formatEndpoint } from '../config/endpoint.ts';
import type { Endpoint } from '../config/endpoint.ts';
import { changedSettings } from '../config/environment.ts';
import type { ConfigReport } from '../config/environment.ts';
import { readSidecarConfig } from '../config/sidecar-config.ts';
import type { SidecarConfig } from '../config/sidecar-config.ts';
import { StartupError } from '../process/errors.ts';
import { errorDetails } from '../process/logging.ts';
import type { Log } from '../process/logging.ts';
import type { Program } from '../process/program.ts';
import { NODE_VERSION, VERSION } from '../process/version.ts';
import { HttpListener } from '../transport/http-listener.ts';
import { listen } from '../transport/listener.ts';
import type { Health } from './api.ts';
import { readPage } from './dashboard-files.ts';
import { JobError, JobPool } from './job-pool.ts';
import { LiveHistory } from './live-history.ts';
import { readDatabaseState, readLiveStatus, sidecarWarnings } from './live-status.ts';
import { CachedCheck, SidecarMetrics } from './metrics.ts';
import { RelayClient } from './relay-client.ts';
import { RelayPoller } from './relay-poller.ts';
import { createApp } from './server.ts';
import type { AppDependencies } from './server.ts';
import type { SnapshotCheckTask } from './snapshots/snapshot-check.ts';
import { snapshotRoutes } from './snapshots/snapshot-routes.ts';
import { SnapshotSchedule } from './snapshots/snapshot-schedule.ts';
import { SnapshotStore } from './snapshots/snapshot-store.ts';
import { UsageReports } from './usage/usage-reports.ts';
import { usageRoutes } from './usage/usage-routes.ts';
import type { UsageSource } from './usage/usage-source.ts';
import { UsageTotals } from './usage/usage-totals.ts';

/**
 * One process for a slow query, one for the quick ones. Snapshots have their own pool, so that queries never
 * delay them.
 */
const MAX_QUERY_PROCESSES = 2;

/**
 * Longer queries are aborted, in milliseconds; a report on 10 million records takes 6 s. Snapshots have no
 * time limit: they read each page of the file only a few times.
 */
const QUERY_TIMEOUT_MS = 300_000;

/**
 * A connection without progress is closed after this time, in milliseconds. A client that stalls during a
 * download keeps a file open, and a removed snapshot stays on disk while it is open. No response takes this
 * long to start.
 */
const STALL_TIMEOUT_MS = 600_000;

/**
 * How long an idle connection stays open for another request, in milliseconds; the page sends one every
 * second.
 */
const KEEP_ALIVE_TIMEOUT_MS = 5000;

/** A browser opens at most six connections. */
const HTTP_LIMITS = {
  maxPending: 128,
  maxAnswering: 64,
  keepAliveMs: KEEP_ALIVE_TIMEOUT_MS,
  stallTimeoutMs: STALL_TIMEOUT_MS,
};

/** Of consecutive failures of the schedule, the first is logged, and then one out of this many. */
const LOG_EVERY_FAILURES = 30;

/** Inside the snapshot directory, which this process may write to. */
const SCRATCH_DIRECTORY = '.scratch';

interface Closeable {
  close(): Promise<void> | void;
}

/** The composition root of the sidecar: start and shutdown order. */
export class Sidecar {
  readonly #config: SidecarConfig;
  readonly #configReport: ConfigReport;
  readonly #log: Log;
  readonly #servers: HttpListener[] = [];
  /** Closed on shutdown in reverse order. */
  readonly #resources: Closeable[] = [];
  #closing = false;

  constructor(config: SidecarConfig, log: Log, report: ConfigReport) {
    this.#configReport = report;
    this.#config = config;
    this.#log = log;
  }

  /**
   * Opens the snapshot directory, listens, and takes the first snapshot.
   *
   * @throws StartupError, with a sentence for the operator. Call `close` in that case
   * too.
   */
  async start(): Promise<readonly Endpoint[]> {
    const { usageDatabasePath: databasePath, snapshots, relayStatusUrl, token } = this.#config;
    const source: UsageSource = {
      databasePath,
      scratchDirectory: join(snapshots.directory, SCRATCH_DIRECTORY),
    };
    const pool = this.#own(
      new JobPool({ maxProcesses: MAX_QUERY_PROCESSES, jobTimeoutMs: QUERY_TIMEOUT_MS }),
    );
    const snapshotPool = this.#own(new JobPool({ maxProcesses: 1 }));
    const store = this.#own(await SnapshotStore.open({ ...snapshots, source, pool: snapshotPool }));
    const schedule = this.#own(this.#createSchedule(store));
    const reports = this.#own(new UsageReports({ source, pool, clock: Date.now }));
    const onInternalError = (error: unknown): void => {
      // Requests that the shutdown aborts are not errors.
      if (!this.#closing)
        this.#log.error({ event: 'internal_error', error: errorDetails(error) }, 'request failed');
    };
    const totals = this.#own(new UsageTotals({ source, pool, onInternalError }));
    const relay = new RelayClient(relayStatusUrl);
    const { warnings } = this.#configReport;
    const history = new LiveHistory();
    this.#own(new RelayPoller(() => relay.state(), history)).start();
    const health: AppDependencies['health'] = {
      relay: () => relay.health('relay'),
      transfer: () => relay.health('transfer'),
      snapshot: () => checkSnapshot(pool, snapshots.directory, snapshots.intervalMs),
    };
    const metrics = this.#createMetrics(health, totals, store, schedule, onInternalError);
    const routes = Router();
    routes.use('/snapshots', snapshotRoutes(store, schedule));
    const onCsvAborted = (problem: string): void =>
      this.#log.warn({ event: 'usage_csv_aborted', problem }, 'usage.csv download aborted');
    routes.use(usageRoutes(reports, source, pool, onCsvAborted));
    const app = createApp(
      {
        page: readPage(),
        assets: await loadAssets(pool),
        readLiveStatus: () => readLiveStatus({ relay, databasePath, store, schedule, warnings }),
        readHistory: (seconds) => history.read(Date.now(), performance.now(), seconds),
        health,
        metrics,
        routes,
        onInternalError,
      },
      token,
    );
    this.#log.info(
      {
        event: 'starting',
        version: VERSION,
        node_version: NODE_VERSION,
        usage_database: databasePath,
        snapshot_dir: snapshots.directory,
        relay_status: relayStatusUrl,
        settings: changedSettings(this.#configReport.settings),
      },
      'starting',
    );
    const endpoints = await this.#listen(app);
    schedule.start();
    // The first count of many records takes seconds, so it starts before the first request.
    void totals.refresh();
    return endpoints;
  }

  /** Aborts all responses and jobs, and closes everything. */
  async close(): Promise<void> {
    this.#closing = true;
    for (const server of this.#servers) {
      server.close();
      server.closeAllConnections();
    }
    for (const resource of this.#resources.toReversed()) await resource.close();
    this.#resources.length = 0;
  }

  #own<Resource extends Closeable>(resource: Resource): Resource {
    this.#resources.push(resource);
    return resource;
  }

  #createSchedule(store: SnapshotStore): SnapshotSchedule {
    return new SnapshotSchedule({
      taker: store,
      intervalMs: this.#config.snapshots.intervalMs,
      events: {
        onTaken: ({ name, bytes, rows }) =>
          this.#log.info({ event: 'snapshot_taken', name, bytes, rows }, 'snapshot taken'),
        onFailed: (problem, failures) => {
          if (failures % LOG_EVERY_FAILURES !== 1) return;
          this.#log.warn({ event: 'snapshot_failed', problem, failures }, 'snapshot failed; will retry');
        },
        onRecovered: (failures) =>
          this.#log.info({ event: 'snapshots_recovered', failures }, 'snapshots recovered'),
      },
    });
  }

  #createMetrics(
    health: AppDependencies['health'],
    totals: UsageTotals,
    store: SnapshotStore,
    schedule: SnapshotSchedule,
    onInternalError: (error: unknown) => void,
  ): SidecarMetrics {
    const { usageDatabasePath, snapshots } = this.#config;
    const check = (run: () => Promise<boolean>): CachedCheck => new CachedCheck(run, onInternalError);
    let databaseBytes = 0;
    return new SidecarMetrics({
      checks: {
        relay: check(async () => (await health.relay()).ok),
        transfer: check(async () => (await health.transfer()).ok),
        snapshot: check(async () => (await health.snapshot()).ok),
        database: check(async () => {
          const state = await readDatabaseState(usageDatabasePath);
          databaseBytes = state.state === 'ok' ? state.bytes : 0;
          return totals.refresh();
        }),
      },
      totals: () => totals.current,
      databaseBytes: () => databaseBytes,
      snapshots: () => store.list(),
      snapshotCounts: () => schedule.counts,
      snapshotIntervalMs: snapshots.intervalMs,
      warnings: () => sidecarWarnings(this.#configReport.warnings, schedule).length,
    });
  }

  async #listen(app: Express): Promise<readonly Endpoint[]> {
    const actual: Endpoint[] = [];
    for (const endpoint of this.#config.listen) {
      const server = new HttpListener(app, HTTP_LIMITS);
      const bound = await listen(server, endpoint);
      this.#servers.push(server);
      this.#log.info({ event: 'listening', role: 'sidecar', endpoint: formatEndpoint(bound) }, 'listening');
      actual.push(bound);
    }
    return actual;
  }
}

/** Before anything else uses the pool, so that no query delays it. */
async function loadAssets(pool: JobPool): Promise<ReadonlyMap<string, string>> {
  try {
    return await pool.run('readAssets', null);
  } catch (error) {
    if (!(error instanceof JobError)) throw error;
    throw new StartupError(`can't load the files of the dashboard: ${error.message}`, { cause: error });
  }
}

/** Runs in a job process, because SQLite's check reads the whole snapshot. */
async function checkSnapshot(pool: JobPool, directory: string, intervalMs: number): Promise<Health> {
  const task: SnapshotCheckTask = { directory, maxAgeMs: 2 * intervalMs, now: Date.now() };
  const problem = await pool.run('checkSnapshot', task);
  return { ok: problem === null, problem };
}

/** The sidecar as a program. `main.ts` imports it after installing the signal handlers. */
export const sidecarProgram: Program<SidecarConfig> = {
  read: (environment) => readSidecarConfig(environment),
  create: (config, log, report) => new Sidecar(config, log, report),
};
