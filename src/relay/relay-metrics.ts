import Counter from 'prom-client/lib/counter.js';
import Gauge from 'prom-client/lib/gauge.js';
import Histogram from 'prom-client/lib/histogram.js';
import Registry from 'prom-client/lib/registry.js';
import { EventLoopLagSummary } from '../process/event-loop-lag.ts';
import { METRIC_PREFIX, collectProcessMetrics } from '../process/process-metrics.ts';
import type { MemoryGuard } from '../limits/memory-guard.ts';
import type { Quota } from '../limits/quota.ts';
import type { AdmissionControl } from '../sessions/admission-control.ts';
import type { SessionManager } from '../sessions/session-manager.ts';
import type { SessionTotals } from '../sessions/session-stats.ts';
import { RecordHistograms } from '../status/histograms.ts';
import { EventLoopDelay } from '../status/samplers.ts';
import type { UsageRecorder } from '../usage/record.ts';
import type { AcmeService } from './acme.ts';
import type { ClusterService } from './cluster.ts';
import type { RelayUsage } from './relay-usage.ts';
import type { StatusReport } from './status-report.ts';

/** Event loop delay in seconds: from unnoticeable to so long that people ask whether the relay is alive. */
const DELAY_BUCKETS_SECONDS = [0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10];

const LINK_FAILURES = [
  'version',
  'secret',
  'not a relay',
  'tls',
  'address',
  'unreachable',
  'timeout',
] as const;

/** The parts of the relay that metrics are read from. Parts that open later, or are not configured, are null. */
interface RelayMetricsDependencies {
  readonly sessions: SessionManager;
  readonly admission: AdmissionControl;
  readonly recorder: UsageRecorder;
  readonly usage: RelayUsage;
  readonly memoryGuard: MemoryGuard | null;
  readonly status: StatusReport;
  readonly quota: () => Quota | null;
  readonly acme: () => AcmeService | null;
  readonly cluster: () => ClusterService['router'] | null;
  readonly isListening: () => boolean;
}

/** State of the relay during one scrape. Totals are read once: they are summed over all running pairs. */
interface MetricSource extends RelayMetricsDependencies {
  readonly totals: SessionTotals;
}

/** Label values, in the order of the label names, and the value of the series. */
type Series = readonly [labels: readonly string[], value: number];

interface MetricDefinition {
  readonly type: 'counter' | 'gauge';
  readonly name: string;
  readonly help: string;
  readonly labels?: readonly string[];
  readonly read: (source: MetricSource) => number | readonly Series[];
}

/**
 * All metrics except histograms. Counters start at 0 with the process and never decrease. Requests to the
 * status port are not counted. Health probes are only counted in `connections_open`, while they run.
 */
