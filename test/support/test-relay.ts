import { mkdtemp, rm } from 'node:fs/promises';
import type { AddressInfo, Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ClusterRouter } from '../../src/cluster/router.ts';
import type { TrustedProxies } from '../../src/config/trusted-proxies.ts';
import { Acceptor } from '../../src/sessions/acceptor.ts';
import type { ListenerOptions } from '../../src/sessions/acceptor.ts';
import { AdmissionControl } from '../../src/sessions/admission-control.ts';
import type { AdmissionControlOptions } from '../../src/sessions/admission-control.ts';
import type { SessionSummary } from '../../src/sessions/client-session.ts';
import { SessionManager } from '../../src/sessions/session-manager.ts';
import type { SessionManagerOptions } from '../../src/sessions/session-manager.ts';
import type { TransportKind } from '../../src/transport/client-transport.ts';
import { AcmeChallenges } from '../../src/transport/acme-challenges.ts';
import { IoBackend } from '../../src/transport/io-backend.ts';
import { listen } from '../../src/transport/listener.ts';
import { TestClient } from './test-client.ts';

export interface TestRelayOptions {
  readonly pingIntervalMs?: number;
  /** Uses standard streams, the fallback for unsupported versions of Node.js. */
  readonly standardStreams?: boolean;
  readonly bufferMemoryBytes?: number;
  /** Monotonic clock of the timeouts, in milliseconds; default: that of the machine. */
  readonly clock?: () => number;
  readonly timeouts?: {
    readonly handshakeMs?: number;
    readonly waitMs?: number;
    readonly idleMs?: number;
  };
  readonly limits?: Partial<
    Pick<AdmissionControlOptions, 'maxConnections' | 'maxWaiting' | 'addressLimit'> &
      Pick<SessionManagerOptions, 'rateLimiter' | 'maxPairBytes'>
  >;
  readonly proxies?: TrustedProxies;
  readonly clusterRouter?: ClusterRouter;
  /** Certificate of all listeners except the Unix socket. */
  readonly certificate?: ListenerOptions['certificate'];
}

/** Default of `untilStalled`, in milliseconds: longer than the kernel delays acknowledgements. */
const QUIET_MS = 200;

const QUIET_CHECKS = 10;

/** A relay in this process that listens on all three transports, with its usage records. */
export class TestRelay {
  readonly sessions: SessionManager;
  readonly admission: AdmissionControl;
  readonly backend: IoBackend;
  readonly acceptor: Acceptor;
  readonly challenges = new AcmeChallenges();
  readonly summaries: SessionSummary[] = [];
  readonly internalErrors: unknown[] = [];
  readonly #servers: Server[];
  readonly #directory: string;
  readonly #clients: TestClient[] = [];
  #ports = { tcp: 0, websocket: 0 };
  #wake: () => void = () => undefined;

  private constructor(directory: string, backend: IoBackend, options: TestRelayOptions) {
    this.backend = backend;
    this.#directory = directory;
    const { timeouts = {}, limits = {} } = options;
    const monotonicClock = options.clock ?? (() => performance.now());
    this.admission = new AdmissionControl({
      handshakeTimeoutMs: timeouts.handshakeMs ?? null,
      maxConnections: limits.maxConnections ?? Number.POSITIVE_INFINITY,
      maxWaiting: limits.maxWaiting ?? null,
      proxies: options.proxies ?? null,
      addressLimit: limits.addressLimit ?? null,
      wallClock: Date.now,
      monotonicClock,
    });
    this.sessions = new SessionManager({
      admission: this.admission,
      waitTimeoutMs: timeouts.waitMs ?? null,
      idleTimeoutMs: timeouts.idleMs ?? null,
      rateLimiter: limits.rateLimiter ?? null,
      maxPairBytes: limits.maxPairBytes ?? null,
      monotonicClock,
      onSessionEnd: (summary) => {
        this.summaries.push(summary);
        this.#wake();
      },
      onInternalError: (error) => this.internalErrors.push(error),
    });
    const acceptor = new Acceptor({
      backend,
      admission: this.admission,
      sessions: this.sessions,
      pingIntervalMs: options.pingIntervalMs ?? 30_000,
      challenges: this.challenges,
    });
    this.acceptor = acceptor;
    this.sessions.clusterRouter = options.clusterRouter ?? null;
    const certificate = options.certificate ?? null;
    this.#servers = [
      acceptor.createServer({ role: 'raw', kind: 'tcp', certificate }),
      acceptor.createServer({ role: 'raw', kind: 'unix', certificate: null }),
      acceptor.createServer({ role: 'websocket', kind: 'tcp', certificate }),
    ];
  }

  static async open(options: TestRelayOptions = {}): Promise<TestRelay> {
    const backend =
      options.standardStreams === true
        ? IoBackend.withStandardStreams()
        : await IoBackend.open(options.bufferMemoryBytes ?? 64 * 2 ** 20);
    const relay = new TestRelay(await mkdtemp(join(tmpdir(), 'relay-test-')), backend, options);
    const [tcp, unix, websocket] = relay.#servers;
    const loopback = { kind: 'tcp', port: 0, interface: '127.0.0.1', backlog: null, tls: null } as const;
    if (tcp === undefined || unix === undefined || websocket === undefined)
      throw new Error('a server is missing');
    await listen(tcp, loopback);
    await listen(unix, { kind: 'unix', path: relay.unixPath, mode: null, backlog: null });
    await listen(websocket, loopback);
    relay.#ports = { tcp: portOf(tcp), websocket: portOf(websocket) };
    return relay;
  }

  get unixPath(): string {
    return join(this.#directory, 'relay.sock');
  }

  get tcpPort(): number {
    return this.#ports.tcp;
  }

  get websocketPort(): number {
    return this.#ports.websocket;
  }

  /** Connects a client. It is closed with the relay. */
  async connect(transport: TransportKind): Promise<TestClient> {
    const client = await TestClient.connect(transport, {
      tcpPort: this.#ports.tcp,
      unixPath: this.unixPath,
      websocketPort: this.#ports.websocket,
    });
    this.#clients.push(client);
    return client;
  }

  /** The first `count` records, in the order they were made. */
  async waitForRecords(count: number): Promise<readonly SessionSummary[]> {
    while (this.summaries.length < count) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    return this.summaries;
  }

  /**
   * Resolves when the running pairs have moved no bytes for `quietMs`. The relay does all its work in this
   * thread, so that a check cannot come before the work of the time since the last check.
   */
  async untilStalled(quietMs = QUIET_MS): Promise<void> {
    let last = -1;
    for (let still = 0; still < QUIET_CHECKS;) {
      await new Promise((resolve) => setTimeout(resolve, quietMs / QUIET_CHECKS));
      const now = this.sessions.liveCounts().incompleteBytes;
      still = now === last ? still + 1 : 0;
      last = now;
    }
  }

  /** Closes everything. Throws if the session manager's counts are inconsistent, or an internal error was caught. */
  async close(): Promise<void> {
    this.sessions.checkConsistency();
    for (const server of this.#servers) server.close();
    this.sessions.close();
    this.sessions.checkConsistency();
    for (const client of this.#clients) client.destroy();
    await rm(this.#directory, { recursive: true, force: true });
    if (this.internalErrors.length > 0)
      throw new AggregateError(this.internalErrors, 'the session manager caught internal errors');
  }
}

function portOf(server: Server): number {
  const address: AddressInfo | string | null = server.address();
  if (address === null || typeof address === 'string') throw new Error('not a TCP server');
  return address.port;
}
