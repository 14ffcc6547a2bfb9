import { readFileSync, readdirSync, statSync } from 'node:fs';
import { PerformanceObserver, constants } from 'node:perf_hooks';
import { getHeapSpaceStatistics } from 'node:v8';
import Counter from 'prom-client/lib/counter.js';
import Gauge from 'prom-client/lib/gauge.js';
import Histogram from 'prom-client/lib/histogram.js';
import type Registry from 'prom-client/lib/registry.js';

import { addEventLoopLag } from './event-loop-lag.ts';
import { NODE_VERSION, VERSION } from './version.ts';

/** Prefix of the metric names of both programs, except those of the process. */
export const METRIC_PREFIX = 'transit_relay_';

const FD_DIRECTORY = '/proc/self/fd';

const isLinux = process.platform === 'linux';

const GC_KINDS: ReadonlyMap<number, string> = new Map([
  [constants.NODE_PERFORMANCE_GC_MINOR, 'minor'],
  [constants.NODE_PERFORMANCE_GC_MAJOR, 'major'],
  [constants.NODE_PERFORMANCE_GC_INCREMENTAL, 'incremental'],
  [constants.NODE_PERFORMANCE_GC_WEAKCB, 'weakcb'],
]);

/** Upper bounds in seconds: from not noticeable to noticeable by every client. */
const GC_BUCKETS_SECONDS = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5];

/** Node.js's names of operations in progress. Other active resources are handles or timers. */
const ACTIVE_REQUEST = /Req|(?:Connect|Write|Shutdown|Send|Query)Wrap$/u;
const ACTIVE_TIMER = /^(?:Timeout|Immediate)$/u;

/**
 * Adds the metrics of the process under the names that all Node.js programs use (`process_…`, `nodejs_…`), so that
 * ready-made dashboards show them, and the build information of this program. It cannot be stopped.
 *
 * Names and values are those of prom-client's default metrics. Loading those takes memory, they list all
 * connections four times per scrape, and their event loop histogram wakes an idle process 100 times per second.
 *
 * @param prefix of the build information; begins with `METRIC_PREFIX`
 */
export function collectProcessMetrics(registry: Registry, prefix: string): void {
  addCpuTimes(registry);
  const startTime = Math.round(Date.now() / 1000 - process.uptime());
  addGauge(
    registry,
    'process_start_time_seconds',
    'Start time of the process since unix epoch in seconds.',
    () => startTime,
  );
  addProcessMemory(registry);
  const maxFds = readMaxFds();
  if (maxFds !== null)
    addGauge(registry, 'process_max_fds', 'Maximum number of open file descriptors.', () => maxFds);
  addHeapSizes(registry);
  addHeapSpaces(registry);
  if (isLinux) addGauge(registry, 'process_open_fds', 'Number of open file descriptors.', countOpenFds);
  addActiveResources(registry);
  addEventLoopLag(registry);
  observeGarbageCollection(registry);
  addVersions(registry, prefix);
}

/** @param read called at each scrape; the values of a scrape are read in the order of registration */
function addGauge(registry: Registry, name: string, help: string, read: () => number): void {
  const gauge = new Gauge({
    name,
    help,
    registers: [],
    collect() {
      this.set(read());
    },
  });
  registry.registerMetric(gauge);
}

/** Starts at 0: the time before is that of the start. */
function addCpuTimes(registry: Registry): void {
  const start = process.cpuUsage();
  let used = start;
  const add = (name: string, help: string, read: () => number): void => {
    const counter = new Counter({
      name: `process_cpu_${name}`,
      help,
      registers: [],
      collect() {
        this.reset();
        this.inc(read() / 1e6);
      },
    });
    registry.registerMetric(counter);
  };
  // All have the values of one moment, which the first one reads.
  add('user_seconds_total', 'Total user CPU time spent in seconds.', () => {
    used = process.cpuUsage(start);
    return used.user;
  });
  add('system_seconds_total', 'Total system CPU time spent in seconds.', () => used.system);
  add('seconds_total', 'Total user and system CPU time spent in seconds.', () => used.user + used.system);
}

function addProcessMemory(registry: Registry): void {
  const resident = 'process_resident_memory_bytes';
  if (!isLinux) {
    addGauge(registry, resident, 'Resident memory size in bytes.', () => process.memoryUsage.rss());
    return;
  }
  let status = '';
  const read = (name: string): number =>
    1024 * Number(new RegExp(`^${name}:\\s*(\\d+) kB$`, 'mu').exec(status)?.[1] ?? 0);
  addGauge(registry, resident, 'Resident memory size in bytes.', () => {
    status = readProcFile('status') ?? status;
    return read('VmRSS');
  });
  addGauge(registry, 'process_virtual_memory_bytes', 'Virtual memory size in bytes.', () => read('VmSize'));
  addGauge(registry, 'process_heap_bytes', 'Process heap size in bytes.', () => read('VmData'));
}

