import type { State } from '../protocol/session.ts';
import type { Token } from '../protocol/wire.ts';
import { Connection } from './connection.ts';
import type { ConnectionContext, Ending } from './connection.ts';
import { Ledger } from './ledger.ts';
import type { Peer } from './peer.ts';

/** Time between two looks after stalled pairs, in milliseconds. */
const SWEEP_MS = 15_000;

/** How long clients are given to answer a FIN once nothing is left to deliver, in milliseconds. */
const FAREWELL_MS = 200;

const POLL_MS = 20;

export interface HubOptions {
  readonly wallClock: () => number;
  readonly monotonicClock: () => number;
  readonly ended: (ending: Ending) => void;
  readonly fault: (error: unknown) => void;
}

/** Who is here now. */
export interface Census {
  /** Connections in pairs: two a pair. */
  readonly connected: number;
  /** Distinct tokens somebody waits under. */
  readonly waiting: number;
  /** Bytes relayed so far by pairs that have not ended. */
  readonly incompleteBytes: number;
  /** Bytes relayed since the start, by pairs that have ended and by pairs that run. */
  readonly relayedBytes: number;
}

/** Every connection there is, who waits for whom, and which pairs are running. */
export class Hub implements ConnectionContext {
  readonly clients: Ledger;
  readonly wallClock: () => number;
  readonly monotonicClock: () => number;
  readonly fault: (error: unknown) => void;
  readonly #connections = new Set<Connection>();
  /** The relay's own test clients leave no trace. */
  readonly #testers = new Ledger(() => undefined);
  readonly #testTokens = new Map<string, () => void>();
  readonly #sweepTimer: NodeJS.Timeout;

  constructor(options: HubOptions) {
    this.wallClock = options.wallClock;
    this.monotonicClock = options.monotonicClock;
    this.clients = new Ledger(options.ended);
    this.fault = options.fault;
    this.#sweepTimer = setInterval(() => this.sweep(), SWEEP_MS);
  }

  get connections(): number {
    return this.#connections.size;
  }

  /** Pairs that are running. */
  get pairs(): number {
    return this.clients.pairs;
  }

  /** Bytes held in this process for clients that do not keep up. */
  get heldBytes(): number {
    let held = 0;
    for (const connection of this.#connections) held += connection.heldBytes;
    return held;
  }

  census(): Census {
    const { pairs, endedBytes, rendezvous } = this.clients;
    const incompleteBytes = this.clients.incompleteBytes();
    return {
      connected: pairs * 2,
      waiting: rendezvous.waitingTokens,
      incompleteBytes,
      relayedBytes: endedBytes + incompleteBytes,
    };
  }

  /**
   * Connections that name `token` are the relay's own tests from now on: they are no clients, and leave no
   * record. `arrived` is called for each.
   */
  expectTester(token: string, arrived: () => void): void {
    this.#testTokens.set(token, arrived);
  }

  /** Ends what `expectTester` began; who has named the token already stays a tester. */
  forgetTester(token: string): void {
    this.#testTokens.delete(token);
  }

  booksOf(token: Token): Ledger {
    const arrived = this.#testTokens.get(token);
    if (arrived === undefined) return this.clients;
    arrived();
    return this.#testers;
  }

  /** Takes in a client. */
  accept(peer: Peer): void {
    const connection = new Connection(peer, this);
    this.#connections.add(connection);
    connection.start();
  }

  /** Looks for resets that stalled pairs hide. */
  sweep(): void {
    this.clients.sweep();
  }

  /**
   * Sends everybody home but the pairs, and waits for these and for what is still held for clients of pairs
   * that have ended. Resolves when they are done or after `timeoutMs`; `abort` ends the wait.
   */
  async drain(timeoutMs: number, abort: AbortSignal): Promise<void> {
    for (const connection of this.#connections) connection.dispatch('shutdown');
    const deadline = this.monotonicClock() + timeoutMs;
    while (this.#busy() && this.monotonicClock() < deadline && !abort.aborted) await delay(POLL_MS);
    const farewell = this.monotonicClock() + FAREWELL_MS;
    while (this.#connections.size > 0 && this.monotonicClock() < farewell && !abort.aborted)
      await delay(POLL_MS);
  }

  /** Ends every connection now. Their records are written before this returns. */
  close(): void {
    clearInterval(this.#sweepTimer);
    for (const connection of this.#connections) connection.dispatch('cut');
  }

  closed(connection: Connection): void {
    this.#connections.delete(connection);
  }

  /** Compares every count with what it counts. For tests. Throws where they disagree. */
  checkConsistency(): void {
    const ledgers = [this.clients, this.#testers];
    for (const { rendezvous } of ledgers) rendezvous.checkConsistency();
    const sum = (numbers: number[]): number => numbers.reduce((total, number) => total + number, 0);
    const states = [...this.#connections].map((connection) => connection.state);
    const count = (state: State): number => states.filter((other) => other === state).length;
    if (count('paired') !== 2 * sum(ledgers.map(({ pairs }) => pairs)))
      throw new Error('hub: pairs and paired connections disagree');
    if (count('waiting') !== sum(ledgers.map(({ rendezvous }) => rendezvous.waitingClients)))
      throw new Error('hub: a waiting connection is lost');
    if (count('closed') > 0) throw new Error('hub: a closed connection is kept');
  }

  #busy(): boolean {
    return this.pairs > 0 || this.heldBytes > 0;
  }
}

function delay(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
