import type { Side, Token } from './messages.ts';

/**
 * Limit of clients that wait for one token. A real client opens a handful of connections. An event of a token
 * concerns all of its waiting clients at once, so this bounds the work.
 */
export const MAX_WAITERS_PER_TOKEN = 16;

/**
 * What a client that named a token does now.
 *
 * - `waiting`: it waits
 * - `replaced`: it waits, and `oldest` no longer does, because too many clients waited for the token. Of several
 *   connections of one client, the oldest is the most likely to be dead.
 * - `paired`: `redundant` are the other clients that waited for the same token, the oldest first
 */
export type JoinResult<Client> =
  | { readonly kind: 'waiting' }
  | { readonly kind: 'replaced'; readonly oldest: Client }
  | { readonly kind: 'paired'; readonly partner: Client; readonly redundant: readonly Client[] };

interface Waiters<Client> {
  readonly side: Side | null;
  /** In the order in which they joined. Emptied when the token has no waiting client any more. */
  readonly clients: Client[];
}

/**
 * The waiting clients of each token.
 *
 * Two clients match when their sides differ or one of them has none. So all clients that wait for the same
 * token have the same side, and a client without a side waits alone, because every other client matches it.
 * Therefore one comparison is enough, however many wait.
 *
 * If several match, the newest one is paired: a client that reconnects leaves older connections behind, which
 * are most likely dead.
 */
export class Rendezvous<Client> {
  readonly #startTimeOf: (client: Client) => number;
  readonly #waiters = new Map<Token, Waiters<Client>>();
  #clients = 0;

  /**
   * @param startTimeOf when a client connected, on any scale, so that a client that returns from another
   * relay keeps its age. Of clients with the same time, the one that joined later is the newer.
   */
  constructor(startTimeOf: (client: Client) => number = () => 0) {
    this.#startTimeOf = startTimeOf;
  }

  /** Distinct tokens with waiting clients. */
  get waitingTokens(): number {
    return this.#waiters.size;
  }

  /** Waiting clients, at least as many as tokens. */
  get waitingClients(): number {
    return this.#clients;
  }

  /** Pairs `client` with one that waits for `token`, or adds it to the waiting clients. */
  join(token: Token, side: Side | null, client: Client): JoinResult<Client> {
    const waiters = this.#waiters.get(token);
    if (waiters === undefined) {
      this.#waiters.set(token, { side, clients: [client] });
      this.#clients += 1;
      return { kind: 'waiting' };
    }
    if (!this.hasPartner(token, side)) {
      waiters.clients.push(client);
      const [oldest] = waiters.clients.length > MAX_WAITERS_PER_TOKEN ? this.#sortedByAge(waiters) : [];
      if (oldest !== undefined) {
        removeFrom(waiters.clients, oldest);
        return { kind: 'replaced', oldest };
      }
      this.#clients += 1;
      return { kind: 'waiting' };
    }
    this.#waiters.delete(token);
    this.#clients -= waiters.clients.length;
    const redundant = this.#sortedByAge(waiters);
    // V8 may keep what was deleted from a map until it collects the old generation.
    waiters.clients.length = 0;
    const partner = redundant.pop();
    if (partner === undefined) throw new Error('rendezvous: token has no waiting client');
    return { kind: 'paired', partner, redundant };
  }

  /** Whether `join` would find a partner. */
  hasPartner(token: Token, side: Side | null): boolean {
    const waiters = this.#waiters.get(token);
    return waiters !== undefined && (side === null || side !== waiters.side);
  }

  hasWaiters(token: Token): boolean {
    return this.#waiters.has(token);
  }

  /** The clients that wait for `token` at this moment. */
  waitersOf(token: Token): readonly Client[] {
    return [...(this.#waiters.get(token)?.clients ?? [])];
  }

  /** Removes a waiting client. Does nothing if it does not wait for `token`. */
  leave(token: Token, client: Client): void {
    const waiters = this.#waiters.get(token);
    if (waiters === undefined || !removeFrom(waiters.clients, client)) return;
    this.#clients -= 1;
    if (waiters.clients.length === 0) this.#waiters.delete(token);
  }

  /** The oldest first. */
  #sortedByAge({ clients }: Waiters<Client>): Client[] {
    return clients.toSorted((one, other) => this.#startTimeOf(one) - this.#startTimeOf(other));
  }

  /** For tests: compares the map with the counters and the invariant above. Throws if they disagree. */
  checkConsistency(): void {
    const all = new Set<Client>();
    let counted = 0;
    for (const { side, clients } of this.#waiters.values()) {
      if (clients.length === 0) throw new Error('rendezvous: token has no waiting client');
      if (clients.length > MAX_WAITERS_PER_TOKEN)
        throw new Error('rendezvous: too many clients wait for one token');
      if (side === null && clients.length > 1)
        throw new Error('rendezvous: clients without a side wait together');
      counted += clients.length;
      for (const client of clients) all.add(client);
    }
    if (counted !== this.#clients)
      throw new Error(`rendezvous: ${counted} clients wait, ${this.#clients} counted`);
    if (all.size !== counted) throw new Error('rendezvous: a client waits twice');
  }
}

/** Returns whether the client was there. */
function removeFrom<Client>(clients: Client[], client: Client): boolean {
  const at = clients.indexOf(client);
  if (at !== -1) clients.splice(at, 1);
  return at !== -1;
}
