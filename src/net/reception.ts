import type { AddressLimit } from '../limits/address-limit.ts';
import { addressPrefix, hashPrefix, newSalt } from '../limits/address-prefix.ts';
import { ConnectionLimit, LANE_PLACES } from '../limits/connection-limit.ts';
import { Deadlines } from '../limits/deadlines.ts';
import { EvictionIndex } from '../limits/eviction-index.ts';
import { SharedAddressDetector } from '../limits/shared-address.ts';
import type { Refused } from '../protocol/session.ts';
import { Arrival } from './arrival.ts';
import type { Phase, RefusalReason, Source } from './arrival.ts';
import type { HandshakeFailure } from './handshake-failure.ts';

/** How long somebody who is not let in may take to say in which language to be told so, in milliseconds. */
const REFUSAL_MS = 5000;

/** From this part of a limit on, the relay keeps track of networks. Below it, no address is asked for. */
const SCARCE_PART = 0.5;

/** A /48: what a single site may have (RFC 6177), and what is given away for free. */
const IPV6_NETWORK_GROUPS = 3;

export interface ReceptionOptions {
  /** Time from a connection's first packet to the end of its line, in milliseconds; null: as long as it likes. */
  readonly handshakeMs: number | null;
  /** Connections at once; null: as many as come. */
  readonly maxConnections: number | null;
  /** Clients that wait at once; null: all of them. */
  readonly maxWaiting: number | null;
  /** Null: addresses are not looked at. */
  readonly addresses: AddressLimit | null;
  /** Nearly all clients that `addresses` rejected lately have the same private address. Called for each sample of rejections. */
  readonly onSharedAddress?: () => void;
  readonly wallClock: () => number;
  readonly monotonicClock: () => number;
}

/** What has to be known of a client that has named its token. */
export interface Applicant {
  readonly hasPartner: boolean;
  /** Clients that wait already. */
  readonly waiting: number;
}

/** What each refused client is told, as an event of its session. */
const EVENTS: Readonly<Record<RefusalReason, Refused>> = {
  connections: 'busy',
  waiting: 'busy',
  address: 'busy',
  quota: 'over-quota',
  shutdown: 'stopping',
};