const METRICS: readonly MetricDefinition[] = [
  {
    type: 'counter',
    name: 'connections_accepted_total',
    help: 'Accepted clients, by transport. A client counts once it has sent its token, or has failed to.',
    labels: ['transport'],
    read: ({ totals }) => byLabel(totals.accepted),
  },
  {
    type: 'counter',
    name: 'connections_rejected_total',
    help: 'Rejected clients, by reason. They count in no other metric.',
    labels: ['reason'],
    read: ({ admission }) => byLabel(admission.rejected),
  },
  {
    type: 'counter',
    name: 'connections_evicted_total',
    help: 'Connections closed in favour of clients from other networks, by state.',
    labels: ['state'],
    read: ({ admission }) => byLabel(admission.evicted),
  },
  {
    type: 'counter',
    name: 'connections_ended_total',
    help: 'Accepted clients that have disconnected, by mood and transport; both clients of a pair count.',
    labels: ['mood', 'transport'],
    read: ({ totals }) => byTwoLabels(totals.ended),
  },
  {
    type: 'counter',
    name: 'connections_forwarded_total',
    help: 'Accepted clients that were forwarded to another relay and have closed. The owner relay counts their outcome.',
    labels: ['transport'],
    read: ({ totals }) => byLabel(totals.forwarded),
  },
  {
    type: 'counter',
    name: 'cluster_commands_total',
    help: 'Commands sent to the coordinator of the cluster.',
    read: ({ cluster }) => cluster()?.leases.totals.commands ?? 0,
  },
  {
    type: 'counter',
    name: 'cluster_leases_lost_total',
    help: 'Token leases that this relay lost to another relay.',
    read: ({ cluster }) => cluster()?.leases.totals.lost ?? 0,
  },
  {
    type: 'counter',
    name: 'cluster_secret_mismatches_total',
    help: 'Coordinator checks that found a relay with a different secret.',
    read: ({ cluster }) => cluster()?.leases.totals.secretMismatches ?? 0,
  },
  {
    type: 'counter',
    name: 'cluster_link_attempts_total',
    help: 'Link attempts to other relays of the cluster, one per forwarded client.',
    read: ({ cluster }) => cluster()?.linkAttempts.made ?? 0,
  },
  {
    type: 'counter',
    name: 'cluster_link_failures_total',
    help: 'Failed link attempts to other relays, by kind. Their clients are handled by this relay.',
    labels: ['kind'],
    read: ({ cluster }) =>
      LINK_FAILURES.map((kind) => [[kind.replaceAll(' ', '_')], cluster()?.linkAttempts.failed[kind] ?? 0]),
  },
  {
    type: 'counter',
    name: 'handshake_failures_total',
    help: 'Connections closed before their client waited or was paired, by kind of failure.',
    labels: ['kind'],
    read: ({ admission }) => byLabel(admission.handshakeFailures),
  },
  { type: 'counter', name: 'pairs_made_total', help: 'Pairs made.', read: ({ totals }) => totals.pairs },
  {
    type: 'counter',
    name: 'relayed_bytes_total',
    help: 'Relayed bytes, by source and destination transport, including bytes of running pairs.',
    labels: ['from', 'to'],
    read: ({ totals, recorder }) =>
      byTwoLabels(totals.relayedBytes).map(([labels, bytes]) => [labels, recorder.blurCounter(bytes)]),
  },
  {
    type: 'counter',
    name: 'stalled_pairs_ended_total',
    help: "Stalled pairs that were ended because the kernel's buffers used up the memory limit.",
    read: ({ memoryGuard }) => memoryGuard?.endedPairs ?? 0,
  },
  {
    type: 'counter',
    name: 'paused_seconds_total',
    help: 'Seconds in which directions of pairs were paused, summed over all pairs, by reason.',
    labels: ['reason'],
    read: ({ sessions }) => {
      const { backpressure, rateLimit } = sessions.clients.stallTimers;
      return byLabel({ backpressure: backpressure.seconds, rate_limit: rateLimit.seconds });
    },
  },
  {
    type: 'counter',
    name: 'usage_records_written_total',
    help: 'Written usage records, by output.',
    labels: ['output'],
    read: ({ usage: { databaseRecords, logRecords } }) =>
      byLabel({ database: databaseRecords.written, log: logRecords.written }),
  },
  {
    type: 'counter',
    name: 'usage_records_dropped_total',
    help: 'Lost usage records, by output.',
    labels: ['output'],
    read: ({ usage: { databaseRecords, logRecords } }) =>
      byLabel({ database: databaseRecords.dropped, log: logRecords.dropped }),
  },
  {
    type: 'counter',
    name: 'usage_records_suppressed_total',
    help: 'Usage records that were not written because of their rate limit, by mood.',
    labels: ['mood'],
    read: ({ usage }) => byLabel(usage.suppressed),
  },
  {
    type: 'gauge',
    name: 'connections_open',
    help: 'Open connections in any state, without rejected ones.',
    read: ({ admission }) => admission.connections,
  },
  {
    type: 'gauge',
    name: 'connections_limit',
    help: 'Connection limit.',
    read: ({ admission }) => admission.maxConnections,
  },
  {
    type: 'gauge',
    name: 'connections_waiting',
    help: 'Clients waiting for a partner.',
    read: ({ sessions }) => sessions.clients.rendezvous.waitingClients,
  },
  {
    type: 'gauge',
    name: 'connections_paired',
    help: 'Clients in pairs; two per pair.',
    read: ({ sessions }) => 2 * sessions.clients.pairs,
  },
  {
    type: 'gauge',
    name: 'connections_forwarding',
    help: 'Clients being forwarded to a pair at another relay of the cluster.',
    read: ({ sessions }) => sessions.clients.forwardedClients,
  },
  {
    type: 'gauge',
    name: 'cluster_member',
    help: '1 if this relay is part of a cluster, whether or not the coordinator answers.',
    read: ({ cluster }) => Number(cluster() !== null),
  },
  {
    type: 'gauge',
    name: 'cluster_up',
    help: '1 if the coordinator of the cluster answers. 0 without a cluster.',
    read: ({ cluster }) => Number(cluster()?.leases.isUp ?? false),
  },
  {
    type: 'gauge',
    name: 'cluster_leases',
    help: 'Token leases of this relay, as known to the coordinator.',
    read: ({ cluster }) => cluster()?.leases.acquired ?? 0,
  },
  {
    type: 'gauge',
    name: 'buffered_bytes',
    help: 'Bytes buffered in this process for slow receivers.',
    read: ({ sessions }) => sessions.bufferedBytes,
  },
  {
    type: 'gauge',
    name: 'quota_used_bytes',
    help: 'Bytes of the quota used in the current period. 0 without a quota.',
    read: ({ quota }) => quota()?.usedBytes ?? 0,
  },
  {
    type: 'gauge',
    name: 'quota_limit_bytes',
    help: 'Quota per period. 0 without a quota.',
    read: ({ quota }) => quota()?.limitBytes ?? 0,
  },
  {
    type: 'gauge',
    name: 'quota_reset_timestamp_seconds',
    help: 'Start of the next quota period, in seconds since the epoch. 0 without a quota.',
    read: ({ quota }) => (quota()?.resetsAtMs ?? 0) / 1000,
  },
  {
    type: 'gauge',
    name: 'usage_records_queued',
    help: 'Usage records waiting to be written.',
    labels: ['output'],
    read: ({ usage }) => byLabel({ database: usage.queued }),
  },
  {
    type: 'gauge',
    name: 'usage_database_size_bytes',
    help: 'Size of the usage database including its write-ahead log. 0 without a usage database.',
    read: ({ usage }) => usage.databaseDisk?.databaseBytes ?? 0,
  },
  {
    type: 'gauge',
    name: 'usage_database_free_bytes',
    help: 'Free space on the disk of the usage database. 0 without a usage database.',
    read: ({ usage }) => usage.databaseDisk?.freeBytes ?? 0,
  },
  {
    type: 'gauge',
    name: 'certificate_expiry_timestamp_seconds',
    help: 'Time at which the certificate of the listener expires, in seconds since the epoch.',
    labels: ['listener'],
    read: ({ status }) =>
      status.certificates().map(({ listener, expires }) => [[listener], Date.parse(expires) / 1000]),
  },
  {
    type: 'gauge',
    name: 'certificate_problem',
    help: '1 if the certificate of the listener has expired, or could not be reloaded or renewed.',
    labels: ['listener'],
    read: ({ status }) =>
      status.certificates().map(({ listener, problem }) => [[listener], Number(problem !== null)]),
  },
  {
    type: 'counter',
    name: 'acme_failures_total',
    help: 'Failed requests for a certificate by ACME.',
    read: ({ acme }) => acme()?.failures ?? 0,
  },
  {
    type: 'gauge',
    name: 'acme_failing',
    help: '1 if the relay gets no certificate by ACME: there is none yet, or the last request failed.',
    read: ({ status }) => Number(status.warnings().some(({ event }) => event === 'acme_failed')),
  },
  {
    type: 'gauge',
    name: 'warnings',
    help: 'Current problems that the operator should act on. /status.json lists them.',
    read: ({ status }) => status.warnings().length,
  },
  {
    type: 'gauge',
    name: 'file_descriptors_exhausted',
    help: '1 if no file descriptors are left and new clients are rejected.',
    read: ({ admission }) => Number(admission.isOutOfDescriptors),
  },
  {
    type: 'gauge',
    name: 'ready',
    help: '1 if the relay accepts clients.',
    read: ({ isListening, admission }) => Number(isListening() && !admission.isDraining),
  },
  {
    type: 'gauge',
    name: 'draining',
    help: '1 if the relay is stopping and running pairs may finish.',
    read: ({ admission }) => Number(admission.isDraining),
  },
];

