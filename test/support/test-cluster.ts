import { randomUUID } from 'node:crypto';
import type { Server } from 'node:net';
import { Forwarder } from '../../src/cluster/forwarder.ts';
import type { ForwardableClient } from '../../src/cluster/forwarder.ts';
import type { Link } from '../../src/cluster/link-client.ts';
import type { ClusterRouter, Owner } from '../../src/cluster/router.ts';
import type { Side, Token } from '../../src/protocol/messages.ts';
import type { SessionSummary } from '../../src/sessions/client-session.ts';
import type { ByteStream } from '../../src/transport/byte-stream.ts';
import { UNAUTHENTICATED_LINKS } from './cluster-links.ts';
import type { LinkFactory } from './cluster-links.ts';
import { until } from './scratch.ts';
import { TestRelay } from './test-relay.ts';
import type { TestRelayOptions } from './test-relay.ts';
import { TrackedStream } from './tracked-stream.ts';

/** Blocks callers of `pass` while it is shut. */
class Gate {
  #shut: Promise<void> | null = null;

  /** Resolves when it is open. */
  async pass(): Promise<void> {
    while (this.#shut !== null) await this.#shut;
  }

  /** Shuts the gate. Returns a function that opens it. */
  shut(): () => void {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#shut = promise;
    return () => {
      this.#shut = null;
      resolve();
    };
  }
}

/** Leases of tokens in memory, like a coordinator that is never slow and never down. */
export class InMemoryLeases {
  readonly #leases = new Map<Token, Owner>();
  /** Every request, as `id token`. */
  readonly requests: string[] = [];

  get size(): number {
    return this.#leases.size;
  }

  ownerOf(token: Token): Owner | null {
    return this.#leases.get(token) ?? null;
  }