/** Who is let in: knows every connection from its first packet on, and counts whoever is refused. */
export class Reception {
  readonly #options: ReceptionOptions;
  readonly #limit: ConnectionLimit;
  readonly #handshakes: Deadlines<Arrival>;
  readonly #refusals: Deadlines<Arrival>;
  readonly #sharedAddress: SharedAddressDetector;
  /** Connections beyond the limit, the oldest first. */
  readonly #lane = new Set<Arrival>();
  /** Connections that no client has been made of yet. */
  readonly #lobby = new Set<Arrival>();
  readonly #refused: Record<RefusalReason, number> = {
    connections: 0,
    waiting: 0,
    address: 0,
    quota: 0,
    shutdown: 0,
  };
  readonly #evicted: Record<Exclude<Phase, 'paired'>, number> = { handshake: 0, waiting: 0, closing: 0 };
  /** Connections without a partner, and waiting clients, by network. Entries exist only as long as the connections do. */
  readonly #unpaired = new EvictionIndex<Arrival>();
  readonly #waiting = new EvictionIndex<Arrival>();
  readonly #salt = newSalt();
  readonly #failures: Record<HandshakeFailure, number> = {
    left: 0,
    timeout: 0,
    bad_line: 0,
    overlong_line: 0,
    early_bytes: 0,
    text: 0,
    http: 0,
    tls: 0,
  };
  #arrived = 0;
  /** Only partners of clients that wait are let in. */
  isStopping = false;
  isOverQuota = false;
  /** The process has no descriptor left: whoever is accepted all the same has no place to be told so. */
  isOutOfDescriptors = false;

  constructor(options: ReceptionOptions) {
    this.#options = options;
    this.#limit = new ConnectionLimit(options.maxConnections);
    const tooLate = (arrival: Arrival): void => {
      arrival.failure = 'timeout';
      arrival.owner?.tooLate();
    };
    const { handshakeMs, monotonicClock } = options;
    this.#handshakes = new Deadlines(handshakeMs, monotonicClock, tooLate);
    this.#sharedAddress = new SharedAddressDetector(monotonicClock);
    this.#refusals = new Deadlines(Math.min(REFUSAL_MS, handshakeMs ?? REFUSAL_MS), monotonicClock, tooLate);
  }

  /** Connections that have not been refused, whatever became of them so far. */
  get connections(): number {
    return this.#limit.inside;
  }

  /** Connections since the start, refused ones too. */
  get arrived(): number {
    return this.#arrived;
  }

  /** Clients that were refused since the start, by reason. */
  get refused(): Readonly<Record<RefusalReason, number>> {
    return this.#refused;
  }

  /** Clients that never came to wait or be paired, by how that was. Refused ones are not among them. */
  get failures(): Readonly<Record<HandshakeFailure, number>> {
    return this.#failures;
  }

  /** Connections since the start whose place was given to a client from another network, by what they did. */
  get evicted(): Readonly<Record<Exclude<Phase, 'paired'>, number>> {
    return this.#evicted;
  }

  /** Connections at once; null: as many as come. */
  get maxConnections(): number | null {
    return this.#options.maxConnections;
  }

  /** Whether anybody needs to know where clients come from. */
  get asksForAddresses(): boolean {
    return this.#options.addresses !== null;
  }

  /**
   * Takes in a connection. `left` is due in the end. Null where no descriptor is left even to tell it that there is no room.
   *
   * @param source null: another relay forwards a client
   */
  arrive(source: Source | null): Arrival | null {
    this.#arrived += 1;
    if (this.isOutOfDescriptors) {
      this.#refused.connections += 1;
      return null;
    }
    const { maxConnections } = this.#options;
    if (maxConnections !== null && this.connections >= maxConnections)
      this.#evict(this.#unpaired.victimFor(this.#networkAt(source)));
    const place = this.#limit.enter();
    const arrival = new Arrival(place, source, this.#options.wallClock(), this.#options.monotonicClock());
    this.#lobby.add(arrival);
    if (place === 'lane') {
      this.#refuse(arrival, 'connections');
    } else {
      this.#handshakes.start(arrival);
      this.#trackUnpaired(arrival);
    }
    return arrival;
  }

  /** Tells where a connection comes from. The address is not kept. */
  comesFrom(arrival: Arrival, address: string): void {
    if (arrival.refusal !== null) return;
    this.#learnNetwork(arrival, address);
    if (this.#options.addresses === null) return;
    arrival.slot = this.#options.addresses.enter(address);
    if (arrival.slot !== null) return;
    this.#untrack(arrival);
    // It must not take the room of others.
    this.#limit.leave(arrival.place);
    arrival.place = 'lane';
    this.#refuse(arrival, 'address');
    arrival.addressKey = this.#sharedAddress.keyOf(address);
  }

  /** A client has been made of it. */
  introduced(arrival: Arrival): void {
    arrival.isClient = true;
    this.#lobby.delete(arrival);
  }

  /** It has said what it wants, or will not. */
  heard(arrival: Arrival): void {
    this.#handshakes.stop(arrival);
    this.#refusals.stop(arrival);
  }

  /**
   * A client has come into another phase.
   *
   * @param waiting clients that wait now, if it is one of them; otherwise null
   */
  moved(arrival: Arrival, to: Phase, waiting: number | null): void {
    // A client that is closed after it had a partner may still have bytes to deliver.
    if (arrival.phase !== 'paired') arrival.phase = to;
    if (waiting === null && arrival.waiting !== null) {
      this.#waiting.remove(arrival.waiting);
      arrival.waiting = null;
    }
    if (arrival.phase === 'paired') this.#untrack(arrival);
    if (waiting === null || arrival.isExempt) return;
    this.#trackUnpaired(arrival);
    const { maxWaiting } = this.#options;
    if (arrival.waiting !== null || maxWaiting === null || waiting < maxWaiting * SCARCE_PART) return;
    arrival.waiting = this.#waiting.add(this.#networkOf(arrival), arrival);
  }

  /** Whether a client that has named its token is sent away. Its session is told with what. */
  judge(arrival: Arrival, { hasPartner, waiting }: Applicant): Refused | null {
    arrival.refusal ??= this.#reasonAgainst(arrival, hasPartner, waiting);
    return arrival.refusal === null ? null : EVENTS[arrival.refusal];
  }

  /** Exempts one of the relay's own probes from every limit. There are a few at a time. */
  pardon(arrival: Arrival): void {
    arrival.refusal = null;
    if (this.#lane.delete(arrival)) arrival.place = 'nowhere';
    arrival.isExempt = true;
    this.#untrack(arrival);
  }

  /** A client has failed to become one that waits or is paired. */
  failed(arrival: Arrival, failure: HandshakeFailure): void {
    if (arrival.refusal === null) this.#failures[failure] += 1;
  }

  /** Its descriptor is closed. */
  left(arrival: Arrival): void {
    this.heard(arrival);
    this.#untrack(arrival);
    this.#lobby.delete(arrival);
    this.#lane.delete(arrival);
    this.#limit.leave(arrival.place);
    arrival.slot?.leave();
    arrival.owner = null;
    // Only now: one of the relay's own probes is exempt when it names its token.
    if (arrival.refusal === 'address' && this.#sharedAddress.rejected(arrival.addressKey))
      this.#options.onSharedAddress?.();
    if (arrival.refusal !== null) this.#refused[arrival.refusal] += 1;
    else if (!arrival.isClient && arrival.failure !== null) this.failed(arrival, arrival.failure);
  }

  /** Connections that no client has been made of yet. */
  get pending(): readonly Arrival[] {
    return [...this.#lobby];
  }

  /** Closes a connection of `pending`, unless it has become a client since. */
  shutdown(arrival: Arrival): void {
    if (!this.#lobby.has(arrival)) return;
    arrival.failure = null;
    arrival.owner?.shutdown();
  }

  close(): void {
    for (const arrival of this.#lobby) {
      arrival.failure = null;
      arrival.owner?.cut();
    }
    this.#handshakes.close();
    this.#refusals.close();
  }

  #refuse(arrival: Arrival, reason: RefusalReason): void {
    arrival.refusal = reason;
    this.#handshakes.stop(arrival);
    this.#refusals.start(arrival);
    this.#lane.add(arrival);
    if (this.#lane.size <= LANE_PLACES) return;
    // A probe says its line at once and so is never the oldest.
    const [oldest] = this.#lane;
    if (oldest === undefined) return;
    this.#lane.delete(oldest);
    oldest.owner?.evict();
  }

  /** Closes a connection, so that a newcomer can have its place. Null: there is none to close. */
  #evict(victim: Arrival | null): void {
    if (victim === null || victim.phase === 'paired') return;
    this.#evicted[victim.phase] += 1;
    this.#untrack(victim);
    this.#limit.leave(victim.place);
    victim.place = 'nowhere';
    // As if it had come when there was no room: no record, and no failure of its own.
    if (victim.phase === 'handshake') victim.refusal = 'connections';
    victim.owner?.evict();
  }

  #trackUnpaired(arrival: Arrival): void {
    const { maxConnections } = this.#options;
    if (arrival.unpaired !== null || arrival.place !== 'inside' || maxConnections === null) return;
    if (this.connections < maxConnections * SCARCE_PART) return;
    arrival.unpaired = this.#unpaired.add(this.#networkOf(arrival), arrival);
  }

  #untrack(arrival: Arrival): void {
    if (arrival.unpaired !== null) this.#unpaired.remove(arrival.unpaired);
    if (arrival.waiting !== null) this.#waiting.remove(arrival.waiting);
    arrival.unpaired = null;
    arrival.waiting = null;
  }

  #learnNetwork(arrival: Arrival, address: string): void {
    arrival.network = this.#networkFor(address);
    if (arrival.unpaired === null) return;
    this.#untrack(arrival);
    this.#trackUnpaired(arrival);
  }

  #networkOf(arrival: Arrival): string | null {
    arrival.network ??= this.#networkAt(arrival.source);
    return arrival.network;
  }

  #networkAt(source: Source | null): string | null {
    const address = source?.address ?? null;
    return address === null ? null : this.#networkFor(address);
  }

  #networkFor(address: string): string {
    return hashPrefix(this.#salt, addressPrefix(address, IPV6_NETWORK_GROUPS));
  }

  #reasonAgainst(arrival: Arrival, hasPartner: boolean, waiting: number): RefusalReason | null {
    if (this.isOverQuota) return 'quota';
    if (hasPartner) return null;
    if (this.isStopping) return 'shutdown';
    const { maxWaiting } = this.#options;
    if (maxWaiting === null || waiting < maxWaiting) return null;
    const victim = this.#waiting.victimFor(this.#networkOf(arrival));
    this.#evict(victim);
    return victim === null ? 'waiting' : null;
  }
}
