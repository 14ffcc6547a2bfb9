import type { Server } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import type { Config } from './config/config.ts';
import { addressLimitOf, pacerOf } from './limits/from-config.ts';
import { Seldom, faultOf } from './logging.ts';
import type { Ending } from './net/connection.ts';
import { DataPlane } from './net/data-plane.ts';
import { Doors } from './net/doors.ts';
import { familyOf, formatEndpoint } from './net/endpoint.ts';
import type { BoundEndpoint, Endpoint } from './net/endpoint.ts';
import { Hub } from './net/hub.ts';
import type { HttpListener } from './net/http-listener.ts';
import { listen } from './net/listener.ts';
import { Reception } from './net/reception.ts';
import { TrustedProxies } from './net/trusted-proxies.ts';
import { emptyBacklog } from './relay-backlog.ts';
import { RelayCertificates } from './relay-certificates.ts';
import type { RelayCluster } from './relay-cluster.ts';
import { RelayDescriptors } from './relay-descriptors.ts';
import { RelayMetrics } from './relay-metrics.ts';
import { RelayQuota } from './relay-quota.ts';
import { roomWithin } from './relay-room.ts';
import { RelayUsage } from './relay-usage.ts';
import { RateMeter } from './status/rate-meter.ts';
import type { RelayStatus } from './status/relay-status.ts';
import { SelfTest } from './status/self-test.ts';
import { createStatusServer } from './status/status-server.ts';
import { DatabaseThread } from './usage/database-thread.ts';
import { Recorder } from './usage/recorder.ts';

/** Time between two pings to a WebSocket client, in milliseconds: half of what proxies cut off at. */
const PING_INTERVAL_MS = 30_000;

/** Time between two log lines about a drain that goes on, in milliseconds. */
const DRAIN_REPORT_MS = 5000;

/** How often a drain looks whether anybody waits still, in milliseconds. */
const DRAIN_LOOK_MS = 20;

/** Time between two warnings of a shared address, in milliseconds. */
const SHARED_ADDRESS_WARNING_MS = 3_600_000;

const SHARED_ADDRESS =
  'nearly all clients rejected by limits per address come from one private address: clients may be hidden behind NAT or a proxy ' +
  '(rootless Docker or Podman, Docker Desktop, a load balancer), and the limits then apply to all of them together; ' +
  'let the relay see client addresses (host networking, RELAY_TRUSTED_PROXIES), or unset the limits per address';

/** What clients, operators and scripts can reach, with port 0 resolved. */
export interface Endpoints {
  readonly raw: readonly BoundEndpoint[];
  readonly websocket: readonly BoundEndpoint[];
  readonly status: readonly BoundEndpoint[];
}

/** The whole relay: what starts in which order, and how it ends. */
export class Relay {
  readonly #config: Config;
  readonly #log: Logger;
  readonly #reception: Reception;
  readonly #hub: Hub;
  readonly #recorder: Recorder;
  readonly #servers: Server[] = [];
  readonly #statusServers: HttpListener[] = [];
  readonly #certificates: RelayCertificates;
  readonly #usage: RelayUsage;
  /** What must be closed in the end, last opened first. */
  readonly #closers: (() => Promise<void>)[] = [];
  /** Seconds since the epoch. */
  readonly #rebooted = Date.now() / 1000;
  /** The same moment in milliseconds of a clock that never jumps. */
  readonly #startedTick = performance.now();
  readonly #rate: RateMeter;
  readonly #metrics: RelayMetrics;
  readonly #descriptors: RelayDescriptors;
  #quota: RelayQuota | null = null;
  #cluster: RelayCluster | null = null;
  #selfTest: SelfTest | null = null;
  #draining = false;

