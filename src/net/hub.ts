import { Deadlines } from '../limits/deadlines.ts';
import { IdleWatch } from '../limits/idle-watch.ts';
import type { Pacer } from '../limits/pacer.ts';
import type { Event, Refused, State } from '../protocol/session.ts';
import type { Side, Token } from '../protocol/wire.ts';
import type { Arrival, Phase } from './arrival.ts';
import { Connection } from './connection.ts';
import type { Books, ConnectionContext, Ending } from './connection.ts';
import type { HandshakeFailure } from './handshake-failure.ts';
import { Ledger } from './ledger.ts';
import { createMeter } from './meter.ts';
import type { Elsewhere, Owner } from './elsewhere.ts';
import type { Peer } from './peer.ts';
import type { Reception } from './reception.ts';
import type { Splice } from './splice.ts';
import { TaskQueue } from './task-queue.ts';

/** Time between two looks after stalled pairs, in milliseconds. */
const SWEEP_MS = 15_000;

/** How long clients are given to answer a FIN once nothing is left to deliver, in milliseconds. */
const FAREWELL_MS = 200;

const POLL_MS = 20;

/** What each state is for eviction. A client that another relay is asked about waits there. */
const PHASES: Readonly<Record<Exclude<State, 'closed'>, Phase>> = {
  handshake: 'handshake',
  waiting: 'waiting',
  calling: 'waiting',
  paired: 'paired',
  carried: 'paired',
  closing: 'closing',
};

export interface HubOptions {
  readonly reception: Reception;
  /** How long a client may wait, in milliseconds; null: for as long as it likes. */
  readonly waitMs: number | null;
  /** The same for a pair without a byte in either direction. */
  readonly idleMs: number | null;
  /** Null: pairs go as fast as they can. */
  readonly pacer: Pacer | null;
  /** What a pair may move, in bytes; null: as much as it likes. */
  readonly pairBytes: number | null;
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
  readonly monotonicClock: () => number;
  readonly fault: (error: unknown) => void;
  /** Other relays; null: this one is alone. Set before anybody comes. */
  elsewhere: Elsewhere | null = null;
  readonly #options: HubOptions;
  readonly #reception: Reception;
  readonly #connections = new Set<Connection>();
  /** The relay's own test clients leave no trace. */
  readonly #testers: Ledger;
  readonly #testTokens = new Map<string, () => void>();
  readonly #waits: Deadlines<Connection>;
  readonly #timers: NodeJS.Timeout[] = [];
  /** What concerns all connections is done in slices. */
  readonly #tasks = new TaskQueue();

  constructor(options: HubOptions) {
    const { waitMs, idleMs, monotonicClock } = options;
    this.#options = options;
    this.#reception = options.reception;
    this.monotonicClock = monotonicClock;
    this.#testers = new Ledger(monotonicClock, () => undefined);
    this.clients = new Ledger(monotonicClock, options.ended);
    this.fault = options.fault;
    const timedOut = (connection: Connection): void => connection.dispatch('timed-out');
    this.#waits = new Deadlines(waitMs, monotonicClock, timedOut);
    this.#timers.push(setInterval(() => this.sweep(), SWEEP_MS));
    if (idleMs !== null) this.#watchIdlePairs(new IdleWatch(idleMs, monotonicClock), timedOut);
  }

  /** Pairs that are running. */
  get pairs(): number {
    return this.clients.pairs;
  }

