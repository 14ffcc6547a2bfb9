import { randomUUID } from 'node:crypto';
import { isIPv6 } from 'node:net';
import type { Server } from 'node:net';
import { hostname, networkInterfaces } from 'node:os';
import type { Logger } from 'pino';
import { coordinatorHint } from './cluster/claim-connection.ts';
import { Cluster } from './cluster/cluster.ts';
import { LinkDoor } from './cluster/link-door.ts';
import type { LinkFailure } from './cluster/link-guest.ts';
import { LinkTls } from './cluster/link-tls.ts';
import { PeerNetworks } from './cluster/peer-networks.ts';
import { EVERYWHERE } from './config/cluster-config.ts';
import type { ClusterConfig } from './config/cluster-config.ts';
import { Seldom } from './logging.ts';
import type { DataPlane } from './net/data-plane.ts';
import type { Doors } from './net/doors.ts';
import { formatEndpoint } from './net/endpoint.ts';
import type { Hub } from './net/hub.ts';
import { listen } from './net/listener.ts';
import type { RelayFigures } from './status/relay-figures.ts';

/** Links that did not come about are told of so often at most, in milliseconds. */
const TELL_MS = 60_000;

export interface ClusterHouse {
  readonly hub: Hub;
  readonly doors: Doors;
  readonly plane: DataPlane;
}

/** The group of relays that this one belongs to, and what the log says of it. Loaded where there is a group alone. */
export class RelayCluster {
  readonly #config: ClusterConfig;
  readonly #house: ClusterHouse;
  readonly #log: Logger;
  readonly #door: LinkDoor;
  readonly #server: Server;
  readonly #tls: LinkTls | null;
  /** Where the other relays find this one. */
  readonly #host: string;
  readonly #networks: PeerNetworks;
  #cluster: Cluster | null = null;

  constructor(config: ClusterConfig, house: ClusterHouse, log: Logger) {
    this.#config = config;
    this.#house = house;
    this.#log = log;
    const { plane, doors } = house;
    this.#tls = config.tls ? new LinkTls(config.secret) : null;
    this.#host = hostOf(config);
    this.#networks = new PeerNetworks(config.networks, this.#host);
    const seldom = newSeldom();
    this.#door = new LinkDoor({
      plane,
      secret: config.secret,
      tls: this.#tls,
      networks: this.#networks,
      arrived: (wire, firstBytes) => doors.acceptLink(wire, firstBytes),
      failed: (failure: LinkFailure) => {
        if (failure === 'closed') return;
        seldom.happened((times) =>
          log.warn({ failure, times }, 'who came to RELAY_CLUSTER_LISTEN was no relay of this group'),
        );
      },
    });
    this.#server = this.#door.createServer();
    // Who could not be accepted calls again; it must not end the relay.
    this.#server.on('error', () => undefined);
  }

  /**
   * Listens for other relays, and claims from then on. It does not wait for the coordinator.
   *
   * @throws ListenError
   */
  async open(): Promise<void> {
    const { hub, plane } = this.#house;
    const { url, secret, listen: endpoint, advertise } = this.#config;
    const bound = await listen(this.#server, endpoint);
    if (bound.kind !== 'tcp') throw new Error('the cluster listener is no TCP listener');
    const host = this.#host;
    const port = advertise?.port ?? bound.port;
    const [seldomFailed, seldomTaken, seldomOther] = [newSeldom(), newSeldom(), newSeldom()];
    const self = { id: randomUUID(), address: `${isIPv6(host) ? `[${host}]` : host}:${port}` };
    const cluster = new Cluster({
      url,
      secret,
      self,
      plane,
      tls: this.#tls,
      networks: this.#networks,
      callFailed: (failure, owner) =>
        seldomFailed.happened((times) =>
          this.#log.warn({ relay: owner.address, failure, times }, 'another relay could not be called'),
        ),
      addressTaken: () =>
        seldomTaken.happened((times) =>
          this.#log.error(
            { advertise: self.address, times },
            'another relay of the group has the same address: set RELAY_CLUSTER_ADVERTISE',
          ),
        ),
      events: {
        otherGroup: () =>
          seldomOther.happened(() =>
            this.#log.error(
              'a relay that uses the same coordinator has another RELAY_CLUSTER_SECRET: clients that come to it are not found',
            ),
          ),
        lost: (token, owner) => hub.callAway(token, owner),
        up: () => this.#log.info('the coordinator answers: clients meet whichever relay they come to'),
        down: (code) =>
          this.#log.warn(
            { code, hint: coordinatorHint(code) },
            'the coordinator does not answer: only clients that come to this relay meet here, until it does',
          ),
      },
    });
    this.#cluster = cluster;
    hub.elsewhere = cluster;
    this.#log.info(
      { role: 'cluster', endpoint: formatEndpoint(bound), advertise: self.address },
      'listening',
    );
  }

  /** Null before `open`. */
  figures(): RelayFigures['cluster'] {
    if (this.#cluster === null) return null;
    const { claims, calls } = this.#cluster;
    return {
      isUp: claims.isUp,
      claims: claims.held,
      commands: claims.totals.commands,
      lostClaims: claims.totals.lost,
      otherSecrets: claims.totals.otherGroups,
      calls: calls.made,
      failedCalls: {
        version: calls.failed.version,
        secret: calls.failed.secret,
        not_a_relay: calls.failed['not a relay'],
        tls: calls.failed.tls,
        address: calls.failed.address,
        unreachable: calls.failed.unreachable,
        timeout: calls.failed.timeout,
      },
    };
  }

  /** No more links come. */
  stopListening(): void {
    this.#server.close();
    this.#door.close();
  }

  /** Releases what is claimed. */
  async close(): Promise<void> {
    this.stopListening();
    await this.#cluster?.close();
  }
}

function newSeldom(): Seldom {
  return new Seldom(TELL_MS, () => performance.now());
}

function hostOf({ advertise, listen: { interface: address } }: ClusterConfig): string {
  return advertise?.host ?? (address === null || EVERYWHERE.has(address) ? ownAddress() : address);
}

/** The first address of this machine, or pod, that is not its loopback; its name where there is none. */
function ownAddress(): string {
  const all = Object.values(networkInterfaces()).flatMap((addresses) => addresses ?? []);
  const outer = all.filter(({ internal, scopeid }) => !internal && (scopeid ?? 0) === 0);
  const chosen = outer.find(({ family }) => family === 'IPv4') ?? outer[0];
  return chosen?.address ?? hostname();
}
