import type { AdmissionControl } from '../sessions/admission-control.ts';
import type { SessionManager } from '../sessions/session-manager.ts';
import { EventLoopDelay } from '../status/event-loop-delay.ts';
import { RecordHistograms } from '../status/histograms.ts';
import type { MetricValues } from '../status/metric-values.ts';
import { MetricsRegistry } from '../status/metrics.ts';
import type { UsageRecorder } from '../usage/record.ts';
import type { RelayQuota } from './relay-quota.ts';
import type { RelayUsage } from './relay-usage.ts';

/** Where the figures come from. */
export interface RelayMetricsDependencies {
  readonly sessions: SessionManager;
  readonly admission: AdmissionControl;
  readonly recorder: UsageRecorder;
  readonly usage: RelayUsage;
  readonly quota: () => RelayQuota | null;
  readonly cluster: () => MetricValues['cluster'];
  readonly ready: () => boolean;
  readonly draining: () => boolean;
}

/** What the relay tells Prometheus. */
export class RelayMetrics {
  readonly #dependencies: RelayMetricsDependencies;
  readonly #registry = new MetricsRegistry();
  readonly #histograms: RecordHistograms;
  readonly #delay: EventLoopDelay;

  constructor(relay: RelayMetricsDependencies) {
    this.#dependencies = relay;
    this.#histograms = new RecordHistograms(relay.recorder.blurSeconds, () => Date.now());
    relay.recorder.addSink(this.#histograms);
    this.#delay = new EventLoopDelay(
      () => performance.now(),
      (seconds) => this.#registry.observeDelay(seconds),
    );
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  /** In the text format of Prometheus. */
  async text(): Promise<string> {
    return (await this.#registry.text(this.#values())) + this.#histograms.text();
  }

  close(): void {
    this.#delay.close();
  }

  #values(): MetricValues {
    const { sessions, admission, recorder, usage, quota, cluster, ready, draining } = this.#dependencies;
    const { clients } = sessions;
    const { accepted, ended, pairs, forwarded, relayedBytes } = clients.totals();
    const visible = (bytes: Readonly<Record<'tcp' | 'unix' | 'websocket' | 'link', number>>) => ({
      tcp: recorder.blurCounter(bytes.tcp),
      unix: recorder.blurCounter(bytes.unix),
      websocket: recorder.blurCounter(bytes.websocket),
      link: recorder.blurCounter(bytes.link),
    });
    return {
      accepted,
      ended,
      forwardedTotal: forwarded,
      forwardedClients: clients.forwardedClients,
      rejected: admission.rejected,
      evicted: admission.evicted,
      handshakeFailures: admission.handshakeFailures,
      connections: admission.connections,
      maxConnections: admission.maxConnections,
      waiting: clients.rendezvous.waitingClients,
      paired: 2 * clients.pairs,
      pairs,
      relayedBytes: {
        tcp: visible(relayedBytes.tcp),
        unix: visible(relayedBytes.unix),
        websocket: visible(relayedBytes.websocket),
        link: visible(relayedBytes.link),
      },
      bufferedBytes: sessions.bufferedBytes,
      pausedSeconds: {
        backpressure: clients.stallTimers.backpressure.seconds,
        rateLimit: clients.stallTimers.rateLimit.seconds,
      },
      quota: quota()?.metricValues() ?? null,
      records: usage.totals(),
      suppressedRecords: usage.suppressed,
      queuedRecords: usage.queued,
      ready: ready(),
      draining: draining(),
      cluster: cluster(),
    };
  }
}
