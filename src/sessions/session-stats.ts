import type { Mood } from '../protocol/messages.ts';
import { Rendezvous } from '../protocol/rendezvous.ts';
import type { ClientTransport, TransportKind } from '../transport/client-transport.ts';
import type { ClientSession, SessionStatsSink, SessionSummary } from './client-session.ts';
import { StallTimer } from './splice.ts';
import type { Splice, StallTimers } from './splice.ts';

type ByTransport<T> = Readonly<Record<TransportKind, T>>;

/** What has been since the start. It only grows. */
export interface SessionTotals {
  /** Clients that were let in. */
  readonly accepted: ByTransport<number>;
  /** Clients that were let in and are no longer there: two for a pair. */
  readonly ended: Readonly<Record<Mood, ByTransport<number>>>;
  readonly pairs: number;
  /** Clients that were let in and passed on to another relay, which counts how they ended. */
  readonly forwarded: ByTransport<number>;
  /** Bytes relayed, of pairs and of clients that are passed on, those that run too, by the transport they came from and then by the one they went to. */
  readonly relayedBytes: ByTransport<ByTransport<number>>;
}

/** The books on clients, or on the relay's own tests. */
export class SessionStats implements SessionStatsSink {
  readonly rendezvous = new Rendezvous<ClientSession>(({ handshakeTick: namedTick }) => namedTick);
  readonly stallTimers: StallTimers;
  /** Each with one of its two connections. */
  readonly #splices = new Map<Splice, ClientSession>();
  readonly #onSessionEnd: (summary: SessionSummary) => void;
  readonly #acceptedByTransport = byTransport(() => 0);
  readonly #endedByMood = byMood(() => byTransport(() => 0));
  /** Of pairs that have ended. */
  readonly #completedBytes = byTransport(() => byTransport(() => 0));
  readonly #forwardedByTransport = byTransport(() => 0);
  /** Between clients of ours and other relays, each with the link. */
  readonly #forwarding = new Map<Splice, ClientTransport>();
  /** Links whose clients have gone, and that were not done with what those had said. */
  readonly #closingLinks = new Set<ClientTransport>();
  #totalPairs = 0;

  /**
   * @param clock milliseconds of a clock that never jumps
   * @param ended told once of each connection that ended alone, and of each pair
   */
  constructor(clock: () => number, ended: (summary: SessionSummary) => void) {
    this.#onSessionEnd = ended;
    this.stallTimers = { backpressure: new StallTimer(clock), rateLimit: new StallTimer(clock) };
  }

  /** Pairs that are running. */
  get pairs(): number {
    return this.#splices.size;
  }

  /** Clients whose pairs are at another relay. */
  get forwardedClients(): number {
    return this.#forwarding.size;
  }

  /** Bytes relayed so far by pairs that are running. */
  incompleteBytes(): number {
    let bytes = 0;
    for (const splice of this.#splices.keys()) bytes += splice.totalBytes;
    return bytes;
  }

  /** Bytes relayed since the start, both directions together. */
  relayedBytes(): number {
    let bytes = sumOfAll(this.#completedBytes) + this.incompleteBytes();
    for (const splice of this.#forwarding.keys()) bytes += splice.totalBytes;
    return bytes;
  }

  /** Bytes held for other relays, of clients that have gone too. */
  upstreamBufferedBytes(): number {
    let held = 0;
    for (const links of [this.#forwarding.values(), this.#closingLinks])
      for (const link of links) held += link.bufferedBytes;
    return held;
  }

  totals(): SessionTotals {
    const relayedBytes = byTransport((from) => ({ ...this.#completedBytes[from] }));
    for (const splices of [this.#splices, this.#forwarding])
      for (const splice of splices.keys()) addFlows(relayedBytes, splice);
    return {
      accepted: this.#acceptedByTransport,
      ended: this.#endedByMood,
      pairs: this.#totalPairs,
      forwarded: this.#forwardedByTransport,
      relayedBytes,
    };
  }

  clientAccepted(transport: TransportKind): void {
    this.#acceptedByTransport[transport] += 1;
  }

  pairStarted(splice: Splice, connection: ClientSession): void {
    this.#totalPairs += 1;
    this.#splices.set(splice, connection);
  }

  forwardingStarted(splice: Splice, link: ClientTransport): void {
    this.#forwarding.set(splice, link);
  }

  forwardingEnded(transport: TransportKind, splice: Splice | null): void {
    this.#forwardedByTransport[transport] += 1;
    if (splice === null) return;
    splice.end();
    addFlows(this.#completedBytes, splice);
    const link = this.#forwarding.get(splice);
    if (link !== undefined && link.bufferedBytes > 0) this.#closingLinks.add(link);
    this.#forwarding.delete(splice);
  }

  pairEnded(splice: Splice): void {
    splice.end();
    addFlows(this.#completedBytes, splice);
    this.#splices.delete(splice);
  }

  sessionEnded(summary: SessionSummary): void {
    for (const transport of summary.transports) this.#endedByMood[summary.mood][transport] += 1;
    this.#onSessionEnd(summary);
  }

  /** Every pair that runs, and every client that is passed on. */
  splices(): readonly Splice[] {
    return [...this.#splices.keys(), ...this.#forwarding.keys()];
  }

  /** Forgets links that are done. */
  sweepLinks(): void {
    for (const link of this.#closingLinks) if (link.bufferedBytes === 0) this.#closingLinks.delete(link);
  }

  /** One connection of each pair, with the bytes that the pair has relayed so far. */
  *progress(): Generator<readonly [ClientSession, number]> {
    for (const [splice, connection] of this.#splices) yield [connection, splice.totalBytes];
  }

  /**
   * Compares the counts with one another. For tests. Throws where they disagree.
   *
   * @param calling clients that another relay is asked about
   */
  checkConsistency(calling: number): void {
    this.rendezvous.checkConsistency();
    const passed = sumOf(this.#forwardedByTransport);
    const here = this.rendezvous.waitingClients + 2 * this.pairs + this.forwardedClients + calling + passed;
    if (sumOf(this.#acceptedByTransport) !== here + sumOfAll(this.#endedByMood))
      throw new Error('session stats: accepted clients do not equal open plus ended clients');
  }
}

function addFlows(sums: ByTransport<Record<TransportKind, number>>, splice: Splice): void {
  for (const { from, to, bytes } of splice.flows()) sums[from][to] += bytes;
}

function byTransport<T>(make: (transport: TransportKind) => T): Record<TransportKind, T> {
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
