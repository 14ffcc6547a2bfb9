import type { TestContext } from 'node:test';
import { withoutRedis } from '../../../support/redis.ts';
import { scratch } from '../../../support/scratch.ts';
import { NetworkCoordinator } from './coordinator.ts';
import { NetworkNamespaces, skipWithoutNetworkNamespaces } from './network-namespaces.ts';
import { NetworkRelay } from './network-relay.ts';
import { USERS, Users } from './users.ts';

export const SECRET = 'the secret of all relays in these tests';

/** Hosts of the network, in addition to the users. */
export const RELAYS = ['one', 'two', 'three'] as const;
export const COORDINATOR = 'coordinator';
export const UNTRUSTED = 'untrusted';

/** The reason to skip tests that need network namespaces and Redis; false if both are available. */
export function skipWithoutNetworkCluster(): string | false {
  const missing = withoutRedis();
  return missing === false ? skipWithoutNetworkNamespaces() : missing;
}

type Settings = Readonly<Record<string, string>>;

/**
 * Three relays of one cluster, their coordinator, users and an untrusted host, each in its own network
 * namespace.
 */
export class NetworkCluster {
  readonly network: NetworkNamespaces;
  readonly coordinator: NetworkCoordinator;
  readonly one: NetworkRelay;
  readonly two: NetworkRelay;
  readonly three: NetworkRelay;
  readonly #directory: string;
  readonly #resources: AsyncDisposableStack;

  private constructor(
    resources: AsyncDisposableStack,
    directory: string,
    network: NetworkNamespaces,
    coordinator: NetworkCoordinator,
    [one, two, three]: readonly [NetworkRelay, NetworkRelay, NetworkRelay],
  ) {
    this.#resources = resources;
    this.#directory = directory;
    this.network = network;
    this.coordinator = coordinator;
    this.one = one;
    this.two = two;
    this.three = three;
  }

  /**
   * Is closed with the test. Resolves when the relays listen and are connected to the coordinator.
   *
   * @param settings of all relays
   * @param only additional settings of single relays
   */
  static async open(
    context: TestContext,
    settings: Settings = {},
    only: Partial<Record<(typeof RELAYS)[number], Settings>> = {},
  ): Promise<NetworkCluster> {
    const directory = await scratch(context);
    const resources = new AsyncDisposableStack();
    context.after(() => resources.disposeAsync());
    const network = resources.use(new NetworkNamespaces([COORDINATOR, ...RELAYS, ...USERS, UNTRUSTED]));
    const address = network.addressOf(COORDINATOR);
    const coordinator = resources.use(
      new NetworkCoordinator(address, network.commandPrefix(COORDINATOR), directory),
    );
    await coordinator.start();
    const start = async (name: (typeof RELAYS)[number]): Promise<NetworkRelay> => {
      const relay = await NetworkRelay.start(network, name, directory, {
        RELAY_CLUSTER_URL: coordinator.url,
        RELAY_CLUSTER_SECRET: SECRET,
        ...settings,
        ...only[name],
      });
      return resources.use(relay);
    };
    // One after the other: programs use much CPU while they start, and the machine may be small.
    const relays = [await start('one'), await start('two'), await start('three')] as const;
    const cluster = new NetworkCluster(resources, directory, network, coordinator, relays);
    await Promise.all(relays.map((relay) => relay.waitForLog(/coordinator is up/u)));
    return cluster;
  }

  get relays(): readonly NetworkRelay[] {
    return [this.one, this.two, this.three];
  }

  /** Starts real clients; they are closed with the test. */
  async users(): Promise<Users> {
    return this.#resources.use(await Users.start(this.network, this.#directory));
  }
}
