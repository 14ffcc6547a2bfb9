import type { RejectReason } from '../../src/sessions/admission-control.ts';
import type { SessionSummary } from '../../src/sessions/client-session.ts';
import type { TransportKind } from '../../src/transport/client-transport.ts';
import { authenticatedLinks } from '../support/cluster-links.ts';
import { TestRelay } from '../support/test-relay.ts';
import type { TestRelayOptions } from '../support/test-relay.ts';
import { TestCluster } from '../support/test-cluster.ts';
import { until } from '../support/scratch.ts';
import type { Addresses, TestClient } from '../support/test-client.ts';

/** A relay, or several that are one, where each client comes to the next of them. */
export interface Place {
  /** How many relays: what is a limit of each there is room for so often. */
  readonly relays: number;
  /** @param at to which relay, counted around; without it, to the next */
  connect(transport: TransportKind, at?: number): Promise<TestClient>;
  /** Where clients of the next relay connect, or of that one. */
  addresses(at?: number): Addresses;
  /** At least so many records, of whichever relay. */
  recorded(count: number): Promise<readonly SessionSummary[]>;
  readonly endings: readonly SessionSummary[];
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
  readonly houses: readonly TestRelay[];
  /** Resolves when nobody is left of whom any relay knows, and no token is claimed. */
  deserted(): Promise<void>;
  /** The network between the relays fails. Null where there is none. */
  readonly cutLinks: (() => void) | null;
}

/** Limits have a state of their own, so that they are made for each relay. */
export type OpenPlace = (options?: () => TestRelayOptions) => Promise<HousePlace>;

export function sumOf(place: HousePlace, figure: (relay: TestRelay) => number): number {
  return place.houses.reduce((sum, relay) => sum + figure(relay), 0);
}

/** Clients that were refused for that reason, wherever. */
export function refusedIn(place: HousePlace, reason: RejectReason): number {
  return sumOf(place, ({ admission }) => admission.rejected[reason]);
}

/** Places that are taken; a client that is passed on has one at either relay. */
export function connectionsIn(place: HousePlace): number {
  return sumOf(place, ({ admission }) => admission.connections);
}

/** One relay. */
export async function oneHouse(options: () => TestRelayOptions = () => ({})): Promise<HousePlace> {
  const relay = await TestRelay.open(options());
  return {
    relays: 1,
    houses: [relay],
    connect: (transport) => relay.connect(transport),
    addresses: () => relay,
    recorded: (count) => relay.waitForRecords(count),
    endings: relay.summaries,
    forgetEndings: async () => void (relay.summaries.length = 0),
    stalled: () => relay.untilStalled(),
    checkConsistency: () => relay.sessions.checkConsistency(),
    waiting: () => relay.sessions.clients.rendezvous.waitingClients,
    incompleteBytes: () => relay.sessions.liveCounts().incompleteBytes,
    heldBytes: () => relay.sessions.bufferedBytes,
    sweep: () => relay.sessions.sweep(),
    deserted: () => until(() => relay.admission.connections === 0),
    cutLinks: null,
    close: () => relay.close(),
  };
}

/** Several relays, each client at another one, and links between them as they really are. */
export async function manyHouses(
  count: number,
  options: () => TestRelayOptions = () => ({}),
  { isEncrypted = false } = {},
): Promise<HousePlace> {
  const each = Object.fromEntries(Array.from({ length: count }, (_, at) => [at, options()]));
  const cluster = await TestCluster.open(count, {}, each, authenticatedLinks(isEncrypted));
  return {
    relays: count,
    houses: cluster.relays,
    connect: (transport, at) => cluster.next(at).connect(transport),
    addresses: (at) => cluster.next(at),
    recorded: (records) => cluster.waitForRecords(records),
    get endings() {
      return cluster.summaries;
    },
    forgetEndings: async () => cluster.clearSummaries(),
    stalled: () => cluster.untilStalled(),
    checkConsistency: () => cluster.checkConsistency(),
    waiting: () => cluster.waiting(),
    incompleteBytes: () => cluster.sum(({ sessions }) => sessions.liveCounts().incompleteBytes),
    heldBytes: () => cluster.sum(({ sessions }) => sessions.bufferedBytes),
    sweep: () => cluster.relays.forEach(({ sessions }) => sessions.sweep()),
    deserted: () => cluster.untilEmpty(),
    cutLinks: () => cluster.members.forEach((member) => member.cutLinks()),
    close: () => cluster.close(),
  };
}
