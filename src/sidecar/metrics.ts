import { setTimeout as sleep } from 'node:timers/promises';
import { Counter, Gauge, Registry } from 'prom-client';
import { collectProcessMetrics } from '../process/process-metrics.ts';
import type { Snapshot } from './api.ts';
import type { CachedCheck } from './cached-check.ts';
import { TOTALS_MOODS } from './usage/usage-totals.ts';
import type { RecordTotals } from './usage/usage-totals.ts';

const PREFIX = 'transit_relay_';

/** Ahead of what tells of this process. */
const PROCESS_PREFIX = `${PREFIX}sidecar_`;

/** A scrape waits for answers of checks no longer than this, in milliseconds; a relay that hangs is known in 1.8 s. */
const CHECK_TIMEOUT_MS = 2000;

export const CHECK_NAMES = ['relay', 'transfer', 'snapshot', 'database'] as const;

/** What the metrics tell of; each is asked at every scrape, and answers at once. */
export interface SidecarMetricsSource {
  readonly checks: Readonly<Record<(typeof CHECK_NAMES)[number], CachedCheck>>;
  readonly totals: () => RecordTotals;
  readonly databaseBytes: () => number;
  /** Newest first. */
  readonly snapshots: () => readonly Snapshot[];
  readonly snapshotCounts: () => { readonly taken: number; readonly failed: number };
  /** From one snapshot to the next, in milliseconds. */
  readonly snapshotIntervalMs: number;
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
    ])
      this.#registry.registerMetric(metric);
    collectProcessMetrics(this.#registry, PROCESS_PREFIX);
  }

  /** Of what `text` gives. */
  get contentType(): string {
    return this.#registry.contentType;
  }

  /** All series, as Prometheus reads them. Whoever asks meanwhile gets the same, so that a crowd costs no more than one. */
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
    // What is not there in time is told as it was known before, and will be there for a later scrape.
    await Promise.race([Promise.all(this.#checks.map((check) => check.refresh())), waited]);
    enough.abort();
    return this.#registry.metrics();
  }
}

function createDatabaseMetrics({ totals, databaseBytes, checks }: SidecarMetricsSource): (Gauge | Counter)[] {
  const records = new Counter({
    name: `${PREFIX}database_records_total`,
    help: 'Records in the usage database since it was begun. 0 until they have been counted after the start of the sidecar.',
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
      'Bytes relayed by the records in the usage database. 0 until they have been summed after the start of the sidecar.',
      () => totals().bytes,
    ),
    gauge('database_up', '1 where the usage database can be read, else 0.', () =>
      checks.database.ok ? 1 : 0,
    ),
    gauge(
      'database_size_bytes',
      'Size of the usage database with its log; 0 where there is none.',
      databaseBytes,
    ),
  ];
}

function createSnapshotMetrics({
  snapshots,
  snapshotCounts,
  snapshotIntervalMs: snapshotEveryMs,
}: SidecarMetricsSource): (Gauge | Counter)[] {
  const newest = (): Snapshot | undefined => snapshots()[0];
  const ageSeconds = (): number => {
    const time = newest()?.time;
    // Without one: for as long as there might have been one. A clock that was set back makes none of the future.
    if (time === undefined) return performance.now() / 1000;
    return Math.max(0, (Date.now() - Date.parse(time)) / 1000);
  };
  return [
    gauge('snapshots', 'Snapshots of the usage database that there are.', () => snapshots().length),
    gauge(
      'snapshot_timestamp_seconds',
      'When the newest snapshot was taken, in seconds since the epoch; 0 where there is none.',
      () => Date.parse(newest()?.time ?? new Date(0).toISOString()) / 1000,
    ),
    gauge(
      'snapshot_age_seconds',
      'Age of the newest snapshot; where there is none, time since the start of the sidecar.',
      ageSeconds,
    ),
    gauge('snapshot_size_bytes', 'Size of the newest snapshot.', () => newest()?.bytes ?? 0),
    gauge('snapshot_records', 'Usage records in the newest snapshot.', () => newest()?.rows ?? 0),
    gauge(
      'snapshot_interval_seconds',
      'From one snapshot to the next: SIDECAR_SNAPSHOT_EVERY.',
      () => snapshotEveryMs / 1000,
    ),
    counter(
      'snapshots_taken_total',
      'Snapshots taken since the start of the sidecar.',
      () => snapshotCounts().taken,
    ),
    counter(
      'snapshot_failures_total',
      'Attempts to take a snapshot that failed since the start of the sidecar.',
      () => snapshotCounts().failed,
    ),
  ];
}

function createCheckMetric({ checks }: SidecarMetricsSource): Gauge {
  return new Gauge({
    name: `${PREFIX}check_ok`,
    help: '1 where the last check found all well, else 0. What is checked: relay, transfer, snapshot, database.',
    labelNames: ['check'],
    registers: [],
    collect() {
      for (const check of CHECK_NAMES) this.set({ check }, checks[check].ok ? 1 : 0);
    },
  });
}

function gauge(name: string, help: string, read: () => number): Gauge {
  return new Gauge({
    name: PREFIX + name,
    help,
    registers: [],
    collect() {
      this.set(read());
    },
  });
}

/** @param read never gives less than before, but when what is counted has begun anew */
function counter(name: string, help: string, read: () => number): Counter {
  return new Counter({
    name: PREFIX + name,
    help,
    registers: [],
    collect() {
      this.reset();
      this.inc(read());
    },
  });
}
