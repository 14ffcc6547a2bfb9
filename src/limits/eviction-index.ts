/** Members of the same network, the oldest first. */
interface Network<Member> {
  readonly key: string;
  readonly members: LinkedList<Member>;
  /** Its node in the list of networks of its size. Null while it is empty. */
  node: Node<Network<Member>> | null;
}

/** The entry of one member. `network` is null if it is unknown. */
export type Entry<Member> =
  { readonly network: Network<Member>; readonly node: Node<Member> } | { readonly network: null };

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
  readonly #bySize: LinkedList<Network<Member>>[] = [];
  #largest = 0;
  #unknown = 0;

  /** @param key of the member's network; null: unknown */
  add(key: string | null, member: Member): Entry<Member> {
    if (key === null) {
      this.#unknown += 1;
      return { network: null };
    }
    const network = this.#networks.get(key) ?? { key, members: new LinkedList(), node: null };
    this.#networks.set(key, network);
    this.#unlink(network);
    const node = network.members.append(member);
    this.#link(network);
    return { network, node };
  }

  /** Each entry must be removed once. */
  remove(entry: Entry<Member>): void {
    const { network } = entry;
    if (network === null) {
      this.#unknown -= 1;
      return;
    }
    this.#unlink(network);
    network.members.remove(entry.node);
    if (network.members.size === 0) this.#networks.delete(network.key);
    else this.#link(network);
    while (this.#largest > 0 && this.#networksOfSize(this.#largest).size === 0) this.#largest -= 1;
  }

  /** Null: the network of the new member has about as many members as any other, or more. */
  victimFor(key: string | null): Member | null {
    const own = key === null ? this.#unknown : (this.#networks.get(key)?.members.size ?? 0);
    const isFirst = own === 0 && key !== null;
    if (this.#largest <= (isFirst ? 0 : own + 1)) return null;
    return this.#networksOfSize(this.#largest).first?.members.first ?? null;
  }

  #unlink(network: Network<Member>): void {
    if (network.node !== null) this.#networksOfSize(network.members.size).remove(network.node);
    network.node = null;
  }

  #link(network: Network<Member>): void {
    const { size } = network.members;
    network.node = this.#networksOfSize(size).append(network);
    this.#largest = Math.max(this.#largest, size);
  }

  #networksOfSize(size: number): LinkedList<Network<Member>> {
    return (this.#bySize[size] ??= new LinkedList());
  }
}

interface Node<Value> {
  readonly value: Value;
  previous: Node<Value> | null;
  next: Node<Value> | null;
}

/**
 * A doubly linked list. A `Set` is no substitute: finding its first element takes longer the more elements
 * were deleted before it (30 µs with 10,000 members).
 */
class LinkedList<Value> {
  #first: Node<Value> | null = null;
  #last: Node<Value> | null = null;
  #size = 0;

  get size(): number {
    return this.#size;
  }

  get first(): Value | null {
    return this.#first?.value ?? null;
  }

  append(value: Value): Node<Value> {
    const node: Node<Value> = { value, previous: this.#last, next: null };
    if (this.#last === null) this.#first = node;
    else this.#last.next = node;
    this.#last = node;
    this.#size += 1;
    return node;
  }

  remove({ previous, next }: Node<Value>): void {
    if (previous === null) this.#first = next;
    else previous.next = next;
    if (next === null) this.#last = previous;
    else next.previous = previous;
    this.#size -= 1;
  }
}