/** `GET /metrics` of the relay. */
export class RelayMetrics {
  readonly #dependencies: RelayMetricsDependencies;
  readonly #registry = new Registry();
  readonly #metrics: readonly (readonly [MetricDefinition, Counter | Gauge])[];
  readonly #histograms: RecordHistograms;
  readonly #delay: EventLoopDelay;

  constructor(relay: RelayMetricsDependencies) {
    this.#dependencies = relay;
    const registers = [this.#registry];
    this.#metrics = METRICS.map((definition) => {
      const { type, name, help, labels = [] } = definition;
      const options = { name: METRIC_PREFIX + name, help, labelNames: [...labels], registers };
      return [definition, type === 'counter' ? new Counter(options) : new Gauge(options)];
    });
    const delays = new Histogram({
      name: `${METRIC_PREFIX}event_loop_delay_seconds`,
      help: 'Delay of the event loop, sampled ten times per second.',
      buckets: DELAY_BUCKETS_SECONDS,
      registers,
    });
    collectProcessMetrics(this.#registry, METRIC_PREFIX);
    const lag = new EventLoopLagSummary(this.#registry);
    this.#delay = new EventLoopDelay(
      () => performance.now(),
      (seconds) => {
        delays.observe(seconds);
        lag.observe(seconds);
      },
    );
    this.#histograms = new RecordHistograms(relay.recorder.blurSeconds, () => Date.now());
    relay.recorder.addSink(this.#histograms);
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  /** All metrics in the text format of Prometheus. */
  async render(): Promise<string> {
    const { sessions } = this.#dependencies;
    const source: MetricSource = { ...this.#dependencies, totals: sessions.clients.totals() };
    for (const [{ read }, metric] of this.#metrics) {
      const value = read(source);
      metric.reset();
      for (const [labels, figure] of typeof value === 'number' ? [[[], value] as const] : value)
        metric.labels(...labels).inc(figure);
    }
    return (await this.#registry.metrics()) + this.#histograms.render();
  }

  close(): void {
    this.#delay.close();
  }
}

function byLabel(values: Readonly<Record<string, number>>): Series[] {
  return Object.entries(values).map(([label, value]) => [[label], value]);
}

function byTwoLabels(values: Readonly<Record<string, Readonly<Record<string, number>>>>): Series[] {
  return Object.entries(values).flatMap(([first, inner]) =>
    Object.entries(inner).map(([second, value]): Series => [[first, second], value]),
  );
}
