import { randomUUID } from 'node:crypto';
import { isIPv6 } from 'node:net';
import type { Server } from 'node:net';
import { hostname, networkInterfaces } from 'node:os';
import { coordinatorHint } from '../cluster/coordinator-client.ts';
import { LinkTls, linkAuthKey } from '../cluster/link-auth.ts';
import { PeerNetworks } from '../cluster/link-client.ts';
import { LinkServer } from '../cluster/link-server.ts';
import { LeaseRouter } from '../cluster/router.ts';
import { WILDCARD_ADDRESSES } from '../config/cluster-config.ts';
import type { ClusterConfig } from '../config/cluster-config.ts';
import { formatEndpoint } from '../config/endpoint.ts';
import { LogThrottle } from '../process/logging.ts';
import type { Log } from '../process/logging.ts';
import type { Acceptor } from '../sessions/acceptor.ts';
import type { SessionManager } from '../sessions/session-manager.ts';
import type { IoBackend } from '../transport/io-backend.ts';
import { listen } from '../transport/listener.ts';
import type { Warnings } from './warnings.ts';

/** Shortest time between two log lines about failed links, in milliseconds. */
const LOG_INTERVAL_MS = 60_000;

/** A wrong configuration of the cluster is noticed again within this time, in milliseconds. */
const CLUSTER_WARNING_MS = 600_000;

interface ClusterDependencies {
  readonly sessions: SessionManager;
  readonly acceptor: Acceptor;
  readonly backend: IoBackend;
  readonly warnings: Warnings;
}

/** Makes the relay part of a cluster, and logs its state. Only loaded if there is a cluster. */
export class ClusterService {
  readonly router: LeaseRouter;
  readonly #linkServer: LinkServer;
  readonly #server: Server;

  private constructor(router: LeaseRouter, linkServer: LinkServer, server: Server) {
    this.router = router;
    this.#linkServer = linkServer;
    this.#server = server;
  }

  /**
   * Listens for other relays, and leases tokens from then on. It does not wait for the coordinator.
   *
   * @throws ListenError
   */
  static async open(
    config: ClusterConfig,
    { sessions, acceptor, backend, warnings }: ClusterDependencies,
    log: Log,
  ): Promise<ClusterService> {
    const { coordinator, secret, tls, networks, advertise } = config;
    const host = advertisedHost(config);
    const links = {
      backend,
      key: linkAuthKey(secret),
      tls: tls ? new LinkTls(secret) : null,
      networks: new PeerNetworks(networks, host),
    };
    const [rejectThrottle, connectThrottle, addressThrottle, secretThrottle] = [
      newLogThrottle(),
      newLogThrottle(),
      newLogThrottle(),
      newLogThrottle(),
    ];
    const linkServer = new LinkServer({
      ...links,
      onLink: (stream, firstBytes) => acceptor.acceptLink(stream, firstBytes),
      onRejected: (failure) => {
        if (failure === 'closed') return;
        rejectThrottle.log((times) =>
          log.warn(
            { event: 'cluster_peer_rejected', failure, times },
            'rejected cluster connection: peer failed to authenticate',
          ),
        );
      },
    });
    const raisingLog = warnings.raising(log, CLUSTER_WARNING_MS);
    const server = linkServer.createServer();
    // A peer that could not be accepted connects again; the error must not stop the relay.
    server.on('error', () => undefined);
    const bound = await listen(server, config.listen);
    if (bound.kind !== 'tcp') throw new Error('the cluster listener is not a TCP listener');
    const port = advertise?.port ?? bound.port;
    const self = { id: randomUUID(), address: `${isIPv6(host) ? `[${host}]` : host}:${port}` };
    const router = new LeaseRouter({
      coordinator,
      secret,
      self,
      links,
      onConnectFailed: (failure, owner) =>
        connectThrottle.log((times) =>
          log.warn(
            { event: 'cluster_connect_failed', relay: owner.address, failure, times },
            'could not connect to another relay',
          ),
        ),
      onAddressConflict: () =>
        addressThrottle.log((times) =>
          raisingLog.error(
            { event: 'cluster_address_conflict', advertise: self.address, times },
            'another relay of the cluster advertises the same address; set RELAY_CLUSTER_ADVERTISE',
          ),
        ),
      events: {
        onSecretMismatch: () =>
          secretThrottle.log(() =>
            raisingLog.error(
              { event: 'cluster_secret_mismatch' },
              'a relay with a different RELAY_CLUSTER_SECRET uses the same coordinator; its clients cannot be paired with clients of this relay',
            ),
          ),
        onLeaseLost: (token, owner) => sessions.redirectWaiting(token, owner),
        onUp: () => {
          warnings.clear('coordinator_down');
          log.info({ event: 'coordinator_up' }, 'coordinator is up; clients are paired across relays');
        },
        onDown: (code) =>
          warnings
            .raising(log)
            .warn(
              { event: 'coordinator_down', code, hint: coordinatorHint(code) },
              'coordinator is down; clients are paired within this relay only until it is back',
            ),
      },
    });
    sessions.clusterRouter = router;
    log.info(
      { event: 'listening', role: 'cluster', endpoint: formatEndpoint(bound), advertise: self.address },
      'listening',
    );
    return new ClusterService(router, linkServer, server);
  }

  /** Accepts no more links. */
  stopListening(): void {
    this.#server.close();
    this.#linkServer.close();
  }

  /** Releases all leases. */
  async close(): Promise<void> {
    this.stopListening();
    await this.router.close();
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