  /** Bytes held in this process for clients, and for relays that own tokens of clients, that do not keep up. */
  get heldBytes(): number {
    let held = this.clients.heldForOwners();
    for (const connection of this.#connections) held += connection.heldBytes;
    return held;
  }

  census(): Census {
    const { pairs, rendezvous } = this.clients;
    return {
      connected: pairs * 2,
      waiting: rendezvous.waitingTokens,
      incompleteBytes: this.clients.incompleteBytes(),
      relayedBytes: this.clients.relayedBytes(),
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

  failed(arrival: Arrival, books: Books, failure: HandshakeFailure): void {
    if (books !== this.#testers) this.#reception.failed(arrival, failure);
  }

  judge(arrival: Arrival, books: Books, token: Token, side: Side | null): Refused | null {
    const { rendezvous } = books;
    if (books === this.#testers) {
      this.#reception.pardon(arrival);
      return null;
    }
    const hasPartner = rendezvous.hasPartner(token, side);
    return this.#reception.judge(arrival, { hasPartner, waiting: rendezvous.waitingClients });
  }

  paired(books: Books, splice: Splice, connection: Connection): void {
    if (books === this.#testers) return;
    const { pacer, pairBytes } = this.#options;
    const usedUp = (): void => connection.dispatch('used-up');
    const meter = createMeter(splice, pacer, pairBytes, usedUp);
    if (meter !== null) splice.measure(meter);
  }

  /** A token that was thought to be ours is another relay's: whoever waits for it here goes there. */
  callAway(token: Token, owner: Owner): void {
    for (const connection of this.clients.rendezvous.waitersOf(token)) connection.calledAway(owner);
  }

  /** Takes in a client. */
  accept(peer: Peer, arrival: Arrival): void {
    const connection = new Connection(peer, arrival, this);
    this.#connections.add(connection);
    this.#reception.introduced(arrival);
    connection.start();
  }

  /** Ends every wait: no pair may begin any more in this period. */
  endWaits(): void {
    this.#notifyAll({ waiting: 'over-quota', calling: 'over-quota' });
  }

  /** Ends every pair, since no more bytes may be moved. */
  endPairs(): void {
    this.#notifyAll({ paired: 'used-up', carried: 'used-up' });
  }

  /** Looks for resets that stalled pairs hide. */
  sweep(): void {
    this.clients.sweepLinks();
    void this.#tasks.forEach(this.clients.splices(), (splice) => splice.sweep());
  }

  /**
   * Sends everybody home but the pairs, and waits for these and for what is still held for clients of pairs
   * that have ended. Resolves when they are done or after `timeoutMs`; `abort` ends the wait.
   */
  async drain(timeoutMs: number, abort: AbortSignal): Promise<void> {
    await this.#tasks.forEach(this.#reception.pending, (arrival) => this.#reception.shutdown(arrival));
    await this.#tasks.forEach([...this.#connections], (connection) => connection.shutdown());
    const deadline = this.monotonicClock() + timeoutMs;
    while (this.#busy() && this.monotonicClock() < deadline && !abort.aborted) await delay(POLL_MS);
    const farewell = this.monotonicClock() + FAREWELL_MS;
    while (this.#connections.size > 0 && this.monotonicClock() < farewell && !abort.aborted)
      await delay(POLL_MS);
  }

  /** Ends every connection now. Their records are written before this returns. */
  close(): void {
    for (const timer of this.#timers) clearInterval(timer);
    for (const connection of this.#connections) connection.dispatch('cut');
    this.#reception.close();
    this.#waits.close();
    this.#options.pacer?.close();
  }

  moved(connection: Connection, to: State): void {
    if (to === 'waiting') this.#waits.start(connection);
    else this.#waits.stop(connection);
    this.#releaseTokenOf(connection);
    if (to === 'closed') {
      this.#connections.delete(connection);
      this.#reception.left(connection.arrival);
    } else {
      this.#reception.heard(connection.arrival);
      const waiting = to === 'waiting' ? this.clients.rendezvous.waitingClients : null;
      this.#reception.moved(connection.arrival, PHASES[to], waiting);
    }
  }

  /** Compares every count with what it counts. For tests. Throws where they disagree. */
  checkConsistency(): void {
    const ledgers = [this.clients, this.#testers];
    const sum = (numbers: number[]): number => numbers.reduce((total, number) => total + number, 0);
    const states = [...this.#connections].map((connection) => connection.state);
    const count = (state: State): number => states.filter((other) => other === state).length;
    this.#testers.checkConsistency(0);
    this.clients.checkConsistency(count('calling'));
    if (count('carried') !== this.clients.passengers) throw new Error('hub: a passenger is lost');
    if (count('paired') !== 2 * sum(ledgers.map(({ pairs }) => pairs)))
      throw new Error('hub: pairs and paired connections disagree');
    if (count('waiting') !== sum(ledgers.map(({ rendezvous }) => rendezvous.waitingClients)))
      throw new Error('hub: a waiting connection is lost');
    if (count('waiting') < this.#waits.size) throw new Error('hub: a deadline outlives its connection');
    if (count('closed') > 0) throw new Error('hub: a closed connection is kept');
  }

  /** Other relays may have it, when nobody waits for it here any more. */
  #releaseTokenOf({ token }: Connection): void {
    if (this.elsewhere === null || token === null) return;
    if (!this.clients.rendezvous.isWaitedFor(token)) this.elsewhere.release(token);
  }

  #notifyAll(events: Readonly<Partial<Record<State, Event>>>): void {
    void this.#tasks.forEach([...this.#connections], (connection) => {
      // Its state may have changed since, by what happened to its partner, too.
      const event = events[connection.state];
      if (event !== undefined) connection.dispatch(event);
    });
  }

  #watchIdlePairs(watch: IdleWatch<Connection>, idle: (connection: Connection) => void): void {
    const look = (): void => {
      void this.#tasks.forEach(watch.look(this.clients.progress()), idle);
    };
    this.#timers.push(setInterval(look, watch.lookEveryMs));
  }

  #busy(): boolean {
    return this.pairs > 0 || this.clients.passengers > 0 || this.heldBytes > 0;
  }
}

function delay(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
