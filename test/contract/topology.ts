import type { RejectReason } from '../../src/limits/rejection-history.ts';
import type { SessionSummary } from '../../src/sessions/client-session.ts';
import type { TransportKind } from '../../src/transport/client-transport.ts';
import { authenticatedLinks } from '../support/cluster-links.ts';
import { TestRelay } from '../support/test-relay.ts';
import type { TestRelayOptions } from '../support/test-relay.ts';
import { TestCluster } from '../support/test-cluster.ts';
import { until } from '../support/scratch.ts';
import type { Addresses, TestClient } from '../support/test-client.ts';

/** One relay, or a cluster where each client connects to the next relay. */
export interface Topology {
  /** Number of relays. A limit per relay applies this many times. */
  readonly relayCount: number;
  /** @param at index of the relay, modulo their number; default: the next relay */
  connect(transport: TransportKind, at?: number): Promise<TestClient>;
  /** Addresses of the relay `at`; by default those of the next relay. */
  addresses(at?: number): Addresses;
  /** Waits for at least `count` records, of all relays. */
  waitForRecords(count: number): Promise<readonly SessionSummary[]>;
  readonly summaries: readonly SessionSummary[];
  /** Ignores all clients and records so far. */
  clearSummaries(): Promise<void>;
  /** Resolves when no byte has moved for a while, `quietMs` where that can be chosen. */
  untilStalled(quietMs?: number): Promise<void>;
  checkConsistency(): void;
  /** Waiting clients at the relay that owns their token. */
  waiting(): number;
  /** Bytes of running pairs. Each pair counts at one relay. */
  incompleteBytes(): number;
  bufferedBytes(): number;
  /** Checks for resets. Null: the relays do it themselves, at long intervals. */
  readonly sweep: (() => void) | null;
  close(): Promise<void>;
}

/** A topology with its relays in this process, so that tests can inspect them. */
export interface InProcessTopology extends Topology {
  readonly relays: readonly TestRelay[];
  /** Resolves when no relay has a client and no token is leased. */
  untilEmpty(): Promise<void>;
  /** Cuts the network between the relays. Null if there is none. */
  readonly cutLinks: (() => void) | null;
}

/** Where a suite runs. */
export interface Setup<T extends Topology = InProcessTopology> {
  /** Prefix of every test name. */
  readonly name: string;
  /**
   * With several relays, a client and its partner connect to different ones. Each relay on the path of a byte
   * has its own limits, and kernel buffers on both sides.
   */
  readonly relayCount: number;
  /** Options are created per relay, because limits have state. */
  readonly open: (options?: () => TestRelayOptions) => Promise<T>;
}

export function sumOf(topology: InProcessTopology, figure: (relay: TestRelay) => number): number {
  return topology.relays.reduce((sum, relay) => sum + figure(relay), 0);
}

/** Rejected clients with this reason, over all relays. */
export function rejectedIn(topology: InProcessTopology, reason: RejectReason): number {
  return sumOf(topology, ({ admission }) => admission.rejected[reason]);
}

/** Used connection slots. A forwarded client uses one at each of two relays. */
export function connectionsIn(topology: InProcessTopology): number {
  return sumOf(topology, ({ admission }) => admission.connections);
}

/** One relay. */
export async function oneRelay(options: () => TestRelayOptions = () => ({})): Promise<InProcessTopology> {
  const relay = await TestRelay.open(options());
  return {
    relayCount: 1,
    relays: [relay],
    connect: (transport) => relay.connect(transport),
    addresses: () => relay,
    waitForRecords: (count) => relay.waitForRecords(count),
    summaries: relay.summaries,
    clearSummaries: async () => void (relay.summaries.length = 0),
    untilStalled: (quietMs) => relay.untilStalled(quietMs),
    checkConsistency: () => relay.sessions.checkConsistency(),
    waiting: () => relay.sessions.clients.rendezvous.waitingClients,
    incompleteBytes: () => relay.sessions.liveCounts().incompleteBytes,
    bufferedBytes: () => relay.sessions.bufferedBytes,
    sweep: () => relay.sessions.sweep(),
    untilEmpty: () => until(() => relay.admission.connections === 0),
    cutLinks: null,
    close: () => relay.close(),
  };
}

/** Several relays with real links between them. Each client connects to the next relay. */
export async function manyRelays(
  count: number,
  options: () => TestRelayOptions = () => ({}),
  { isEncrypted = false } = {},
): Promise<InProcessTopology> {
  const each = Object.fromEntries(Array.from({ length: count }, (_, at) => [at, options()]));
  const cluster = await TestCluster.open(count, {}, each, authenticatedLinks(isEncrypted));
  return {
    relayCount: count,
    relays: cluster.relays,
    connect: (transport, at) => cluster.next(at).connect(transport),
    addresses: (at) => cluster.next(at),
    waitForRecords: (records) => cluster.waitForRecords(records),
    get summaries() {
      return cluster.summaries;
    },
    clearSummaries: async () => cluster.clearSummaries(),
    untilStalled: (quietMs) => cluster.untilStalled(quietMs),
    checkConsistency: () => cluster.checkConsistency(),
    waiting: () => cluster.waiting(),
    incompleteBytes: () => cluster.sum(({ sessions }) => sessions.liveCounts().incompleteBytes),
    bufferedBytes: () => cluster.sum(({ sessions }) => sessions.bufferedBytes),
    sweep: () => cluster.relays.forEach(({ sessions }) => sessions.sweep()),
    untilEmpty: () => cluster.untilEmpty(),
    cutLinks: () => cluster.members.forEach((member) => member.cutLinks()),
    close: () => cluster.close(),
  };
}
