import { LinkedSet } from '../limits/linked-set.ts';
import type { Linked } from '../limits/linked-set.ts';
import type { Mood } from '../protocol/messages.ts';
import { Rendezvous } from '../protocol/rendezvous.ts';
import type { ClientTransport, TransportKind } from '../transport/client-transport.ts';
import type { ClientSession, SessionSummary } from './client-session.ts';
import { StallTimer } from './splice.ts';
import type { Splice, StallTimers } from './splice.ts';

type ByTransport<T> = Readonly<Record<TransportKind, T>>;

/** Totals since the start. They only grow. */
export interface SessionTotals {
  /** Clients that were accepted. */
  readonly accepted: ByTransport<number>;
  /** Accepted clients that have closed, two for a pair. */
  readonly ended: Readonly<Record<Mood, ByTransport<number>>>;
  readonly pairs: number;
  /**
   * Accepted clients that were forwarded to another relay and have closed. The owner relay counts their
   * outcome.
   */
  readonly forwarded: ByTransport<number>;
  /**
   * Bytes relayed for pairs and forwarded clients, also for open ones, by the transport of the sender and
   * then of the receiver.
   */
  readonly relayedBytes: ByTransport<ByTransport<number>>;
}

/** A pair that has not ended, with one of its two sessions. */
export interface OpenPair extends Linked<OpenPair> {
  readonly splice: Splice;
  readonly session: ClientSession;
}

/** Statistics of all clients, or of the relay's own probes: waiting clients, open pairs, and totals. */
export class SessionStats {
  readonly rendezvous = new Rendezvous<ClientSession>(({ handshakeTick }) => handshakeTick);
  readonly stallTimers: StallTimers;
  readonly #openPairs = new LinkedSet<OpenPair>();
  readonly #onSessionEnd: (summary: SessionSummary) => void;
  readonly #acceptedByTransport = byTransport(() => 0);
  readonly #endedByMood = byMood(() => byTransport(() => 0));
  /** Of pairs and forwarded clients that have ended. */
  readonly #completedBytes = byTransport(() => byTransport(() => 0));
  readonly #forwardedByTransport = byTransport(() => 0);
  /** Between forwarded clients and their owner relays, each with the link. */
  readonly #forwarding = new Map<Splice, ClientTransport>();
  /** Links that still deliver bytes of clients that have closed. */
  readonly #undeliveredLinks = new Set<ClientTransport>();
  #totalPairs = 0;

  /**
   * @param clock the monotonic clock, in milliseconds
   * @param onSessionEnd called once for each session that ended alone, and for each pair
   */
  constructor(clock: () => number, onSessionEnd: (summary: SessionSummary) => void) {
    this.#onSessionEnd = onSessionEnd;
    this.stallTimers = { backpressure: new StallTimer(clock), rateLimit: new StallTimer(clock) };
  }

  /** Open pairs. */
  get pairs(): number {
    return this.#openPairs.size;
  }

  /** Open clients that are paired at another relay. */
  get forwardedClients(): number {
    return this.#forwarding.size;
  }

  /** Bytes relayed so far by open pairs. */
  incompleteBytes(): number {
    let bytes = 0;
    for (const { splice } of this.#openPairs) bytes += splice.totalBytes;
    return bytes;
  }

  /** Bytes relayed since the start, both directions together. */
  relayedBytes(): number {
    let bytes = sumOfAll(this.#completedBytes) + this.incompleteBytes();
    for (const splice of this.#forwarding.keys()) bytes += splice.totalBytes;
    return bytes;
  }

  /** Bytes buffered for owner relays, also those of clients that have closed. */
  upstreamBufferedBytes(): number {
    let bytes = 0;
    for (const links of [this.#forwarding.values(), this.#undeliveredLinks])
      for (const link of links) bytes += link.bufferedBytes;
    return bytes;
  }

  totals(): SessionTotals {
    const relayedBytes = byTransport((from) => ({ ...this.#completedBytes[from] }));
    for (const splice of this.splices()) addFlows(relayedBytes, splice);
    return {
      accepted: this.#acceptedByTransport,
      ended: this.#endedByMood,
      pairs: this.#totalPairs,
      forwarded: this.#forwardedByTransport,
      relayedBytes,
    };
  }

  /** Counts a client when it has named its token, or when it ends before that. */
  clientAccepted(transport: TransportKind): void {
    this.#acceptedByTransport[transport] += 1;
  }

  /** @param session one of the two */
  pairStarted(splice: Splice, session: ClientSession): OpenPair {
    const pair: OpenPair = { splice, session, previous: null, next: null };
    this.#totalPairs += 1;
    this.#openPairs.add(pair);
    return pair;
  }

  /** @param splice between a client and the owner relay, with which it has `link` */
  forwardingStarted(splice: Splice, link: ClientTransport): void {
    this.#forwarding.set(splice, link);
  }

  /** A client has closed whose record the owner relay has. `splice` is null if it was not paired. */
  forwardingEnded(transport: TransportKind, splice: Splice | null): void {
    this.#forwardedByTransport[transport] += 1;
    if (splice === null) return;
    splice.end();
    addFlows(this.#completedBytes, splice);
    const link = this.#forwarding.get(splice);
    if (link !== undefined && link.bufferedBytes > 0) this.#undeliveredLinks.add(link);
    this.#forwarding.delete(splice);
  }

  pairEnded(pair: OpenPair): void {
    pair.splice.end();
    addFlows(this.#completedBytes, pair.splice);
    this.#openPairs.delete(pair);
  }

  sessionEnded(summary: SessionSummary): void {
    for (const transport of summary.transports) this.#endedByMood[summary.mood][transport] += 1;
    this.#onSessionEnd(summary);
  }

  /** Of all open pairs and forwarded clients. */
  splices(): readonly Splice[] {
    return [...[...this.#openPairs].map(({ splice }) => splice), ...this.#forwarding.keys()];
  }

  /** Links of clients that have closed, with bytes that are buffered for the owner relay. */
  get undeliveredLinks(): number {
    return this.#undeliveredLinks.size;
  }

  linkDelivered(link: ClientTransport): void {
    this.#undeliveredLinks.delete(link);
  }

  /** One session of each pair, with the bytes that the pair has relayed so far. */
  *progress(): Generator<readonly [ClientSession, number]> {
    for (const { session, splice } of this.#openPairs) yield [session, splice.totalBytes];
  }

  /**
   * For tests: compares the counts with each other. Throws if they disagree.
   *
   * @param connectingUpstream clients whose owner relay has not replied
   */
  checkConsistency(connectingUpstream: number): void {
    this.rendezvous.checkConsistency();
    const { waitingClients } = this.rendezvous;
    const open = waitingClients + 2 * this.pairs + this.forwardedClients + connectingUpstream;
    const ended = sumOf(this.#forwardedByTransport) + sumOfAll(this.#endedByMood);
    if (sumOf(this.#acceptedByTransport) !== open + ended)
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
