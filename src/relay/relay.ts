import type { Server } from 'node:net';
import { formatEndpoint, socketFamily } from '../config/endpoint.ts';
import type { BoundEndpoint, Endpoint } from '../config/endpoint.ts';
import { changedSettings } from '../config/environment.ts';
import type { ConfigReport } from '../config/environment.ts';
import { readRelayConfig } from '../config/relay-config.ts';
import type { RelayConfig } from '../config/relay-config.ts';
import { TrustedProxies } from '../config/trusted-proxies.ts';
import { createAddressLimit } from '../limits/address-limit.ts';
import { readProcessLimits, resolveCapacity, usesTls } from '../limits/capacity.ts';
import type { ResolvedCapacity } from '../limits/capacity.ts';
import { FdReserve } from '../limits/fd-reserve.ts';
import type { MemoryGuard } from '../limits/memory-guard.ts';
import { QuotaTracker } from '../limits/quota.ts';
import type { Quota } from '../limits/quota.ts';
import { createRateLimiter } from '../limits/rate-limiter.ts';
import type { RejectReason } from '../limits/rejection-history.ts';
import { LogThrottle, errorDetails } from '../process/logging.ts';
import type { Log } from '../process/logging.ts';
import type { Program } from '../process/program.ts';
import { NODE_VERSION, VERSION } from '../process/version.ts';
import { Acceptor } from '../sessions/acceptor.ts';
import { AdmissionControl } from '../sessions/admission-control.ts';
import type { SessionSummary } from '../sessions/client-session.ts';
import { SessionManager } from '../sessions/session-manager.ts';
import { HealthProbes } from '../status/health-probes.ts';
import { RateMeter } from '../status/samplers.ts';
import { createStatusServer } from '../status/status-server.ts';
import type { HttpListener } from '../transport/http-listener.ts';
import { AcmeChallenges } from '../transport/acme-challenges.ts';
import { IoBackend } from '../transport/io-backend.ts';
import { listen } from '../transport/listener.ts';
import { UsageRecorder } from '../usage/record.ts';
import { DatabaseThread } from '../usage/sqlite-sink.ts';
import type { CurrentState } from '../usage/sqlite-sink.ts';
import type { ClusterService } from './cluster.ts';
import { createMemoryGuard } from './memory-shortage.ts';
import { RelayCertificates } from './relay-certificates.ts';
import { RelayMetrics } from './relay-metrics.ts';
import { RelayUsage } from './relay-usage.ts';
import { RejectionLog, reachedLimit } from './rejection-log.ts';
import type { ReachedLimit } from './rejection-log.ts';
import { StatusReport } from './status-report.ts';
import { Warnings } from './warnings.ts';

/** Time between two pings to a WebSocket client, in milliseconds: half of the usual timeout of proxies. */
const PING_INTERVAL_MS = 30_000;

/**
 * Maximum time to accept connections from the listen backlog, in milliseconds. New ones may come faster than
 * they are rejected.
 */
const BACKLOG_TIMEOUT_MS = 1000;

/** Time between two log lines about a drain in progress, in milliseconds. */
const DRAIN_REPORT_MS = 5000;

/** Minimum time between two log lines about failed accepts, in milliseconds. */
const ACCEPT_ERROR_LOG_INTERVAL_MS = 10_000;

/** What the operator can do about a failed accept, by error code. */
const ACCEPT_ERROR_HINTS: Readonly<Record<string, string>> = {
  EMFILE:
    ': no file descriptors left; lower RELAY_MAX_CONNECTIONS or raise the limit (ulimit -n, LimitNOFILE=)',
  ENFILE: ': the host has no file descriptors left; raise its limit (sysctl fs.file-max)',
};

/** Time between two warnings about a shared address, in milliseconds. */
const SHARED_ADDRESS_WARNING_MS = 3_600_000;

