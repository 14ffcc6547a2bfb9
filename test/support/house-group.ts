import { randomUUID } from 'node:crypto';
import type { Server } from 'node:net';
import type { Ending } from '../../src/net/connection.ts';
import type { Elsewhere, Link, Owner } from '../../src/net/elsewhere.ts';
import type { Token } from '../../src/protocol/wire.ts';
import type { Wire } from '../../src/net/wire.ts';
import { Gate } from './gate.ts';
import { BARE_LINKS } from './group-links.ts';
import type { Links } from './group-links.ts';
import { House } from './house.ts';
import type { HouseOptions } from './house.ts';
import { until } from './scratch.ts';
import { WatchedWire } from './watched-wire.ts';

/** Who owns which token, as a coordinator has it that is never slow and never down. */
export class Owners {
  readonly #owners = new Map<Token, Owner>();
  /** Every question, as `id token`. */
  readonly asked: string[] = [];

  get size(): number {
    return this.#owners.size;
  }

  ownerOf(token: Token): Owner | null {
    return this.#owners.get(token) ?? null;
  }

  tokensOf(owner: Owner): readonly Token[] {
    return [...this.#owners].filter(([, { id }]) => id === owner.id).map(([token]) => token);
  }

  claim(token: Token, self: Owner, instead: Owner | null = null): Owner | null {
    this.asked.push(`${self.id} ${token}`);
    const owner = this.#owners.get(token) ?? null;
    if (owner === null || owner.id === self.id || owner.id === instead?.id) {
      this.#owners.set(token, self);
      return null;
    }
    return owner;
  }

  release(token: Token, self: Owner): void {
    if (this.#owners.get(token)?.id === self.id) this.#owners.delete(token);
  }

  /** Gives a token to another relay, which is not told; null: to nobody. */
  assign(token: Token, owner: Owner | null): void {
    if (owner === null) this.#owners.delete(token);
    else this.#owners.set(token, owner);
  }
}

/** One relay of a group, as the others and its own hub see it. */
export class GroupMember implements Elsewhere {
  readonly owner: Owner;
  readonly house: House;
  readonly #owners: Owners;
  readonly #server: Server;
  readonly #kind: Links;
  /** Answers about owners pass it; what they say was so when the question came. */
  readonly answers = new Gate();
  /** Calls pass it before they are made. */
  readonly journeys = new Gate();
  /** Links from and to here that are not closed. */
  readonly links: Set<Wire>;
  /** Links that were made from here. */
  calls = 0;

  private constructor(parts: {
    readonly house: House;
    readonly owners: Owners;
    readonly server: Server;
    readonly owner: Owner;
    readonly kind: Links;
    readonly links: Set<Wire>;
  }) {
    this.links = parts.links;
    this.house = parts.house;
    this.owner = parts.owner;
    this.#owners = parts.owners;
    this.#server = parts.server;
    this.#kind = parts.kind;
  }

  static async open(owners: Owners, options: HouseOptions, kind: Links): Promise<GroupMember> {
    const parts: { member: GroupMember | null } = { member: null };
    const elsewhere: Elsewhere = {
      seek: (token) => parts.member?.seek(token) ?? Promise.resolve(null),
      takeOver: (token, owner) => parts.member?.takeOver(token, owner) ?? Promise.resolve(null),
      isOwner: (token, owner) => parts.member?.isOwner(token, owner) ?? Promise.resolve(true),
      release: (token) => parts.member?.release(token),
      call: (owner) => parts.member?.call(owner) ?? Promise.reject(new Error('not open')),
    };
    const house = await House.open({ ...options, elsewhere });
    const links = new Set<Wire>();
    const server = kind.createServer(
      house.plane,
      (wire, firstBytes) => house.doors.acceptLink(new WatchedWire(wire, links), firstBytes),
      (failure) => house.faults.push(new Error(`a link has failed: ${failure}`)),
    );
    const port = await new Promise<number>((resolve) => {
      server.listen(0, '127.0.0.1', () => {
        const address = server.address();
        resolve(typeof address === 'object' && address !== null ? address.port : 0);
      });
    });
    const owner = { id: randomUUID(), address: `127.0.0.1:${port}` };
    parts.member = new GroupMember({ house, owners, server, owner, kind, links });
    return parts.member;
  }

  async seek(token: Token): Promise<Owner | null> {
    const answer = this.#owners.claim(token, this.owner);
    await this.answers.pass();
    return answer;
  }

  async takeOver(token: Token, owner: Owner): Promise<Owner | null> {
    const answer = this.#owners.claim(token, this.owner, owner);
    await this.answers.pass();
    return answer;
  }

  async isOwner(token: Token, { id }: Owner): Promise<boolean> {
    const answer = this.#owners.ownerOf(token)?.id === id;
    await this.answers.pass();
    return answer;
  }

  release(token: Token): void {
    this.#owners.release(token, this.owner);
  }

  async call({ address }: Owner): Promise<Link> {
    this.calls += 1;
    await this.journeys.pass();
    const [host = '', port = ''] = address.split(':');
    const { wire, firstBytes } = await this.#kind.call(this.house.plane, host, Number(port));
    return { wire: new WatchedWire(wire, this.links), firstBytes };
  }

  /** No more links come here. */
  stopListening(): void {
    this.#server.close();
  }

  /** The network between the relays fails. */
  cutLinks(): void {
    for (const link of this.links) link.destroy();
  }

  async close(): Promise<void> {
    this.stopListening();
    await this.house.close();
  }
}

/** Several relays as one: each client comes to the next of them. What tests of one house ask, they may ask here. */
export class HouseGroup {
  readonly members: readonly GroupMember[];
  readonly owners: Owners;
  #turn = 0;

  private constructor(members: readonly GroupMember[], owners: Owners) {
    this.members = members;
    this.owners = owners;
  }

  /** @param only what one relay has besides, by its place */
  static async open(
    count: number,
    options: HouseOptions = {},
    only: Readonly<Record<number, HouseOptions>> = {},
    links = BARE_LINKS,
  ): Promise<HouseGroup> {
    const owners = new Owners();
    const members: GroupMember[] = [];
    for (let each = 0; each < count; each += 1)
      members.push(await GroupMember.open(owners, { ...options, ...only[each] }, links));
    return new HouseGroup(members, owners);
  }

  get houses(): readonly House[] {
    return this.members.map(({ house }) => house);
  }

  get endings(): readonly Ending[] {
    return this.houses.flatMap(({ endings }) => endings);
  }

  forgetEndings(): void {
    for (const { endings } of this.houses) endings.length = 0;
  }

  /**
   * Where the next client comes to.
   *
   * @param at or one who wants to come there, counted around
   */
  next(at?: number): House {
    if (at !== undefined) return this.member(at).house;
    this.#turn += 1;
    return this.member(this.#turn - 1).house;
  }

  member(turn: number): GroupMember {
    const member = this.members[turn % this.members.length];
    if (member === undefined) throw new Error('a group of nobody');
    return member;
  }

  async recorded(count: number): Promise<readonly Ending[]> {
    while (this.endings.length < count) await new Promise((resolve) => setTimeout(resolve, 5));
    return this.endings;
  }

  async stalled(): Promise<void> {
    await Promise.all(this.houses.map((house) => house.stalled()));
  }

  /** Clients that wait at the relay that owns their token. */
  waiting(): number {
    let waiting = 0;
    for (const { house, owner } of this.members) {
      for (const token of this.owners.tokensOf(owner))
        waiting += house.hub.clients.rendezvous.waitersOf(token).length;
    }
    return waiting;
  }

  checkConsistency(): void {
    for (const { hub } of this.houses) hub.checkConsistency();
  }

  /** Resolves when nobody is here any more, nothing is claimed, and there are no links. */
  async deserted(): Promise<void> {
    await until(() =>
      this.members.every(({ house, links }) => house.reception.connections === 0 && links.size === 0),
    );
    await until(() => this.owners.size === 0);
    this.checkConsistency();
  }

  sum(figure: (house: House) => number): number {
    return this.houses.reduce((total, house) => total + figure(house), 0);
  }

  async close(): Promise<void> {
    for (const member of this.members) await member.close();
  }
}