  tokensOf(owner: Owner): readonly Token[] {
    return [...this.#leases].filter(([, { id }]) => id === owner.id).map(([token]) => token);
  }

  acquire(token: Token, self: Owner, instead: Owner | null = null): Owner | null {
    this.requests.push(`${self.id} ${token}`);
    const owner = this.#leases.get(token) ?? null;
    if (owner === null || owner.id === self.id || owner.id === instead?.id) {
      this.#leases.set(token, self);
      return null;
    }
    return owner;
  }

  release(token: Token, self: Owner): void {
    if (this.#leases.get(token)?.id === self.id) this.#leases.delete(token);
  }

  /** Gives a token to another relay without notifying it; null: removes its owner. */
  assign(token: Token, owner: Owner | null): void {
    if (owner === null) this.#leases.delete(token);
    else this.#leases.set(token, owner);
  }
}

/** One relay of a cluster, as the other relays and its own session manager see it. */
export class TestClusterMember implements ClusterRouter {
  readonly owner: Owner;
  readonly relay: TestRelay;
  readonly #leases: InMemoryLeases;
  readonly #server: Server;
  readonly #linkFactory: LinkFactory;
  /** Delays replies about owners. They have the state at the time of the request. */
  readonly ownerGate = new Gate();
  /** Delays connection attempts before they start. */
  readonly connectGate = new Gate();
  /** Open links from and to this relay. */
  readonly links: Set<ByteStream>;
  /** Links that this relay has opened. */
  connects = 0;

  private constructor(parts: {
    readonly relay: TestRelay;
    readonly leases: InMemoryLeases;
    readonly server: Server;
    readonly owner: Owner;
    readonly linkFactory: LinkFactory;
    readonly links: Set<ByteStream>;
  }) {
    this.links = parts.links;
    this.relay = parts.relay;
    this.owner = parts.owner;
    this.#leases = parts.leases;
    this.#server = parts.server;
    this.#linkFactory = parts.linkFactory;
  }

  static async open(
    leases: InMemoryLeases,
    options: TestRelayOptions,
    linkFactory: LinkFactory,
  ): Promise<TestClusterMember> {
    const parts: { member: TestClusterMember | null } = { member: null };
    const router: ClusterRouter = {
      createForwarder: (client, token, side) => new Forwarder(client, router, token, side),
      resolveOwner: (token) => parts.member?.resolveOwner(token) ?? Promise.resolve(null),
      takeOver: (token, owner) => parts.member?.takeOver(token, owner) ?? Promise.resolve(null),
      isOwner: (token, owner) => parts.member?.isOwner(token, owner) ?? Promise.resolve(true),
      release: (token) => parts.member?.release(token),
      connect: (owner) => parts.member?.connect(owner) ?? Promise.reject(new Error('not open')),
    };
    const relay = await TestRelay.open({ ...options, clusterRouter: router });
    const links = new Set<ByteStream>();
    const server = linkFactory.createServer(
      relay.backend,
      (stream, firstBytes) => relay.acceptor.acceptLink(new TrackedStream(stream, links), firstBytes),
      (failure) => relay.internalErrors.push(new Error(`rejected link: ${failure}`)),
    );
    const port = await new Promise<number>((resolve) => {
      server.listen(0, '127.0.0.1', () => {
        const address = server.address();
        resolve(typeof address === 'object' && address !== null ? address.port : 0);
      });
    });
    const owner = { id: randomUUID(), address: `127.0.0.1:${port}` };
    parts.member = new TestClusterMember({ relay, leases, server, owner, linkFactory, links });
    return parts.member;
  }

  createForwarder(client: ForwardableClient, token: Token, side: Side | null): Forwarder {
    return new Forwarder(client, this, token, side);
  }

  async resolveOwner(token: Token): Promise<Owner | null> {
    const answer = this.#leases.acquire(token, this.owner);
    await this.ownerGate.pass();
    return answer;
  }

  async takeOver(token: Token, owner: Owner): Promise<Owner | null> {
    const answer = this.#leases.acquire(token, this.owner, owner);
    await this.ownerGate.pass();
    return answer;
  }

  async isOwner(token: Token, { id }: Owner): Promise<boolean> {
    const answer = this.#leases.ownerOf(token)?.id === id;
    await this.ownerGate.pass();
    return answer;
  }

  release(token: Token): void {
    this.#leases.release(token, this.owner);
  }

  async connect({ address }: Owner): Promise<Link> {
    this.connects += 1;
    await this.connectGate.pass();
    const [host = '', port = ''] = address.split(':');
    const { stream, firstBytes } = await this.#linkFactory.connect(this.relay.backend, host, Number(port));
    return { stream: new TrackedStream(stream, this.links), firstBytes };
  }

  /** Stops accepting links. */
  stopListening(): void {
    this.#server.close();
  }

  /** Aborts all links, as if the network between the relays failed. */
  cutLinks(): void {
    for (const link of this.links) link.abort();
  }

  async close(): Promise<void> {
    this.stopListening();
    await this.relay.close();
  }
}

/** A cluster in one process. Each client connects to the next relay. It has the methods of `TestRelay` that suites use. */
export class TestCluster {
  readonly members: readonly TestClusterMember[];
  readonly leases: InMemoryLeases;
  #turn = 0;

  private constructor(members: readonly TestClusterMember[], leases: InMemoryLeases) {
    this.members = members;
    this.leases = leases;
  }

  /** @param only additional options of single relays, by index */
  static async open(
    count: number,
    options: TestRelayOptions = {},
    only: Readonly<Record<number, TestRelayOptions>> = {},
    links = UNAUTHENTICATED_LINKS,
  ): Promise<TestCluster> {
    const leases = new InMemoryLeases();
    const members: TestClusterMember[] = [];
    for (let each = 0; each < count; each += 1)
      members.push(await TestClusterMember.open(leases, { ...options, ...only[each] }, links));
    return new TestCluster(members, leases);
  }

  get relays(): readonly TestRelay[] {
    return this.members.map(({ relay }) => relay);
  }

  get summaries(): readonly SessionSummary[] {
    return this.relays.flatMap(({ summaries }) => summaries);
  }

  clearSummaries(): void {
    for (const { summaries } of this.relays) summaries.length = 0;
  }

  /**
   * The relay for the next client.
   *
   * @param at index of a certain relay instead, modulo the number of relays
   */
  next(at?: number): TestRelay {
    if (at !== undefined) return this.member(at).relay;
    this.#turn += 1;
    return this.member(this.#turn - 1).relay;
  }

  member(turn: number): TestClusterMember {
    const member = this.members[turn % this.members.length];
    if (member === undefined) throw new Error('a cluster without relays');
    return member;
  }

  async waitForRecords(count: number): Promise<readonly SessionSummary[]> {
    while (this.summaries.length < count) await new Promise((resolve) => setTimeout(resolve, 5));
    return this.summaries;
  }

  async untilStalled(quietMs?: number): Promise<void> {
    await Promise.all(this.relays.map((relay) => relay.untilStalled(quietMs)));
  }

  /** Number of clients that wait at the relay that owns their token. */
  waiting(): number {
    let waiting = 0;
    for (const { relay, owner } of this.members) {
      for (const token of this.leases.tokensOf(owner))
        waiting += relay.sessions.clients.rendezvous.waitersOf(token).length;
    }
    return waiting;
  }

  checkConsistency(): void {
    for (const { sessions } of this.relays) sessions.checkConsistency();
  }

  /** Resolves when no connection, lease or link remains. */
  async untilEmpty(): Promise<void> {
    await until(() =>
      this.members.every(({ relay, links }) => relay.admission.connections === 0 && links.size === 0),
    );
    await until(() => this.leases.size === 0);
    this.checkConsistency();
  }

  sum(figure: (relay: TestRelay) => number): number {
    return this.relays.reduce((total, relay) => total + figure(relay), 0);
  }

  async close(): Promise<void> {
    for (const member of this.members) await member.close();
  }
}
