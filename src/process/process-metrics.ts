import { statSync } from 'node:fs';
import { PerformanceObserver, constants } from 'node:perf_hooks';
import { Gauge, Histogram, Registry, collectDefaultMetrics } from 'prom-client';

import packageJson from '../../package.json' with { type: 'json' };

/** Prefix of all metric names of both programs. */
export const METRIC_PREFIX = 'transit_relay_';

/**
 * Included default metrics of prom-client. Metrics that set others come first. The missing ones cost time per
 * open connection (active handles, requests and resources), or are replaced by better ones.
 */
const INCLUDED_METRICS = [
  'process_cpu_user_seconds_total',
  'process_cpu_system_seconds_total',
  'process_cpu_seconds_total',
  'process_start_time_seconds',
  'process_resident_memory_bytes',
  'process_virtual_memory_bytes',
  'process_heap_bytes',
  'process_max_fds',
  'nodejs_heap_size_total_bytes',
  'nodejs_heap_size_used_bytes',
  'nodejs_external_memory_bytes',
] as const;

/**
 * Interval at which prom-client samples the event loop, in milliseconds: a day. The default would wake an idle
 * process 100 times per second.
 */
const EVENT_LOOP_PRECISION_MS = 86_400_000;

const FD_DIRECTORY = '/proc/self/fd';

const GC_KINDS: ReadonlyMap<number, string> = new Map([
  [constants.NODE_PERFORMANCE_GC_MINOR, 'minor'],
  [constants.NODE_PERFORMANCE_GC_MAJOR, 'major'],
  [constants.NODE_PERFORMANCE_GC_INCREMENTAL, 'incremental'],
  [constants.NODE_PERFORMANCE_GC_WEAKCB, 'weakcb'],
]);

/** Upper bounds in seconds: from not noticeable to noticeable by every client. */
const GC_BUCKETS_SECONDS = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5];

/**
 * Adds the metrics of the process: CPU, memory, file descriptors, garbage collection and version. It cannot
 * be stopped.
 *
 * @param prefix of each name; begins with `METRIC_PREFIX`
 */
export function collectProcessMetrics(registry: Registry, prefix: string): void {
  const all = new Registry();
  collectDefaultMetrics({
    register: all,
    prefix,
    eventLoopMonitoringPrecision: EVENT_LOOP_PRECISION_MS,
  });
  for (const name of INCLUDED_METRICS) {
    const metric = all.getSingleMetric(prefix + name);
    // Some exist on Linux only.
    if (metric !== undefined) registry.registerMetric(metric);
  }
  const openFds = `${prefix}process_open_fds`;
  const listed = all.getSingleMetric(openFds);
  if (openFdCount() > 0) registry.registerMetric(createOpenFdGauge(openFds));
  else if (listed !== undefined) registry.registerMetric(listed);
  observeGarbageCollection(registry, prefix);
  addBuildInfo(registry, prefix);
}

/**
 * On Linux 6.2 and later, without listing the directory, which would block the event loop for 18 ms with
 * 18,000 entries. Otherwise 0.
 */
function openFdCount(): number {
  return statSync(FD_DIRECTORY, { throwIfNoEntry: false })?.size ?? 0;
}

function createOpenFdGauge(name: string): Gauge {
  return new Gauge({
    name,
    help: 'Number of open file descriptors.',
    registers: [],
    collect() {
      this.set(openFdCount());
    },
  });
}

/**
 * The metric of prom-client counts one of each batch of collections, and lacks the kinds that have not
 * occurred yet.
 */
function observeGarbageCollection(registry: Registry, prefix: string): void {
  const durations = new Histogram({
    name: `${prefix}nodejs_gc_duration_seconds`,
    help: 'Duration of garbage collections by kind: minor, major, incremental or weakcb.',
    labelNames: ['kind'],
    buckets: GC_BUCKETS_SECONDS,
    registers: [registry],
  });
  for (const kind of GC_KINDS.values()) durations.zero({ kind });
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) {
      const kind = GC_KINDS.get(kindOf(entry));
      if (kind !== undefined) durations.observe({ kind }, entry.duration / 1000);
    }
  }).observe({ type: 'gc' });
}

/** The types of Node.js lack the details of an entry. */
function kindOf(entry: object): number {
  const detail = 'detail' in entry ? entry.detail : null;
  const isKnown = typeof detail === 'object' && detail !== null && 'kind' in detail;
  return isKnown && typeof detail.kind === 'number' ? detail.kind : -1;
}

function addBuildInfo(registry: Registry, prefix: string): void {
  const labels = { version: packageJson.version, node_version: process.versions.node };
  new Gauge({
    name: `${prefix}build_info`,
    help: 'Always 1; labels are the versions of this program and of Node.js.',
    labelNames: ['version', 'node_version'],
    registers: [registry],
  }).set(labels, 1);
}
