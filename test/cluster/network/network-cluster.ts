import type { TestContext } from 'node:test';
import { withoutRedis } from '../../support/redis.ts';
import { scratch } from '../../support/scratch.ts';
import { NetworkCoordinator } from './coordinator.ts';
import { NetworkNamespaces, skipWithoutNetworkNamespaces } from './network-namespaces.ts';
import { NetworkRelay } from './network-relay.ts';
import { USERS, Users } from './users.ts';

export const SECRET = 'the secret of all relays in these tests';

/** Members of the network, beside the users. */
export const RELAYS = ['one', 'two', 'three'] as const;
export const COORDINATOR = 'coordinator';
export const UNTRUSTED = 'stranger';

/** Why there can be no site, for a test to be skipped; false where there can be one. */
export function skipWithoutNetworkCluster(): string | false {
  const missing = withoutRedis();
  return missing === false ? skipWithoutNetworkNamespaces() : missing;
}

type Settings = Readonly<Record<string, string>>;

/** Three relays of one group, their coordinator and who comes to them, each in a network of its own. */
export class NetworkCluster {
  readonly network: NetworkNamespaces;
  readonly coordinator: NetworkCoordinator;
  readonly one: NetworkRelay;
  readonly two: NetworkRelay;
  readonly three: NetworkRelay;
  readonly #directory: string;
  readonly #resources: AsyncDisposableStack;

  private constructor(
    house: AsyncDisposableStack,
    directory: string,
    network: NetworkNamespaces,
    coordinator: NetworkCoordinator,
    [one, two, three]: readonly [NetworkRelay, NetworkRelay, NetworkRelay],
  ) {
    this.#resources = house;
    this.#directory = directory;
    this.network = network;
    this.coordinator = coordinator;
    this.one = one;
    this.two = two;
    this.three = three;
  }

  /**
   * For as long as the test lasts. Resolves when the relays listen and the coordinator has answered them.
   *
   * @param settings of all relays
   * @param only what one of them has besides
   */
  static async open(
    context: TestContext,
    settings: Settings = {},
    only: Partial<Record<(typeof RELAYS)[number], Settings>> = {},
  ): Promise<NetworkCluster> {
    const directory = await scratch(context);
    const house = new AsyncDisposableStack();
    context.after(() => house.disposeAsync());
    const network = house.use(new NetworkNamespaces([COORDINATOR, ...RELAYS, ...USERS, UNTRUSTED]));
    const address = network.addressOf(COORDINATOR);
    const coordinator = house.use(
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
      return house.use(relay);
    };
    // One after the other: a program that starts is busy, and the machine may be small.
    const relays = [await start('one'), await start('two'), await start('three')] as const;
    const site = new NetworkCluster(house, directory, network, coordinator, relays);
    await Promise.all(relays.map((relay) => relay.untilLogged(/coordinator is up/u)));
    return site;
  }

  get relays(): readonly NetworkRelay[] {
    return [this.one, this.two, this.three];
  }

  /** People with real clients, for as long as the test lasts. */
  async users(): Promise<Users> {
    return this.#resources.use(await Users.start(this.network, this.#directory));
  }
}
