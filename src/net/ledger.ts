import { Rendezvous } from '../protocol/rendezvous.ts';
import type { Mood } from '../protocol/wire.ts';
import type { Books, Connection, Ending } from './connection.ts';
import { PauseClock } from './pause-clock.ts';
import type { Peer, Transport } from './peer.ts';
import type { Pauses, Splice } from './splice.ts';

type ByTransport<T> = Readonly<Record<Transport, T>>;

/** What has been since the start. It only grows. */
export interface Totals {
  /** Clients that were let in. */
  readonly accepted: ByTransport<number>;
  /** Clients that were let in and are no longer there: two for a pair. */
  readonly ended: Readonly<Record<Mood, ByTransport<number>>>;
  readonly pairs: number;
  /** Clients that were let in and passed on to another relay, which counts how they ended. */
  readonly passedOn: ByTransport<number>;
  /** Bytes relayed, of pairs and of clients that are passed on, those that run too, by the transport they came from and then by the one they went to. */
  readonly relayedBytes: ByTransport<ByTransport<number>>;
}

/** The books on clients, or on the relay's own tests. */
export class Ledger implements Books {
  readonly rendezvous = new Rendezvous<Connection>(({ namedTick }) => namedTick);
  readonly pauses: Pauses;
  /** Each with one of its two connections. */
  readonly #splices = new Map<Splice, Connection>();
  readonly #ended: (ending: Ending) => void;
  readonly #acceptedByTransport = byTransport(() => 0);
  readonly #endedByMood = byMood(() => byTransport(() => 0));
  /** Of pairs that have ended. */
  readonly #movedBytes = byTransport(() => byTransport(() => 0));
  readonly #passedOnByTransport = byTransport(() => 0);
  /** Between clients of ours and other relays, each with the link. */
  readonly #carried = new Map<Splice, Peer>();
  /** Links whose clients have gone, and that were not done with what those had said. */
  readonly #leaving = new Set<Peer>();
  #pairsMade = 0;

  /**
   * @param clock milliseconds of a clock that never jumps
   * @param ended told once of each connection that ended alone, and of each pair
   */
  constructor(clock: () => number, ended: (ending: Ending) => void) {
    this.#ended = ended;
    this.pauses = { backpressure: new PauseClock(clock), rateLimit: new PauseClock(clock) };
  }

  /** Pairs that are running. */
  get pairs(): number {
    return this.#splices.size;
  }

  /** Clients whose pairs are at another relay. */
  get passengers(): number {
    return this.#carried.size;
  }

  /** Bytes relayed so far by pairs that are running. */
  incompleteBytes(): number {
    let bytes = 0;
    for (const splice of this.#splices.keys()) bytes += splice.totalBytes;
    return bytes;
  }

  /** Bytes relayed since the start, both directions together. */
  relayedBytes(): number {
    let bytes = sumOfAll(this.#movedBytes) + this.incompleteBytes();
    for (const splice of this.#carried.keys()) bytes += splice.totalBytes;
    return bytes;
  }

  /** Bytes held for other relays, of clients that have gone too. */
  heldForOwners(): number {
    let held = 0;
    for (const links of [this.#carried.values(), this.#leaving])
      for (const link of links) held += link.heldBytes;
    return held;
  }

  totals(): Totals {
    const relayedBytes = byTransport((from) => ({ ...this.#movedBytes[from] }));
    for (const splices of [this.#splices, this.#carried])
      for (const splice of splices.keys()) addFlows(relayedBytes, splice);
    return {
      accepted: this.#acceptedByTransport,
      ended: this.#endedByMood,
      pairs: this.#pairsMade,
      passedOn: this.#passedOnByTransport,
      relayedBytes,
    };
  }

  accepted(transport: Transport): void {
    this.#acceptedByTransport[transport] += 1;
  }

  paired(splice: Splice, connection: Connection): void {
    this.#pairsMade += 1;
    this.#splices.set(splice, connection);
  }

  carried(splice: Splice, link: Peer): void {
    this.#carried.set(splice, link);
  }

  passedOn(transport: Transport, splice: Splice | null): void {
    this.#passedOnByTransport[transport] += 1;
    if (splice === null) return;
    splice.end();
    addFlows(this.#movedBytes, splice);
    const link = this.#carried.get(splice);
    if (link !== undefined && link.heldBytes > 0) this.#leaving.add(link);
    this.#carried.delete(splice);
  }

  unpaired(splice: Splice): void {
    splice.end();
    addFlows(this.#movedBytes, splice);
    this.#splices.delete(splice);
  }

  ended(ending: Ending): void {
    for (const transport of ending.transports) this.#endedByMood[ending.mood][transport] += 1;
    this.#ended(ending);
  }

  /** Every pair that runs, and every client that is passed on. */
  splices(): readonly Splice[] {
    return [...this.#splices.keys(), ...this.#carried.keys()];
  }

  /** Forgets links that are done. */
  sweepLinks(): void {
    for (const link of this.#leaving) if (link.heldBytes === 0) this.#leaving.delete(link);
  }

  /** One connection of each pair, with the bytes that the pair has relayed so far. */
  *progress(): Generator<readonly [Connection, number]> {
    for (const [splice, connection] of this.#splices) yield [connection, splice.totalBytes];
  }

  /**
   * Compares the counts with one another. For tests. Throws where they disagree.
   *
   * @param calling clients that another relay is asked about
   */
  checkConsistency(calling: number): void {
    this.rendezvous.checkConsistency();
    const passed = sumOf(this.#passedOnByTransport);
    const here = this.rendezvous.waitingClients + 2 * this.pairs + this.passengers + calling + passed;
    if (sumOf(this.#acceptedByTransport) !== here + sumOfAll(this.#endedByMood))
      throw new Error('ledger: clients that were let in are neither here nor have they ended');
  }
}

function addFlows(sums: ByTransport<Record<Transport, number>>, splice: Splice): void {
  for (const { from, to, bytes } of splice.flows()) sums[from][to] += bytes;
}

function byTransport<T>(make: (transport: Transport) => T): Record<Transport, T> {
  return { tcp: make('tcp'), unix: make('unix'), websocket: make('websocket'), link: make('link') };
}

function byMood<T>(make: () => T): Record<Mood, T> {
  return {
    happy: make(),
    lonely: make(),
    redundant: make(),
    impatient: make(),
    errory: make(),
    empty: make(),
  };
}

/** Of two levels of counts. */
function sumOfAll(counts: Readonly<Record<string, ByTransport<number>>>): number {
  return sumOf(Object.values(counts).map(sumOf));
}

function sumOf(counts: ByTransport<number> | readonly number[]): number {
  return Object.values(counts).reduce((total, count) => total + count, 0);
}
