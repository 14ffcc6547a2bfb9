import { setTimeout as sleep } from 'node:timers/promises';
import Counter from 'prom-client/lib/counter.js';
import Gauge from 'prom-client/lib/gauge.js';
import Registry from 'prom-client/lib/registry.js';
import { METRIC_PREFIX, collectProcessMetrics } from '../process/process-metrics.ts';
import type { Snapshot } from './api.ts';
import { TOTALS_MOODS } from './usage/usage-totals.ts';
import type { RecordTotals } from './usage/usage-totals.ts';

/** Prefix of the build information of this process. */
const PROCESS_PREFIX = `${METRIC_PREFIX}sidecar_`;

/** A scrape waits at most this long for checks, in milliseconds; a hanging relay is detected after 1.8 s. */
const CHECK_TIMEOUT_MS = 2000;

/**
 * A result is cached for at least this long, in milliseconds: less than Prometheus' interval of 15 s, so that
 * each scrape gets a new one.
 */
const MIN_TTL_MS = 10_000;

/** A result is cached for this multiple of its duration, so that a check uses at most a tenth of a core. */
const TTL_COST_FACTOR = 10;

/**
 * A check that has been running for this long counts as failed, whatever the last result was. In
 * milliseconds.
 */
const HUNG_AFTER_MS = 60_000;

/**
 * The cached result of a check. The check never runs twice at the same time, and expensive checks run less
 * often.
 */
export class CachedCheck {
  readonly #run: () => Promise<boolean>;
  readonly #onInternalError: (error: unknown) => void;
  readonly #clock: () => number;
  #ok = false;
  #running: Promise<void> | null = null;
  #startedMs = 0;
  #expiresMs = -Infinity;

  /**
   * @param run resolves with true if the check passed
   * @param onInternalError `run` threw an error; the check counts as failed
   * @param clock monotonic, in milliseconds
   */
  constructor(
    run: () => Promise<boolean>,
    onInternalError: (error: unknown) => void,
    clock = (): number => performance.now(),
  ) {
    this.#run = run;
    this.#onInternalError = onInternalError;
    this.#clock = clock;
  }

  /** The last result; false before the first. */
  get ok(): boolean {
    const isHung = this.#running !== null && this.#clock() - this.#startedMs > HUNG_AFTER_MS;
    return this.#ok && !isHung;
  }

  /** Resolves when the result is fresh. Concurrent callers share one run. Never rejects. */
  refresh(): Promise<void> {
    if (this.#clock() < this.#expiresMs) return Promise.resolve();
    this.#running ??= this.#start();
    return this.#running;
  }

  async #start(): Promise<void> {
    this.#startedMs = this.#clock();
    try {
      this.#ok = await this.#run();
    } catch (error) {
      this.#ok = false;
      this.#onInternalError(error);
    }
    const nowMs = this.#clock();
    this.#expiresMs = nowMs + Math.max(MIN_TTL_MS, TTL_COST_FACTOR * (nowMs - this.#startedMs));
    this.#running = null;
  }
}

/** Sources of the metrics; each is called at every scrape and returns at once. */
export interface SidecarMetricsSource {
  readonly checks: Readonly<Record<'relay' | 'transfer' | 'snapshot' | 'database', CachedCheck>>;
  readonly totals: () => RecordTotals;
  readonly databaseBytes: () => number;
  /** Newest first. */
  readonly snapshots: () => readonly Snapshot[];
  readonly snapshotCounts: () => { readonly taken: number; readonly failed: number };
  /** Time between two snapshots, in milliseconds. */
  readonly snapshotIntervalMs: number;
  /** Number of current problems of the sidecar itself. */
  readonly warnings: () => number;
}

/** `GET /metrics`. */
export class SidecarMetrics {
  readonly #registry = new Registry();
  readonly #checks: readonly CachedCheck[];
  #rendering: Promise<string> | null = null;

