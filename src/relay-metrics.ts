import { EventLoopDelay } from './status/event-loop-delay.ts';
import { Metrics } from './status/metrics.ts';
import { RecordHistograms } from './status/record-histograms.ts';
import type { RelayFigures } from './status/relay-figures.ts';
import type { Hub } from './net/hub.ts';
import type { Reception } from './net/reception.ts';
import type { RelayQuota } from './relay-quota.ts';
import type { RelayUsage } from './relay-usage.ts';
import type { Recorder } from './usage/recorder.ts';

/** Where the figures come from. */
export interface MetricsHouse {
  readonly hub: Hub;
  readonly reception: Reception;
  readonly recorder: Recorder;
  readonly usage: RelayUsage;
  readonly quota: () => RelayQuota | null;
  readonly cluster: () => RelayFigures['cluster'];
  readonly ready: () => boolean;
  readonly draining: () => boolean;
}

/** What the relay tells Prometheus. */
export class RelayMetrics {
  readonly #house: MetricsHouse;
  readonly #metrics = new Metrics();
  readonly #histograms: RecordHistograms;
  readonly #delay: EventLoopDelay;

  constructor(house: MetricsHouse) {
    this.#house = house;
    this.#histograms = new RecordHistograms(house.recorder.blurSeconds, () => Date.now());
    house.recorder.addSink(this.#histograms);
    this.#delay = new EventLoopDelay(
      () => performance.now(),
      (seconds) => this.#metrics.observeDelay(seconds),
    );
  }

  get contentType(): string {
    return this.#metrics.contentType;
  }

  /** In the text format of Prometheus. */
  async text(): Promise<string> {
    return (await this.#metrics.text(this.#figures())) + this.#histograms.text();
  }

  close(): void {
    this.#delay.close();
  }

  #figures(): RelayFigures {
    const { hub, reception, recorder, usage, quota, cluster, ready, draining } = this.#house;
    const { clients } = hub;
    const { accepted, ended, pairs, passedOn, relayedBytes } = clients.totals();
    const visible = (bytes: Readonly<Record<'tcp' | 'unix' | 'websocket' | 'link', number>>) => ({
      tcp: recorder.visibleCount(bytes.tcp),
      unix: recorder.visibleCount(bytes.unix),
      websocket: recorder.visibleCount(bytes.websocket),
      link: recorder.visibleCount(bytes.link),
    });
    return {
      accepted,
      ended,
      passedOn,
      passengers: clients.passengers,
      refused: reception.refused,
      evicted: reception.evicted,
      handshakeFailures: reception.failures,
      connections: reception.connections,
      maxConnections: reception.maxConnections,
      waiting: clients.rendezvous.waitingClients,
      paired: 2 * clients.pairs,
      pairs,
      relayedBytes: {
        tcp: visible(relayedBytes.tcp),
        unix: visible(relayedBytes.unix),
        websocket: visible(relayedBytes.websocket),
        link: visible(relayedBytes.link),
      },
      heldBytes: hub.heldBytes,
      pausedSeconds: {
        backpressure: clients.pauses.backpressure.seconds,
        rateLimit: clients.pauses.rateLimit.seconds,
      },
      quota: quota()?.figures() ?? null,
      records: usage.totals(),
      suppressedRecords: usage.suppressed,
      queuedRecords: usage.queued,
      ready: ready(),
      draining: draining(),
      cluster: cluster(),
    };
  }
}