function addHeapSizes(registry: Registry): void {
  let usage: NodeJS.MemoryUsage | null = null;
  addGauge(registry, 'nodejs_heap_size_total_bytes', 'Process heap size from Node.js in bytes.', () => {
    usage = process.memoryUsage();
    return usage.heapTotal;
  });
  addGauge(
    registry,
    'nodejs_heap_size_used_bytes',
    'Process heap size used from Node.js in bytes.',
    () => usage?.heapUsed ?? 0,
  );
  addGauge(
    registry,
    'nodejs_external_memory_bytes',
    'Node.js external memory size in bytes.',
    () => usage?.external ?? 0,
  );
}

function addHeapSpaces(registry: Registry): void {
  const create = (what: 'total' | 'used' | 'available', collect: () => void): Gauge<'space'> => {
    const gauge = new Gauge({
      name: `nodejs_heap_space_size_${what}_bytes`,
      help: `Process heap space size ${what} from Node.js in bytes.`,
      labelNames: ['space'],
      registers: [registry],
      collect,
    });
    return gauge;
  };
  // The first one reads the values of all.
  const total = create('total', () => {
    for (const statistics of getHeapSpaceStatistics()) {
      const space = { space: statistics.space_name.replace(/_space$/u, '') };
      total.set(space, statistics.space_size);
      used.set(space, statistics.space_used_size);
      available.set(space, statistics.space_available_size);
    }
  });
  const used = create('used', () => undefined);
  const available = create('available', () => undefined);
}

/** Takes 0.15 µs per open connection, because Node.js lists them. */
function addActiveResources(registry: Registry): void {
  let requests = 0;
  addGauge(registry, 'nodejs_active_handles_total', 'Total number of active handles.', () => {
    let handles = 0;
    requests = 0;
    for (const name of process.getActiveResourcesInfo()) {
      // Nearly all are connections, and the patterns are slower.
      if (name === 'TCPSocketWrap') handles += 1;
      else if (ACTIVE_REQUEST.test(name)) requests += 1;
      else if (!ACTIVE_TIMER.test(name)) handles += 1;
    }
    return handles;
  });
  addGauge(registry, 'nodejs_active_requests_total', 'Total number of active requests.', () => requests);
}

function readMaxFds(): number | null {
  const limit = /^Max open files +(\d+)/mu.exec(readProcFile('limits') ?? '')?.[1];
  return limit === undefined ? null : Number(limit);
}

/** Null without /proc, or if there are no file descriptors left. */
function readProcFile(name: string): string | null {
  try {
    return readFileSync(`/proc/self/${name}`, 'utf8');
  } catch {
    return null;
  }
}

/**
 * On Linux 6.2 and later, without listing the directory, which would block the event loop for 18 ms with
 * 18,000 entries.
 */
function countOpenFds(): number {
  const size = statSync(FD_DIRECTORY, { throwIfNoEntry: false })?.size ?? 0;
  if (size > 0) return size;
  try {
    // A listing has an entry for itself.
    return readdirSync(FD_DIRECTORY).length - 1;
  } catch {
    // Without /proc, or if there are no file descriptors left. The other metrics matter then.
    return 0;
  }
}

/**
 * The metric of prom-client counts one of each batch of collections, and lacks the kinds that have not
 * occurred yet.
 */
function observeGarbageCollection(registry: Registry): void {
  const durations = new Histogram({
    name: 'nodejs_gc_duration_seconds',
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

function addVersions(registry: Registry, prefix: string): void {
  const [major = '', minor = '', patch = ''] = NODE_VERSION.split('.');
  addInfo(registry, 'nodejs_version_info', 'Node.js version info.', {
    version: process.version,
    major,
    minor,
    patch,
  });
  addInfo(
    registry,
    `${prefix}build_info`,
    'Always 1; labels are the versions of this program and of Node.js.',
    { version: VERSION, node_version: NODE_VERSION },
  );
}

/** A gauge that is always 1. The values are in its labels. */
function addInfo(
  registry: Registry,
  name: string,
  help: string,
  labels: Readonly<Record<string, string>>,
): void {
  new Gauge({ name, help, labelNames: Object.keys(labels), registers: [registry] }).set({ ...labels }, 1);
}