  constructor(source: SidecarMetricsSource) {
    this.#checks = Object.values(source.checks);
    for (const metric of [
      ...createDatabaseMetrics(source),
      ...createSnapshotMetrics(source),
      createCheckMetric(source),
      gauge(
        'sidecar_warnings',
        'Current problems of the sidecar that the operator should act on. Its dashboard lists them.',
        source.warnings,
      ),
    ])
      this.#registry.registerMetric(metric);
    collectProcessMetrics(this.#registry, PROCESS_PREFIX);
  }

  /** Content type of `render`. */
  get contentType(): string {
    return this.#registry.contentType;
  }

  /** All metrics in Prometheus' text format. Concurrent callers share one result. */
  render(): Promise<string> {
    this.#rendering ??= this.#render().finally(() => {
      this.#rendering = null;
    });
    return this.#rendering;
  }

  async #render(): Promise<string> {
    const enough = new AbortController();
    const waited = sleep(CHECK_TIMEOUT_MS, undefined, { ref: false, signal: enough.signal }).catch(
      () => undefined,
    );
    // Late checks are reported with their previous result; a later scrape gets the new one.
    await Promise.race([Promise.all(this.#checks.map((check) => check.refresh())), waited]);
    enough.abort();
    return this.#registry.metrics();
  }
}

function createDatabaseMetrics({ totals, databaseBytes, checks }: SidecarMetricsSource): (Gauge | Counter)[] {
  const records = new Counter({
    name: `${METRIC_PREFIX}database_records_total`,
    help: 'Records in the usage database since its creation. 0 until the sidecar has counted them after its start.',
    labelNames: ['mood'],
    registers: [],
    collect() {
      this.reset();
      for (const mood of TOTALS_MOODS) this.inc({ mood }, totals().records[mood]);
    },
  });
  return [
    records,
    counter(
      'database_relayed_bytes_total',
      'Sum of the bytes in all usage records. 0 until the sidecar has summed them after its start.',
      () => totals().bytes,
    ),
    gauge('database_up', '1 if the usage database can be read, else 0.', () => (checks.database.ok ? 1 : 0)),
    gauge(
      'database_size_bytes',
      'Size of the usage database including its write-ahead log; 0 if there is none.',
      databaseBytes,
    ),
  ];
}

function createSnapshotMetrics({
  snapshots,
  snapshotCounts,
  snapshotIntervalMs,
}: SidecarMetricsSource): (Gauge | Counter)[] {
  const newest = (): Snapshot | undefined => snapshots()[0];
  const timeMs = (): number => Date.parse(newest()?.time ?? '1970-01-01');
  const ageSeconds = (): number => {
    if (newest() === undefined) return performance.now() / 1000;
    // Never negative, even after the clock was set back.
    return Math.max(0, Date.now() - timeMs()) / 1000;
  };
  return [
    gauge('snapshots', 'Existing snapshots of the usage database.', () => snapshots().length),
    gauge(
      'snapshot_timestamp_seconds',
      'Time of the newest snapshot, in seconds since the epoch; 0 if there is none.',
      () => timeMs() / 1000,
    ),
    gauge(
      'snapshot_age_seconds',
      'Age of the newest snapshot; if there is none, time since the start of the sidecar.',
      ageSeconds,
    ),
    gauge('snapshot_size_bytes', 'Size of the newest snapshot.', () => newest()?.bytes ?? 0),
    gauge('snapshot_records', 'Usage records in the newest snapshot.', () => newest()?.rows ?? 0),
    gauge(
      'snapshot_interval_seconds',
      'Time between two snapshots: SIDECAR_SNAPSHOT_EVERY.',
      () => snapshotIntervalMs / 1000,
    ),
    counter(
      'snapshots_taken_total',
      'Snapshots taken since the start of the sidecar.',
      () => snapshotCounts().taken,
    ),
    counter(
      'snapshot_failures_total',
      'Failed attempts to take a snapshot since the start of the sidecar.',
      () => snapshotCounts().failed,
    ),
  ];
}

function createCheckMetric({ checks }: SidecarMetricsSource): Gauge {
  return new Gauge({
    name: `${METRIC_PREFIX}check_ok`,
    help: '1 if the last run of the check passed, else 0. Checks: relay, transfer, snapshot, database.',
    labelNames: ['check'],
    registers: [],
    collect() {
      for (const [check, { ok }] of Object.entries(checks)) this.set({ check }, ok ? 1 : 0);
    },
  });
}

function gauge(name: string, help: string, read: () => number): Gauge {
  return new Gauge({
    name: METRIC_PREFIX + name,
    help,
    registers: [],
    collect() {
      this.set(read());
    },
  });
}

/** @param read the value never decreases, unless the counted object was replaced */
function counter(name: string, help: string, read: () => number): Counter {
  return new Counter({
    name: METRIC_PREFIX + name,
    help,
    registers: [],
    collect() {
      this.reset();
      this.inc(read());
    },
  });
}
