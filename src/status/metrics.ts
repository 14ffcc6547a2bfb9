import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import { collectProcessMetrics } from '../process/process-metrics.ts';
import type { MetricValues } from './metric-values.ts';

/** In front of every name. */
export const METRIC_PREFIX = 'transit_relay_';

/** Of the event loop's delay in seconds: from what nobody notices to what makes people ask whether the relay is alive. */
const DELAY_BUCKETS_SECONDS = [0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10];

const NO_LINK_FAILURES = {
  version: 0,
  secret: 0,
  not_a_relay: 0,
  tls: 0,
  address: 0,
  unreachable: 0,
  timeout: 0,
};

/** Values of a metric's labels, in the order of its label names, and the figure. */
type Series = readonly [labels: readonly string[], value: number];

/** A metric that is one figure or several of `RelayFigures`. */
interface MetricDefinition {
  readonly name: string;
  readonly help: string;
  readonly labels?: readonly string[];
  readonly series: (figures: MetricValues) => number | readonly Series[];
}

const COUNTERS: readonly MetricDefinition[] = [
  {
    name: 'connections_accepted_total',
    help: 'Clients that were let in, by transport. A client counts when it has named its token, or has failed to.',
    labels: ['transport'],
    series: ({ accepted }) => oneLabel(accepted),
  },
  {
    name: 'connections_rejected_total',
    help: 'Clients that were not let in, by reason. They count as nothing else.',
    labels: ['reason'],
    series: ({ rejected: refused }) => oneLabel(refused),
  },
  {
    name: 'connections_evicted_total',
    help: 'Connections closed to make room for clients from other networks, by state.',
    labels: ['state'],
    series: ({ evicted }) => oneLabel(evicted),
  },
  {
    name: 'connections_ended_total',
    help: 'Clients that were let in and have ended, by mood and transport; both clients of a pair.',
    labels: ['mood', 'transport'],
    series: ({ ended }) => twoLabels(ended),
  },
  {
    name: 'connections_forwarded_total',
    help: 'Clients that were let in, passed on to another relay of the group and have ended. It counts how.',
    labels: ['transport'],
    series: ({ forwardedTotal: forwarded }) => oneLabel(forwarded),
  },
  {
    name: 'cluster_commands_total',
    help: 'Commands sent to the coordinator of the group.',
    series: ({ cluster }) => cluster?.commands ?? 0,
  },
  {
    name: 'cluster_leases_lost_total',
    help: 'Tokens that were thought to be of this relay and turned out to be of another.',
    series: ({ cluster }) => cluster?.leasesLost ?? 0,
  },
  {
    name: 'cluster_secret_mismatches_total',
    help: 'Looks at the coordinator that found a relay with another secret.',
    series: ({ cluster }) => cluster?.secretMismatches ?? 0,
  },
  {
    name: 'cluster_link_attempts_total',
    help: 'Calls to other relays of the group, one for each client that is passed on.',
    series: ({ cluster }) => cluster?.linkAttempts ?? 0,
  },
  {
    name: 'cluster_link_failures_total',
    help: 'Calls to other relays that failed, by kind; their clients are looked after.',
    labels: ['kind'],
    series: ({ cluster }) => oneLabel(cluster?.linkFailures ?? NO_LINK_FAILURES),
  },
  {
    name: 'handshake_failures_total',
    help: 'Connections that never became a client that waits or is paired, by kind of failure.',
    labels: ['kind'],
    series: ({ handshakeFailures }) => oneLabel(handshakeFailures),
  },
  { name: 'pairs_made_total', help: 'Pairs made.', series: ({ pairs }) => pairs },
  {
    name: 'relayed_bytes_total',
    help: 'Bytes relayed, by the transport they came from and the one they went to. Counted as they flow.',
    labels: ['from', 'to'],
    series: ({ relayedBytes }) => twoLabels(relayedBytes),
  },
  {
    name: 'paused_seconds_total',
    help: 'Seconds for which directions of pairs were not read, all of them together: their receiver did not keep up, or a rate limit held them.',
    labels: ['reason'],
    series: ({ pausedSeconds }) => [
      [['backpressure'], pausedSeconds.backpressure],
      [['rate_limit'], pausedSeconds.rateLimit],
    ],
  },
  {
    name: 'usage_records_written_total',
    help: 'Usage records that were written, by output.',
    labels: ['output'],
    series: ({ records }) => [
      [['database'], records.database.written],
      [['log'], records.log.written],
    ],
  },
  {
    name: 'usage_records_dropped_total',
    help: 'Usage records that are lost, by output.',
    labels: ['output'],
    series: ({ records }) => [
      [['database'], records.database.dropped],
      [['log'], records.log.dropped],
    ],
  },
  {
    name: 'usage_records_suppressed_total',
    help: 'Usage records beyond their rate limit that were not written, by mood.',
    labels: ['mood'],
    series: ({ suppressedRecords }) => oneLabel(suppressedRecords),
  },
];

