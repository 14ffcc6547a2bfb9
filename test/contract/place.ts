import type { RefusalReason } from '../../src/net/arrival.ts';
import type { Ending } from '../../src/net/connection.ts';
import type { Transport } from '../../src/net/peer.ts';
import { provenLinks } from '../support/group-links.ts';
import { House } from '../support/house.ts';
import type { HouseOptions } from '../support/house.ts';
import { HouseGroup } from '../support/house-group.ts';
import { until } from '../support/scratch.ts';
import type { Addresses, TestClient } from '../support/test-client.ts';

/** A relay, or several that are one, where each client comes to the next of them. */
export interface Place {
  /** How many relays: what is a limit of each there is room for so often. */
  readonly relays: number;
  /** @param at to which relay, counted around; without it, to the next */
  connect(transport: Transport, at?: number): Promise<TestClient>;
  /** Where clients of the next relay connect, or of that one. */
  addresses(at?: number): Addresses;
  /** At least so many records, of whichever relay. */
  recorded(count: number): Promise<readonly Ending[]>;
  readonly endings: readonly Ending[];
  /** What comes now has nothing to do with what was. */
  forgetEndings(): Promise<void>;
  /** Resolves when nothing has moved for a while. */
  stalled(): Promise<void>;
  checkConsistency(): void;
  /** Clients that wait where their partner will come. */
  waiting(): number;
  /** Of pairs that run; each pair counts at one relay. */
  incompleteBytes(): number;
  heldBytes(): number;
  /** Null: relays do it by themselves, seldom. */
  readonly sweep: (() => void) | null;
  close(): Promise<void>;
}

/** One whose relays are in this process, so that tests may look into them. */
export interface HousePlace extends Place {
  readonly houses: readonly House[];
  /** Resolves when nobody is left of whom any relay knows, and no token is claimed. */
  deserted(): Promise<void>;
  /** The network between the relays fails. Null where there is none. */
  readonly cutLinks: (() => void) | null;
}

/** Limits have a state of their own, so that they are made for each relay. */
export type OpenPlace = (options?: () => HouseOptions) => Promise<HousePlace>;

export function sumOf(place: HousePlace, figure: (house: House) => number): number {
  return place.houses.reduce((sum, house) => sum + figure(house), 0);
}

/** Clients that were refused for that reason, wherever. */
export function refusedIn(place: HousePlace, reason: RefusalReason): number {
  return sumOf(place, ({ reception }) => reception.refused[reason]);
}

/** Places that are taken; a client that is passed on has one at either relay. */
export function connectionsIn(place: HousePlace): number {
  return sumOf(place, ({ reception }) => reception.connections);
}

/** One relay. */
export async function oneHouse(options: () => HouseOptions = () => ({})): Promise<HousePlace> {
  const house = await House.open(options());
  return {
    relays: 1,
    houses: [house],
    connect: (transport) => house.connect(transport),
    addresses: () => house,
    recorded: (count) => house.recorded(count),
    endings: house.endings,
    forgetEndings: async () => void (house.endings.length = 0),
    stalled: () => house.stalled(),
    checkConsistency: () => house.hub.checkConsistency(),
    waiting: () => house.hub.clients.rendezvous.waitingClients,
    incompleteBytes: () => house.hub.census().incompleteBytes,
    heldBytes: () => house.hub.heldBytes,
    sweep: () => house.hub.sweep(),
    deserted: () => until(() => house.reception.connections === 0),
    cutLinks: null,
    close: () => house.close(),
  };
}

/** Several relays, each client at another one, and links between them as they really are. */
export async function manyHouses(
  count: number,
  options: () => HouseOptions = () => ({}),
  { isEncrypted = false } = {},
): Promise<HousePlace> {
  const each = Object.fromEntries(Array.from({ length: count }, (_, at) => [at, options()]));
  const group = await HouseGroup.open(count, {}, each, provenLinks(isEncrypted));
  return {
    relays: count,
    houses: group.houses,
    connect: (transport, at) => group.next(at).connect(transport),
    addresses: (at) => group.next(at),
    recorded: (records) => group.recorded(records),
    get endings() {
      return group.endings;
    },
    forgetEndings: async () => group.forgetEndings(),
    stalled: () => group.stalled(),
    checkConsistency: () => group.checkConsistency(),
    waiting: () => group.waiting(),
    incompleteBytes: () => group.sum(({ hub }) => hub.census().incompleteBytes),
    heldBytes: () => group.sum(({ hub }) => hub.heldBytes),
    sweep: () => group.houses.forEach(({ hub }) => hub.sweep()),
    deserted: () => group.deserted(),
    cutLinks: () => group.members.forEach((member) => member.cutLinks()),
    close: () => group.close(),
  };
}
