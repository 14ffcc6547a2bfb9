import { LinkedSet } from './linked-set.ts';
import type { Linked } from './linked-set.ts';

/** Members of the same network. Linked with the other networks of its size. */
interface Network<Member> extends Linked<Network<Member>> {
  readonly key: string;
  readonly entries: LinkedSet<Entry<Member>>;
}

/** The entry of one member. `network` is null if it is unknown. */
export interface Entry<Member> extends Linked<Entry<Member>> {
  readonly member: Member;
  readonly network: Network<Member> | null;
}

/**
 * Finds the member to evict when a new one needs its slot: the oldest member of the largest network. A new
 * member whose network has no other member always gets a slot. Otherwise a member is evicted only if that
 * makes the shares more equal, so that a network cannot take slots from smaller ones.
 *
 * Members of unknown networks (Unix sockets, proxies that hide addresses, other relays) count as one network.
 * They are never evicted, because any of them may be harmless. A new one of them does not count as the first
 * of its network.
 *
 * Every operation takes constant time. Memory: an entry per member, and an object per network with members.
 */
export class EvictionIndex<Member> {
  readonly #networks = new Map<string, Network<Member>>();
  /** Networks by size. In each list, the network that has had this size for longest is first. */
  readonly #bySize: LinkedSet<Network<Member>>[] = [];
  #largest = 0;
  #unknown = 0;

  /** @param key of the member's network; null: unknown */
  add(key: string | null, member: Member): Entry<Member> {
    if (key === null) {
      this.#unknown += 1;
      return { member, network: null, previous: null, next: null };
    }
    const network = this.#networkFor(key);
    const entry = { member, network, previous: null, next: null };
    this.#unlink(network);
    network.entries.add(entry);
    this.#link(network);
    return entry;
  }

  /** Each entry must be removed once. */
  remove(entry: Entry<Member>): void {
    const { network } = entry;
    if (network === null) {
      this.#unknown -= 1;
      return;
    }
    this.#unlink(network);
    network.entries.delete(entry);
    if (network.entries.size === 0) this.#networks.delete(network.key);
    else this.#link(network);
    while (this.#largest > 0 && this.#networksOfSize(this.#largest).size === 0) this.#largest -= 1;
  }

  /** Null: the network of the new member has about as many members as any other, or more. */
  victimFor(key: string | null): Member | null {
    const own = key === null ? this.#unknown : (this.#networks.get(key)?.entries.size ?? 0);
    const isFirst = own === 0 && key !== null;
    if (this.#largest <= (isFirst ? 0 : own + 1)) return null;
    return this.#networksOfSize(this.#largest).first?.entries.first?.member ?? null;
  }

  #networkFor(key: string): Network<Member> {
    const known = this.#networks.get(key);
    if (known !== undefined) return known;
    const network: Network<Member> = { key, entries: new LinkedSet(), previous: null, next: null };
    this.#networks.set(key, network);
    return network;
  }

  #unlink(network: Network<Member>): void {
    if (network.entries.size > 0) this.#networksOfSize(network.entries.size).delete(network);
  }

  #link(network: Network<Member>): void {
    const { size } = network.entries;
    this.#networksOfSize(size).add(network);
    this.#largest = Math.max(this.#largest, size);
  }

  #networksOfSize(size: number): LinkedSet<Network<Member>> {
    return (this.#bySize[size] ??= new LinkedSet());
  }
}