const GAUGES: readonly MetricDefinition[] = [
  {
    name: 'connections_open',
    help: 'Open connections that were not refused, whatever they do.',
    series: ({ connections }) => connections,
  },
  {
    name: 'connections_limit',
    help: 'Connection limit.',
    series: ({ maxConnections }) => maxConnections,
  },
  {
    name: 'connections_waiting',
    help: 'Clients that wait for a partner.',
    series: ({ waiting }) => waiting,
  },
  { name: 'connections_paired', help: 'Clients in pairs; two a pair.', series: ({ paired }) => paired },
  {
    name: 'connections_forwarding',
    help: 'Clients whose pairs are at another relay of the group.',
    series: ({ forwardedClients }) => forwardedClients,
  },
  {
    name: 'cluster_member',
    help: '1: this relay is one of a group, whether the coordinator answers or not.',
    series: ({ cluster }) => Number(cluster !== null),
  },
  {
    name: 'cluster_up',
    help: '1: the coordinator of the group answers. 0 too where there is no group.',
    series: ({ cluster }) => Number(cluster?.isUp ?? false),
  },
  {
    name: 'cluster_leases',
    help: 'Tokens that are of this relay, as the coordinator knows it.',
    series: ({ cluster }) => cluster?.leases ?? 0,
  },
  {
    name: 'buffered_bytes',
    help: 'Bytes held in this process for receivers that do not keep up.',
    series: ({ bufferedBytes }) => bufferedBytes,
  },
  {
    name: 'quota_used_bytes',
    help: 'What this period has used of the quota. 0 where there is none.',
    series: ({ quota }) => quota?.usedBytes ?? 0,
  },
  {
    name: 'quota_limit_bytes',
    help: 'The quota. 0: there is none.',
    series: ({ quota }) => quota?.limitBytes ?? 0,
  },
  {
    name: 'quota_reset_timestamp_seconds',
    help: 'When the next period of the quota begins, in seconds since the epoch. 0: there is no quota.',
    series: ({ quota }) => (quota?.resetsAtMs ?? 0) / 1000,
  },
  {
    name: 'usage_records_queued',
    help: 'Usage records that wait to be written.',
    labels: ['output'],
    series: ({ queuedRecords }) => [[['database'], queuedRecords]],
  },
  { name: 'ready', help: '1: clients are taken in.', series: ({ ready }) => Number(ready) },
  {
    name: 'draining',
    help: '1: the relay is stopping, and lets pairs finish.',
    series: ({ draining }) => Number(draining),
  },
];

/** What the relay tells Prometheus, but for the histograms of its records. */
export class MetricsRegistry {
  readonly #registry = new Registry();
  readonly #counters: readonly (readonly [MetricDefinition, Counter])[];
  readonly #gauges: readonly (readonly [MetricDefinition, Gauge])[];
  readonly #delay: Histogram;

  constructor() {
    const registers = [this.#registry];
    const optionsOf = ({ name, help, labels = [] }: MetricDefinition) => ({
      name: METRIC_PREFIX + name,
      help,
      labelNames: [...labels],
      registers,
    });
    this.#counters = COUNTERS.map((metric) => [metric, new Counter(optionsOf(metric))]);
    this.#gauges = GAUGES.map((metric) => [metric, new Gauge(optionsOf(metric))]);
    this.#delay = new Histogram({
      name: `${METRIC_PREFIX}event_loop_delay_seconds`,
      help: 'How much later than asked the event loop comes to a timer, looked at ten times a second.',
      buckets: DELAY_BUCKETS_SECONDS,
      registers,
    });
    collectProcessMetrics(this.#registry, METRIC_PREFIX);
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  observeDelay(seconds: number): void {
    this.#delay.observe(seconds);
  }

  /** In the text format of Prometheus. */
  text(figures: MetricValues): Promise<string> {
    for (const [metric, counter] of this.#counters) {
      counter.reset();
      for (const [labels, value] of seriesOf(metric, figures)) counter.labels(...labels).inc(value);
    }
    for (const [metric, gauge] of this.#gauges) {
      for (const [labels, value] of seriesOf(metric, figures)) gauge.labels(...labels).set(value);
    }
    return this.#registry.metrics();
  }
}

function seriesOf({ series }: MetricDefinition, figures: MetricValues): readonly Series[] {
  const found = series(figures);
  return typeof found === 'number' ? [[[], found]] : found;
}

function oneLabel(figures: Readonly<Record<string, number>>): Series[] {
  return Object.entries(figures).map(([label, value]) => [[label], value]);
}

function twoLabels(figures: Readonly<Record<string, Readonly<Record<string, number>>>>): Series[] {
  return Object.entries(figures).flatMap(([first, inner]) =>
    oneLabel(inner).map(([[second = ''], value]): Series => [[first, second], value]),
  );
}
