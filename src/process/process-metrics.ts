import { statSync } from 'node:fs';
import { PerformanceObserver, constants } from 'node:perf_hooks';
import { Gauge, Histogram, Registry, collectDefaultMetrics } from 'prom-client';

import packageJson from '../../package.json' with { type: 'json' };

/**
 * What is taken of prom-client's own, those first that others of them get their values from. What is left out costs
 * something for every open connection (active handles, requests and resources), or says what is said better elsewhere.
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
 * prom-client watches the event loop with a timer that would wake an idle process 100 times a second, also where
 * nobody wants to know. In milliseconds: a day.
 */
const EVENT_LOOP_PRECISION_MS = 86_400_000;

const FD_DIRECTORY = '/proc/self/fd';

const GC_KINDS: ReadonlyMap<number, string> = new Map([
  [constants.NODE_PERFORMANCE_GC_MINOR, 'minor'],
  [constants.NODE_PERFORMANCE_GC_MAJOR, 'major'],
  [constants.NODE_PERFORMANCE_GC_INCREMENTAL, 'incremental'],
  [constants.NODE_PERFORMANCE_GC_WEAKCB, 'weakcb'],
]);

/** Upper bounds in seconds: from what is not noticed to what every client notices. */
const GC_BUCKETS_SECONDS = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5];

/**
 * Adds what every program tells of its own process: processor, memory, descriptors, garbage collection, and which
 * version it is. It goes on for as long as the process runs.
 *
 * @param prefix goes in front of each name, as `transit_relay_`
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
    // Some are there on Linux only.
    if (metric !== undefined) registry.registerMetric(metric);
  }
  const openFiles = `${prefix}process_open_fds`;
  const listed = all.getSingleMetric(openFiles);
  if (openFdCount() > 0) registry.registerMetric(createOpenFdGauge(openFiles));
  else if (listed !== undefined) registry.registerMetric(listed);
  observeGarbageCollection(registry, prefix);
  addBuildInfo(registry, prefix);
}

/** Linux 6.2 and later say so without a list, which would keep the event loop for 18 ms where 18,000 are open. Else 0. */
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

/** prom-client's own takes one of each batch of collections, and shows a kind only when it has come. */
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

/** Node's types know nothing of what an entry says in detail. */
function kindOf(entry: object): number {
  const detail = 'detail' in entry ? entry.detail : null;
  const isKnown = typeof detail === 'object' && detail !== null && 'kind' in detail;
  return isKnown && typeof detail.kind === 'number' ? detail.kind : -1;
}

function addBuildInfo(registry: Registry, prefix: string): void {
  const labels = { version: packageJson.version, node_version: process.versions.node };
  new Gauge({
    name: `${prefix}build_info`,
    help: 'Always 1; its labels say which version of this program runs, and which of Node.',
    labelNames: ['version', 'node_version'],
    registers: [registry],
  }).set(labels, 1);
}