const SHARED_ADDRESS_WARNING =
  'nearly all clients rejected by limits per address come from one private address: clients may be hidden behind NAT or a proxy ' +
  '(rootless Docker or Podman, Docker Desktop, a load balancer), and the limits then apply to all of them together; ' +
  'let the relay see client addresses (host networking, RELAY_TRUSTED_PROXIES), or unset the limits per address';

const QUOTA_SAVE_FAILED = 'saving the quota failed; a restart would lose the usage since the last save';

/** The bound endpoints, with port 0 resolved. */
export interface Endpoints {
  readonly raw: readonly BoundEndpoint[];
  readonly websocket: readonly BoundEndpoint[];
  readonly status: readonly BoundEndpoint[];
}

/** The whole relay: starts and stops its parts in the right order. */
export class Relay {
  readonly #config: RelayConfig;
  readonly #configReport: ConfigReport;
  readonly #log: Log;
  readonly #capacity: ResolvedCapacity;
  readonly #admission: AdmissionControl;
  readonly #sessions: SessionManager;
  readonly #recorder: UsageRecorder;
  readonly #servers: Server[] = [];
  readonly #statusServers: HttpListener[] = [];
  readonly #certificates: RelayCertificates;
  readonly #usage: RelayUsage;
  /** Close functions, called in reverse order. */
  readonly #closers: (() => Promise<void>)[] = [];
  readonly #rate: RateMeter;
  readonly #status: StatusReport;
  readonly #warnings: Warnings;
  readonly #rejectionLog: RejectionLog;
  readonly #metrics: RelayMetrics;
  readonly #fdReserve: FdReserve;
  /** Null where the kernel's buffers do not count in a memory limit. */
  readonly #memoryGuard: MemoryGuard | null;
  readonly #acceptErrorThrottle: LogThrottle;
  #quota: QuotaTracker | null = null;
  #cluster: ClusterService | null = null;
  #probes: HealthProbes | null = null;