  constructor(config: Config, log: Logger) {
    this.#config = config;
    this.#log = log;
    this.#certificates = new RelayCertificates(log);
    this.#recorder = new Recorder(config.usage.blurSeconds);
    const monotonicClock = (): number => performance.now();
    this.#usage = new RelayUsage(this.#recorder, log, monotonicClock);
    const { limits, timeouts } = config;
    const sharedAddress = new Seldom(SHARED_ADDRESS_WARNING_MS, monotonicClock);
    this.#reception = new Reception({
      handshakeMs: timeouts.handshakeMs,
      ...roomWithin(config, log),
      addresses: addressLimitOf(limits, monotonicClock),
      onSharedAddress: () => sharedAddress.happened(() => log.warn(SHARED_ADDRESS)),
      wallClock: () => Date.now(),
      monotonicClock,
    });
    this.#hub = new Hub({
      reception: this.#reception,
      waitMs: timeouts.waitMs,
      idleMs: timeouts.idleMs,
      pacer: pacerOf(limits, monotonicClock),
      pairBytes: limits.pairBytes,
      monotonicClock,
      ended: (ending) => this.#record(ending),
      fault: (error) =>
        this.#log.error({ fault: faultOf(error) }, 'a fault in the relay has cost one connection'),
    });
    this.#descriptors = new RelayDescriptors(this.#reception, log, monotonicClock);
    this.#rate = new RateMeter(() => this.#relayedBytes(), monotonicClock);
    this.#metrics = new RelayMetrics({
      hub: this.#hub,
      reception: this.#reception,
      recorder: this.#recorder,
      usage: this.#usage,
      quota: () => this.#quota,
      cluster: () => this.#cluster?.figures() ?? null,
      ready: () => this.#selfTest !== null && !this.#draining,
      draining: () => this.#draining,
    });
  }

  /**
   * Opens the usage outputs, then listens.
   *
   * @throws ListenError, CertificateError, QuotaFileError, UsageDatabaseError or OutputError, each with a sentence
   * for the operator. `close` is due then as well.
   */
  async start(): Promise<Endpoints> {
    this.#descriptors.start();
    this.#closers.push(() => this.#usage.close());
    await this.#usage.open(this.#config.usage, () => this.#current());
    this.#openQuota();
    const { raw, websocket, status } = this.#config.listen;
    const plane = await DataPlane.open(this.#config.bufferMemoryBytes);
    if (plane.kind === 'ordinary streams') {
      this.#log.warn(
        { plane: plane.kind },
        'this Node is not known to us: slower, and with more memory for each client',
      );
    }
    const usesTls = [...raw, ...websocket].some(
      (endpoint) => endpoint.kind !== 'unix' && endpoint.tls !== null,
    );
    if (plane.kind === 'shared buffer' && usesTls && !plane.hasSharedTls) {
      this.#log.warn('unsupported Node.js version: TLS falls back to standard streams (slower, more memory)');
    }
    const { trustedProxies } = this.#config;
    const doors = new Doors({
      plane,
      reception: this.#reception,
      hub: this.#hub,
      proxies: trustedProxies.length === 0 ? null : new TrustedProxies(trustedProxies),
      pingIntervalMs: PING_INTERVAL_MS,
    });
    await this.#openCluster(plane, doors);
    const open = async (role: 'raw' | 'websocket', endpoint: Endpoint): Promise<Server> =>
      doors.create({ role, kind: familyOf(endpoint), certificate: await this.#certificates.of(endpoint) });
    const endpoints = {
      raw: await this.#listenAll('raw', raw, (endpoint) => open('raw', endpoint)),
      websocket: await this.#listenAll('websocket', websocket, (endpoint) => open('websocket', endpoint)),
      status: await this.#listenAll('status', status, () => {
        const server = createStatusServer({
          status: () => this.#status(),
          selfTest: () => this.#selfTest,
          metrics: this.#metrics,
          fault: (error) =>
            this.#log.error({ fault: faultOf(error) }, 'a fault in the relay has cost one answer'),
        });
        this.#statusServers.push(server);
        return server;
      }),
    };
    this.#selfTest = new SelfTest(endpoints.raw, endpoints.websocket, this.#hub);
    return endpoints;
  }

  /** Whether the usage database's thread runs. */
  get hasThreads(): boolean {
    return DatabaseThread.running > 0;
  }

  /** Reads the certificates anew. */
  reload(): Promise<void> {
    return this.#certificates.reload();
  }

  /**
   * First lets in nobody but partners of clients that wait, for up to the drain delay; then stops listening, sends
   * waiting clients home, and lets pairs finish for up to the drain timeout. `abort` ends all of it. `close` is
   * due afterwards.
   */
  async drain(abort: AbortSignal): Promise<void> {
    const { delayMs, timeoutMs } = this.#config.drain;
    this.#draining = true;
    this.#reception.isStopping = true;
    this.#report('draining');
    const report = setInterval(() => this.#report('waiting for transfers to finish'), DRAIN_REPORT_MS);
    const deadline = performance.now() + delayMs;
    while (this.#hub.census().waiting > 0 && performance.now() < deadline && !abort.aborted)
      await sleep(DRAIN_LOOK_MS);
    await emptyBacklog(this.#reception);
    for (const server of this.#servers) server.close();
    this.#cluster?.stopListening();
    // The clients of a test that has just begun may not have said who they are, and would be recorded.
    await this.#selfTest?.idle();
    await this.#hub.drain(timeoutMs, abort);
    clearInterval(report);
    const pairs = this.#hub.pairs + this.#hub.clients.passengers;
    if (pairs > 0) this.#log.warn({ pairs }, 'transfers are cut off');
  }

  /** Ends every connection, writes every record, and lets go of everything. */
  async close(): Promise<void> {
    for (const server of [...this.#servers, ...this.#statusServers]) server.close();
    this.#hub.close();
    this.#rate.close();
    this.#metrics.close();
    this.#certificates.close();
    for (const server of this.#statusServers) server.closeAllConnections();
    for (const closer of this.#closers.toReversed()) await closer();
    this.#closers.length = 0;
    this.#descriptors.close();
  }

  #openQuota(): void {
    const { quota } = this.#config;
    if (quota === null) return;
    const house = {
      hub: this.#hub,
      reception: this.#reception,
      relayedBytes: () => this.#relayedBytes(),
    };
    const opened = new RelayQuota(quota, house, this.#log);
    this.#closers.push(() => opened.close());
    this.#quota = opened;
  }

  /** Where there is no group, nothing of it is loaded. */
  async #openCluster(plane: DataPlane, doors: Doors): Promise<void> {
    const { cluster: config } = this.#config;
    if (config === null) return;
    const module = await import('./relay-cluster.ts');
    const cluster = new module.RelayCluster(config, { hub: this.#hub, plane, doors }, this.#log);
    this.#closers.push(() => cluster.close());
    await cluster.open();
    this.#cluster = cluster;
  }

  async #listenAll(
    role: string,
    endpoints: readonly Endpoint[],
    create: (endpoint: Endpoint) => Promise<Server> | Server,
  ): Promise<readonly BoundEndpoint[]> {
    const actual: BoundEndpoint[] = [];
    for (const endpoint of endpoints) {
      const server = await create(endpoint);
      const bound = await listen(server, endpoint, this.#config.listen.inherited);
      // The status port stays open while the relay drains.
      if (role !== 'status') this.#servers.push(server);
      server.on('error', (error) => this.#descriptors.notAccepted(faultOf(error).code));
      this.#log.info({ role, endpoint: formatEndpoint(bound) }, 'listening');
      actual.push(bound);
    }
    return actual;
  }

  /** Says how the drain goes. */
  #report(message: string): void {
    const { pairs, waiting, bytes_per_second: bytesPerSecond } = this.#status();
    // Clients whose pairs are at other relays of a group are waited for, too.
    const carried = this.#cluster === null ? {} : { carried: this.#hub.clients.passengers };
    this.#log.info({ pairs, ...carried, waiting, bytesPerSecond }, message);
  }

  #current(): { rebooted: number; connected: number; waiting: number; incomplete_bytes: number } {
    const { connected, waiting, incompleteBytes } = this.#hub.census();
    return {
      rebooted: this.#rebooted,
      connected,
      waiting,
      incomplete_bytes: this.#recorder.visibleBytes(incompleteBytes),
    };
  }

  /** Payload since the start, as it may be told. */
  #relayedBytes(): number {
    return this.#recorder.visibleCount(this.#hub.census().relayedBytes);
  }

  #status(): RelayStatus {
    const { connected, waiting, relayedBytes } = this.#hub.census();
    return {
      started: new Date(this.#rebooted * 1000).toISOString(),
      uptime_seconds: Math.round((performance.now() - this.#startedTick) / 1000),
      draining: this.#draining,
      connections: this.#reception.connections,
      pairs: connected / 2,
      waiting,
      relayed_bytes: this.#recorder.visibleCount(relayedBytes),
      bytes_per_second: Math.round(this.#rate.perSecond),
      refused: this.#reception.refused,
      quota: this.#quota?.status() ?? null,
    };
  }

  #record(ending: Ending): void {
    // The log's own time would tell what the record does not.
    if (this.#config.usage.blurSeconds === 0) this.#log.debug({ mood: ending.mood }, 'ended');
    this.#recorder.record({
      started: ending.startedAt / 1000,
      total_time: ending.totalMs / 1000,
      waiting_time: ending.waitingMs === null ? null : ending.waitingMs / 1000,
      total_bytes: ending.totalBytes,
      mood: ending.mood,
    });
  }
}
