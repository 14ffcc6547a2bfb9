import type { Side, Token } from './messages.ts';

/**
 * The most clients that wait under one token. A real client opens a handful of connections. Whatever happens to a token
 * happens to all of its waiters at once, so this bounds the work.
 */
export const MAX_WAITERS_PER_TOKEN = 16;

/**
 * What became of a client that named a token. `redundant` waited under the same token in vain. `replaced`: it waits, and
 * `oldest` no longer does: its token had too many waiters, and of several connections of one client the oldest is the first
 * to be dead.
 */
export type JoinResult<Client> =
  | { readonly kind: 'waiting' }
  | { readonly kind: 'replaced'; readonly oldest: Client }
  | { readonly kind: 'paired'; readonly partner: Client; readonly redundant: readonly Client[] };

interface Waiters<Client> {
  readonly side: Side | null;
  readonly clients: Set<Client>;
}

/**
 * Who waits under which token.
 *
 * Two clients match when their sides differ or one of them has none. So clients that wait under one
 * token together all have the same side, and a client without a side waits alone: whatever else arrives
 * there matches. Every question is therefore settled by one comparison, however many wait.
 *
 * Of several that would match, the newest is taken: a client that reconnects leaves older connections behind,
 * which are most likely dead.
 */
export class Rendezvous<Client> {
  readonly #startTimeOf: (client: Client) => number;
  readonly #waiters = new Map<Token, Waiters<Client>>();
  #clients = 0;

  /**
   * @param startOf when a client came to the relay, on any scale. Of clients that came at the same time, the one that arrived
   * later is the newer. So a client that comes back from another relay keeps its age.
   */
  constructor(startOf: (client: Client) => number = () => 0) {
    this.#startTimeOf = startOf;
  }

  /** Distinct tokens somebody waits under. */
  get waitingTokens(): number {
    return this.#waiters.size;
  }

  /** Clients that wait. At least as many as tokens. */
  get waitingClients(): number {
    return this.#clients;
  }

  /** Pairs `client` with one that waits under `token`, or lets it wait there. */
  join(token: Token, side: Side | null, client: Client): JoinResult<Client> {
    const waiters = this.#waiters.get(token);
    if (waiters === undefined) {
      this.#waiters.set(token, { side, clients: new Set([client]) });
      this.#clients += 1;
      return { kind: 'waiting' };
    }
    if (!this.hasPartner(token, side)) {
      waiters.clients.add(client);
      const [oldest] = waiters.clients.size > MAX_WAITERS_PER_TOKEN ? this.#sortedByAge(waiters) : [];
      if (oldest !== undefined) {
        waiters.clients.delete(oldest);
        return { kind: 'replaced', oldest };
      }
      this.#clients += 1;
      return { kind: 'waiting' };
    }
    this.#waiters.delete(token);
    this.#clients -= waiters.clients.size;
    const redundant = this.#sortedByAge(waiters);
    const partner = redundant.pop();
    if (partner === undefined) throw new Error('rendezvous: a token without a waiter');
    return { kind: 'paired', partner, redundant };
  }

  /** Whether `arrive` would find a partner. */
  hasPartner(token: Token, side: Side | null): boolean {
    const waiters = this.#waiters.get(token);
    return waiters !== undefined && (side === null || side !== waiters.side);
  }

  hasWaiters(token: Token): boolean {
    return this.#waiters.has(token);
  }

  /** Whoever waits under `token` at this moment. */
  waitersOf(token: Token): readonly Client[] {
    return [...(this.#waiters.get(token)?.clients ?? [])];
  }

  /** Takes a waiting client out. One that does not wait under `token` is left alone. */
  leave(token: Token, client: Client): void {
    const waiters = this.#waiters.get(token);
    if (waiters === undefined || !waiters.clients.delete(client)) return;
    this.#clients -= 1;
    if (waiters.clients.size === 0) this.#waiters.delete(token);
  }

  /** The oldest first. */
  #sortedByAge({ clients }: Waiters<Client>): Client[] {
    return [...clients].toSorted((one, other) => this.#startTimeOf(one) - this.#startTimeOf(other));
  }

  /** Compares the map with the counters and the invariant above. For tests. Throws where they disagree. */
  checkConsistency(): void {
    const all = new Set<Client>();
    let counted = 0;
    for (const { side, clients } of this.#waiters.values()) {
      if (clients.size === 0) throw new Error('rendezvous: a token without a waiter');
      if (clients.size > MAX_WAITERS_PER_TOKEN) throw new Error('rendezvous: too many wait for one token');
      if (side === null && clients.size > 1) throw new Error('rendezvous: unsided clients wait together');
      counted += clients.size;
      for (const client of clients) all.add(client);
    }
    if (counted !== this.#clients) throw new Error(`rendezvous: ${counted} wait, ${this.#clients} counted`);
    if (all.size !== counted) throw new Error('rendezvous: a client waits under two tokens');
  }
}