  constructor(config: RelayConfig, log: Log, report: ConfigReport, processLimits = readProcessLimits()) {
    this.#configReport = report;
    this.#config = config;
    this.#log = log;
    this.#certificates = new RelayCertificates(log);
    this.#recorder = new UsageRecorder(config.usage.blurSeconds);
    const monotonicClock = (): number => performance.now();
    this.#warnings = new Warnings(monotonicClock, report.warnings);
    this.#usage = new RelayUsage(this.#recorder, log, this.#warnings, monotonicClock);
    const { limits, timeouts, trustedProxies } = config;
    const limitOf = (reason: RejectReason): ReachedLimit => reachedLimit(reason, this.#admission, config);
    this.#rejectionLog = new RejectionLog(log, limitOf);
    const sharedAddress = new LogThrottle(SHARED_ADDRESS_WARNING_MS, monotonicClock);
    this.#capacity = resolveCapacity(config, this.#warnings.raising(log), processLimits);
    this.#admission = new AdmissionControl({
      handshakeTimeoutMs: timeouts.handshakeMs,
      ...this.#capacity,
      proxies: trustedProxies.length === 0 ? null : new TrustedProxies(trustedProxies),
      addressLimit: createAddressLimit(limits, monotonicClock),
      onSharedAddress: () =>
        sharedAddress.log(() =>
          this.#warnings
            .raising(log, SHARED_ADDRESS_WARNING_MS)
            .warn({ event: 'shared_address' }, SHARED_ADDRESS_WARNING),
        ),
      onRejected: (reason) => this.#rejectionLog.count(reason),
      wallClock: () => Date.now(),
      monotonicClock,
    });
    this.#sessions = new SessionManager({
      admission: this.#admission,
      waitTimeoutMs: timeouts.waitMs,
      idleTimeoutMs: timeouts.idleMs,
      rateLimiter: createRateLimiter(limits, monotonicClock),
      maxPairBytes: limits.pairBytes,
      monotonicClock,
      onSessionEnd: (summary) => this.#record(summary),
      onInternalError: (error) =>
        this.#log.error(
          { event: 'internal_error', error: errorDetails(error) },
          'internal error; connection closed',
        ),
    });
    this.#acceptErrorThrottle = new LogThrottle(ACCEPT_ERROR_LOG_INTERVAL_MS, monotonicClock);
    this.#fdReserve = new FdReserve({
      onExhausted: (code) => {
        this.#admission.isOutOfDescriptors = true;
        this.#warnings.raise('accept_failed', acceptErrorMessage(code));
        this.#logAcceptError(code);
      },
      onRecovered: () => {
        this.#admission.isOutOfDescriptors = false;
        this.#warnings.clear('accept_failed');
        log.info(
          { event: 'file_descriptors_available' },
          'file descriptors available again; accepting clients',
        );
      },
    });
    this.#memoryGuard = createMemoryGuard(
      processLimits.memory,
      this.#sessions,
      { log, warnings: this.#warnings },
      monotonicClock,
    );
    this.#rate = new RateMeter(() => this.#relayedBytes(), monotonicClock);
    this.#status = new StatusReport({
      sessions: this.#sessions,
      admission: this.#admission,
      recorder: this.#recorder,
      usage: this.#usage,
      rate: this.#rate,
      warnings: this.#warnings,
      limitOf,
      quota: () => this.#quota?.quota ?? null,
      certificates: () => this.#certificates.listeners,
    });
    this.#metrics = new RelayMetrics({
      sessions: this.#sessions,
      admission: this.#admission,
      recorder: this.#recorder,
      usage: this.#usage,
      memoryGuard: this.#memoryGuard,
      status: this.#status,
      acme: () => this.#certificates.acme,
      quota: () => this.#quota?.quota ?? null,
      cluster: () => this.#cluster?.router ?? null,
      isListening: () => this.#probes !== null,
    });
  }

  /**
   * Opens the usage outputs, then listens.
   *
   * @throws StartupError. Call `close` in any case.
   */
  async start(): Promise<Endpoints> {
    this.#fdReserve.start();
    this.#memoryGuard?.start();
    this.#closers.push(() => this.#usage.close());
    await this.#usage.open(this.#config.usage, () => this.#currentState());
    this.#openQuota();
    const { raw, websocket, status } = this.#config.listen;
    const backend = await IoBackend.open(this.#config.bufferMemoryBytes);
    this.#logStart(backend);
    const log = this.#warnings.raising(this.#log);
    if (backend.kind === 'standard streams') {
      log.warn(
        { event: 'io_backend_fallback', io_backend: backend.kind },
        'unsupported Node.js version: falling back to standard streams (slower, more memory per connection)',
      );
    }
    if (backend.kind === 'shared buffer' && usesTls(this.#config.listen) && !backend.hasSharedBufferTls) {
      log.warn(
        { event: 'tls_backend_fallback' },
        'unsupported Node.js version: TLS falls back to standard streams (slower, more memory)',
      );
    }
    const challenges = new AcmeChallenges();
    const acceptor = new Acceptor({
      backend,
      admission: this.#admission,
      sessions: this.#sessions,
      pingIntervalMs: PING_INTERVAL_MS,
      challenges,
    });
    this.#closers.push(() => this.#certificates.close());
    await this.#certificates.openAcme(this.#config, challenges, this.#warnings);
    await this.#openCluster(backend, acceptor);
    const open = async (role: 'raw' | 'websocket', endpoint: Endpoint): Promise<Server> =>
      acceptor.createServer({
        role,
        kind: socketFamily(endpoint),
        certificate: await this.#certificates.load(endpoint),
      });
    const endpoints = {
      raw: await this.#listenAll('raw', raw, (endpoint) => open('raw', endpoint)),
      websocket: await this.#listenAll('websocket', websocket, (endpoint) => open('websocket', endpoint)),
      status: await this.#listenAll('status', status, () => {
        const server = createStatusServer({
          status: () => this.#status.read(),
          rejectionProblem: () => this.#status.rejectionProblem(),
          probes: () => this.#probes,
          metrics: this.#metrics,
          onInternalError: (error) =>
            this.#log.error(
              { event: 'internal_error', error: errorDetails(error) },
              'internal error; status request aborted',
            ),
        });
        this.#statusServers.push(server);
        return server;
      }),
    };
    this.#probes = new HealthProbes(endpoints.raw, endpoints.websocket, this.#sessions);
    this.#certificates.acme?.start();
    return endpoints;
  }

  /** True while the thread of the usage database runs. */
  get hasThreads(): boolean {
    return DatabaseThread.runningCount > 0;
  }

  /** Reloads the certificates, and repeats a request for a certificate that has failed. */
  reload(): Promise<void> {
    return this.#certificates.reload();
  }

  /**
   * First accepts only partners of waiting clients, for up to the drain delay. Then stops listening, closes
   * waiting clients, and lets pairs finish for up to the drain timeout. `abort` ends all of it. Call `close`
   * afterwards.
   */
  async drain(abort: AbortSignal): Promise<void> {
    const { delayMs, timeoutMs } = this.#config.drain;
    this.#admission.isDraining = true;
    this.#logDrainProgress('draining');
    const report = setInterval(
      () => this.#logDrainProgress('waiting for transfers to finish'),
      DRAIN_REPORT_MS,
    );
    await this.#sessions.untilNoneWaiting(delayMs, abort);
    await acceptListenBacklog(this.#admission);
    for (const server of this.#servers) server.close();
    this.#cluster?.stopListening();
    // The clients of a probe that has just started may not have sent their tokens, and would be recorded as
    // clients.
    await this.#probes?.idle();
    await this.#sessions.drain(timeoutMs, abort);
    clearInterval(report);
    const pairs = this.#sessions.pairs + this.#sessions.clients.forwardedClients;
    if (pairs > 0)
      this.#log.warn({ event: 'drain_timeout', pairs }, 'drain timeout; closing remaining transfers');
  }

  /** Closes all connections, writes all records, and releases all resources. */
  async close(): Promise<void> {
    for (const server of [...this.#servers, ...this.#statusServers]) server.close();
    this.#sessions.close();
    this.#rate.close();
    this.#metrics.close();
    for (const server of this.#statusServers) server.closeAllConnections();
    for (const closer of this.#closers.toReversed()) await closer();
    this.#closers.length = 0;
    this.#rejectionLog.close();
    this.#fdReserve.close();
    this.#memoryGuard?.close();
  }

  #openQuota(): void {
    const log = this.#log;
    if (this.#config.quota === null) return;
    const tracker = new QuotaTracker(this.#config.quota, {
      relayedBytes: () => this.#relayedBytes(),
      wallClock: () => Date.now(),
      onWarning: (percent) =>
        log.warn(
          { event: 'quota_almost_exhausted', percent, ...quotaFields(tracker.quota) },
          'quota almost exhausted',
        ),
      onExhausted: () => {
        log.error(
          { event: 'quota_exhausted', ...quotaFields(tracker.quota) },
          'quota exhausted; rejecting clients until it is reset',
        );
        this.#admission.isOverQuota = true;
        this.#sessions.closeWaiting();
      },
      onGraceEnd: () => this.#sessions.closePairs(),
      onReset: () => {
        log.info({ event: 'quota_reset', ...quotaFields(tracker.quota) }, 'quota reset');
        this.#admission.isOverQuota = false;
      },
      onSaveFailed: (code) =>
        this.#warnings.raising(log).error({ event: 'quota_save_failed', code }, QUOTA_SAVE_FAILED),
      onSaveRecovered: () => {
        this.#warnings.clear('quota_save_failed');
        log.info({ event: 'quota_save_recovered' }, 'saving the quota recovered');
      },
    });
    this.#closers.push(() => tracker.close());
    this.#quota = tracker;
    // It may be exhausted already.
    tracker.check();
  }

  /** Logs what runs, and with which limits. Each listener has a line of its own. */
  #logStart(backend: IoBackend): void {
    this.#log.info(
      {
        event: 'starting',
        version: VERSION,
        node_version: NODE_VERSION,
        io_backend: backend.kind,
        usage_database: this.#config.usage.databasePath,
        ...this.#capacity.details,
        settings: changedSettings(this.#configReport.settings),
      },
      'starting',
    );
  }

  /** Without a cluster, its modules are not loaded. */
  async #openCluster(backend: IoBackend, acceptor: Acceptor): Promise<void> {
    const { cluster: config } = this.#config;
    if (config === null) return;
    const { ClusterService } = await import('./cluster.ts');
    const cluster = await ClusterService.open(
      config,
      { sessions: this.#sessions, backend, acceptor, warnings: this.#warnings },
      this.#log,
    );
    this.#closers.push(() => cluster.close());
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
      // The status port stays open during a drain.
      if (role !== 'status') this.#servers.push(server);
      server.on('error', (error) => this.#onAcceptError(errorDetails(error).code));
      this.#log.info({ event: 'listening', role, endpoint: formatEndpoint(bound) }, 'listening');
      actual.push(bound);
      this.#certificates.onListening(endpoint, bound);
    }
    return actual;
  }

  #onAcceptError(code: string): void {
    // So that the next connection has a file descriptor, if only to be rejected.
    this.#fdReserve.check();
    if (!this.#fdReserve.isExhausted) this.#logAcceptError(code);
  }

  #logAcceptError(code: string): void {
    this.#acceptErrorThrottle.log((times) =>
      this.#log.warn({ event: 'accept_failed', code, times }, acceptErrorMessage(code)),
    );
  }

  #logDrainProgress(message: string): void {
    const { pairs, waiting, bytes_per_second: bytesPerSecond } = this.#status.read();
    // A drain also waits for clients whose pairs are at other relays of the cluster.
    const forwarding = this.#cluster === null ? {} : { forwarding: this.#sessions.clients.forwardedClients };
    const fields = { event: 'draining', pairs, ...forwarding, waiting, bytes_per_second: bytesPerSecond };
    this.#log.info(fields, message);
  }

  #currentState(): CurrentState {
    const { connected, waiting, incompleteBytes } = this.#sessions.liveCounts();
    return {
      rebooted: this.#status.startedAtSeconds,
      connected,
      waiting,
      incomplete_bytes: this.#recorder.blurLiveBytes(incompleteBytes),
    };
  }

  /** Payload since the start in bytes, blurred for publication. */
  #relayedBytes(): number {
    return this.#recorder.blurCounter(this.#sessions.liveCounts().relayedBytes);
  }

  #record(summary: SessionSummary): void {
    // The time of the log line would reveal what a blurred record hides.
    if (this.#config.usage.blurSeconds === 0)
      this.#log.debug({ event: 'client_session_ended', mood: summary.mood }, 'client session ended');
    this.#recorder.record({
      started: summary.startedAt / 1000,
      total_time: summary.totalMs / 1000,
      waiting_time: summary.waitingMs === null ? null : summary.waitingMs / 1000,
      total_bytes: summary.totalBytes,
      mood: summary.mood,
    });
  }
}

function acceptErrorMessage(code: string): string {
  return `accepting clients failed${ACCEPT_ERROR_HINTS[code] ?? ''}`;
}

/** For the log. */
function quotaFields({ usedBytes, limitBytes, resetsAtMs }: Quota): Record<string, unknown> {
  return { used_bytes: usedBytes, limit_bytes: limitBytes, resets: new Date(resetsAtMs).toISOString() };
}

/**
 * Accepts the connections in the listen backlog, so that they can be rejected: one per turn of the event
 * loop.
 */
async function acceptListenBacklog(admission: AdmissionControl): Promise<void> {
  const deadline = performance.now() + BACKLOG_TIMEOUT_MS;
  for (let before = -1; before !== admission.totalConnections && performance.now() < deadline;) {
    before = admission.totalConnections;
    await nextTurn();
    await nextTurn();
  }
}

function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** The relay as a program. `main.ts` imports it after it has installed the signal handlers. */
export const relayProgram: Program<RelayConfig> = {
  read: readRelayConfig,
  create: (config, log, report) => new Relay(config, log, report),
};
