import { randomUUID } from 'node:crypto';
import { isIPv6 } from 'node:net';
import type { Server } from 'node:net';
import { hostname, networkInterfaces } from 'node:os';
import type { Logger } from 'pino';
import { coordinatorHint } from '../cluster/coordinator-client.ts';
import { LinkServer } from '../cluster/link-server.ts';
import type { LinkFailure } from '../cluster/link-server.ts';
import { LinkTls } from '../cluster/link-tls.ts';
import { PeerNetworks } from '../cluster/peer-networks.ts';
import { LeaseRouter } from '../cluster/router.ts';
import { WILDCARD_ADDRESSES } from '../config/cluster-config.ts';
import type { ClusterConfig } from '../config/cluster-config.ts';
import { formatEndpoint } from '../config/endpoint.ts';
import { LogThrottle } from '../process/logging.ts';
import type { Acceptor } from '../sessions/acceptor.ts';
import type { SessionManager } from '../sessions/session-manager.ts';
import type { IoBackend } from '../transport/io-backend.ts';
import { listen } from '../transport/listener.ts';

/** Links that did not come about are told of so often at most, in milliseconds. */
const LOG_INTERVAL_MS = 60_000;

export interface ClusterDependencies {
  readonly sessions: SessionManager;
  readonly acceptor: Acceptor;
  readonly backend: IoBackend;
}

/** The group of relays that this one belongs to, and what the log says of it. Loaded where there is a group alone. */
export class ClusterService {
  readonly #config: ClusterConfig;
  readonly #dependencies: ClusterDependencies;
  readonly #log: Logger;
  readonly #linkServer: LinkServer;
  readonly #server: Server;
  readonly #tls: LinkTls | null;
  /** Where the other relays find this one. */
  readonly #host: string;
  readonly #networks: PeerNetworks;
  #router: LeaseRouter | null = null;

  constructor(config: ClusterConfig, relay: ClusterDependencies, log: Logger) {
    this.#config = config;
    this.#dependencies = relay;
    this.#log = log;
    const { backend, acceptor } = relay;
    this.#tls = config.tls ? new LinkTls(config.secret) : null;
    this.#host = advertisedHost(config);
    this.#networks = new PeerNetworks(config.networks, this.#host);
    const seldom = newLogThrottle();
    this.#linkServer = new LinkServer({
      backend,
      secret: config.secret,
      tls: this.#tls,
      networks: this.#networks,
      onLink: (stream, firstBytes) => acceptor.acceptLink(stream, firstBytes),
      onRejected: (failure: LinkFailure) => {
        if (failure === 'closed') return;
        seldom.log((times) =>
          log.warn({ failure, times }, 'who came to RELAY_CLUSTER_LISTEN was no relay of this group'),
        );
      },
    });
    this.#server = this.#linkServer.createServer();
    // Who could not be accepted calls again; it must not end the relay.
    this.#server.on('error', () => undefined);
  }

  /**
   * Listens for other relays, and claims from then on. It does not wait for the coordinator.
   *
   * @throws ListenError
   */
  async open(): Promise<void> {
    const { sessions, backend } = this.#dependencies;
    const { url, secret, listen: endpoint, advertise } = this.#config;
    const bound = await listen(this.#server, endpoint);
    if (bound.kind !== 'tcp') throw new Error('the cluster listener is no TCP listener');
    const host = this.#host;
    const port = advertise?.port ?? bound.port;
    const [seldomFailed, seldomTaken, seldomOther] = [newLogThrottle(), newLogThrottle(), newLogThrottle()];
    const self = { id: randomUUID(), address: `${isIPv6(host) ? `[${host}]` : host}:${port}` };
    const cluster = new LeaseRouter({
      url,
      secret,
      self,
      backend,
      tls: this.#tls,
      networks: this.#networks,
      onConnectFailed: (failure, owner) =>
        seldomFailed.log((times) =>
          this.#log.warn({ relay: owner.address, failure, times }, 'another relay could not be called'),
        ),
      onAddressConflict: () =>
        seldomTaken.log((times) =>
          this.#log.error(
            { advertise: self.address, times },
            'another relay of the group has the same address: set RELAY_CLUSTER_ADVERTISE',
          ),
        ),
      events: {
        onSecretMismatch: () =>
          seldomOther.log(() =>
            this.#log.error(
              'a relay that uses the same coordinator has another RELAY_CLUSTER_SECRET: clients that come to it are not found',
            ),
          ),
        onLeaseLost: (token, owner) => sessions.redirectWaiting(token, owner),
        onUp: () => this.#log.info('the coordinator answers: clients meet whichever relay they come to'),
        onDown: (code) =>
          this.#log.warn(
            { code, hint: coordinatorHint(code) },
            'the coordinator does not answer: only clients that come to this relay meet here, until it does',
          ),
      },
    });
    this.#router = cluster;
    sessions.clusterRouter = cluster;
    this.#log.info(
      { role: 'cluster', endpoint: formatEndpoint(bound), advertise: self.address },
      'listening',
    );
  }

  /** Null before `open`. */
  get router(): LeaseRouter | null {
    return this.#router;
  }

  /** No more links come. */
  stopListening(): void {
    this.#server.close();
    this.#linkServer.close();
  }

  /** Releases what is claimed. */
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

/** The first address of this machine, or pod, that is not its loopback; its name where there is none. */
function ownAddress(): string {
  const all = Object.values(networkInterfaces()).flatMap((addresses) => addresses ?? []);
  const outer = all.filter(({ internal, scopeid }) => !internal && (scopeid ?? 0) === 0);
  const chosen = outer.find(({ family }) => family === 'IPv4') ?? outer[0];
  return chosen?.address ?? hostname();
}
