import { randomUUID } from 'node:crypto';
import { isIPv6 } from 'node:net';
import type { Server } from 'node:net';
import { hostname, networkInterfaces } from 'node:os';
import type { Logger } from 'pino';
import { coordinatorHint } from '../cluster/coordinator-client.ts';
import { LinkTls } from '../cluster/link-auth.ts';
import { PeerNetworks } from '../cluster/link-client.ts';
import { LinkServer } from '../cluster/link-server.ts';
import type { LinkFailure } from '../cluster/link-server.ts';
import { LeaseRouter } from '../cluster/router.ts';
import { WILDCARD_ADDRESSES } from '../config/cluster-config.ts';
import type { ClusterConfig } from '../config/cluster-config.ts';
import { formatEndpoint } from '../config/endpoint.ts';
import { LogThrottle } from '../process/logging.ts';
import type { Acceptor } from '../sessions/acceptor.ts';
import type { SessionManager } from '../sessions/session-manager.ts';
import type { IoBackend } from '../transport/io-backend.ts';
import { listen } from '../transport/listener.ts';

/** Shortest time between two log lines about failed links, in milliseconds. */
const LOG_INTERVAL_MS = 60_000;

export interface ClusterDependencies {
  readonly sessions: SessionManager;
  readonly acceptor: Acceptor;
  readonly backend: IoBackend;
}

/** Makes the relay part of a cluster, and logs its state. Only loaded if there is a cluster. */
export class ClusterService {
  readonly #config: ClusterConfig;
  readonly #dependencies: ClusterDependencies;
  readonly #log: Logger;
  readonly #linkServer: LinkServer;
  readonly #server: Server;
  readonly #tls: LinkTls | null;
  /** The host that the other relays connect to. */
  readonly #host: string;
  readonly #networks: PeerNetworks;
  #router: LeaseRouter | null = null;

  constructor(config: ClusterConfig, dependencies: ClusterDependencies, log: Logger) {
    this.#config = config;
    this.#dependencies = dependencies;
    this.#log = log;
    const { backend, acceptor } = dependencies;
    this.#tls = config.tls ? new LinkTls(config.secret) : null;
    this.#host = advertisedHost(config);
    this.#networks = new PeerNetworks(config.networks, this.#host);
    const rejectThrottle = newLogThrottle();
    this.#linkServer = new LinkServer({
      backend,
      secret: config.secret,
      tls: this.#tls,
      networks: this.#networks,
      onLink: (stream, firstBytes) => acceptor.acceptLink(stream, firstBytes),
      onRejected: (failure: LinkFailure) => {
        if (failure === 'closed') return;
        rejectThrottle.log((times) =>
          log.warn({ failure, times }, 'rejected cluster connection: peer failed to authenticate'),
        );
      },
    });
    this.#server = this.#linkServer.createServer();
    // A peer that could not be accepted connects again; the error must not stop the relay.
    this.#server.on('error', () => undefined);
  }

  /**
   * Listens for other relays, and leases tokens from then on. It does not wait for the coordinator.
   *
   * @throws ListenError
   */
  async open(): Promise<void> {
    const { sessions, backend } = this.#dependencies;
    const { coordinator, secret, listen: endpoint, advertise } = this.#config;
    const bound = await listen(this.#server, endpoint);
    if (bound.kind !== 'tcp') throw new Error('the cluster listener is not a TCP listener');
    const host = this.#host;
    const port = advertise?.port ?? bound.port;
    const [connectThrottle, addressThrottle, secretThrottle] = [
      newLogThrottle(),
      newLogThrottle(),
      newLogThrottle(),
    ];
    const self = { id: randomUUID(), address: `${isIPv6(host) ? `[${host}]` : host}:${port}` };
    const router = new LeaseRouter({
      coordinator,
      secret,
      self,
      backend,
      tls: this.#tls,
      networks: this.#networks,
      onConnectFailed: (failure, owner) =>
        connectThrottle.log((times) =>
          this.#log.warn({ relay: owner.address, failure, times }, 'could not connect to another relay'),
        ),
      onAddressConflict: () =>
        addressThrottle.log((times) =>
          this.#log.error(
            { advertise: self.address, times },
            'another relay of the cluster advertises the same address; set RELAY_CLUSTER_ADVERTISE',
          ),
        ),
      events: {
        onSecretMismatch: () =>
          secretThrottle.log(() =>
            this.#log.error(
              'a relay with a different RELAY_CLUSTER_SECRET uses the same coordinator; its clients cannot be paired with clients of this relay',
            ),
          ),
        onLeaseLost: (token, owner) => sessions.redirectWaiting(token, owner),
        onUp: () => this.#log.info('coordinator is up; clients are paired across relays'),
        onDown: (code) =>
          this.#log.warn(
            { code, hint: coordinatorHint(code) },
            'coordinator is down; clients are paired within this relay only until it is back',
          ),
      },
    });
    this.#router = router;
    sessions.clusterRouter = router;
    this.#log.info(
      { role: 'cluster', endpoint: formatEndpoint(bound), advertise: self.address },
      'listening',
    );
  }

  /** Null before `open`. */
  get router(): LeaseRouter | null {
    return this.#router;
  }

  /** Accepts no more links. */
  stopListening(): void {
    this.#server.close();
    this.#linkServer.close();
  }

  /** Releases all leases. */
  async close(): Promise<void> {
    this.stopListening();
    await this.#router?.close();
  }
}

function newLogThrottle(): LogThrottle {
  return new LogThrottle(LOG_INTERVAL_MS, () => performance.now());
}

function advertisedHost({ advertise, listen: { interface: address } }: ClusterConfig): string {
  return advertise?.host ?? (address === null || WILDCARD_ADDRESSES.has(address) ? ownAddress() : address);
}

/** The first address of this machine or pod that is not a loopback address; its host name if there is none. */
function ownAddress(): string {
  const all = Object.values(networkInterfaces()).flatMap((addresses) => addresses ?? []);
  const outer = all.filter(({ internal, scopeid }) => !internal && (scopeid ?? 0) === 0);
  const chosen = outer.find(({ family }) => family === 'IPv4') ?? outer[0];
  return chosen?.address ?? hostname();
}
