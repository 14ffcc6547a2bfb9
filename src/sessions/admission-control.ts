import type { AddressLimit, AddressSlot } from '../limits/address-limit.ts';
import { hashPrefix, newSalt } from '../limits/address-hash.ts';
import { ConnectionLimit, REJECT_SLOTS } from '../limits/connection-limit.ts';
import type { Slot } from '../limits/connection-limit.ts';
import { EvictionIndex } from '../limits/eviction-index.ts';
import type { Entry } from '../limits/eviction-index.ts';
import { SharedAddressDetector } from '../limits/shared-address.ts';
import { TimeoutQueue } from '../limits/timeout-queue.ts';
import type { Rejection, SessionFailure } from '../protocol/session.ts';
import { addressPrefix } from '../protocol/ip-address.ts';

/**
 * How a connection failed to become a waiting or paired client.
 *
 * - `http`: it sent HTTP requests and did not become a WebSocket client; a browser, for example
 * - `tls`: its TLS handshake did not complete
 */
export type HandshakeFailure = SessionFailure | 'http' | 'tls';

/** Why a client is not let in. The first three are told `busy`. */
export type RejectReason = 'connections' | 'waiting' | 'address' | 'quota' | 'shutdown';

/** Who deals with a connection at the moment. */
export interface ConnectionPhase {
  /** It has taken too long to say what it wants. */
  onTimeout(): void;
  /** The relay stops; only pairs go on. */
  onDrain(): void;
  /** It has to be closed at once, since there is no room: another one needs its place. */
  evict(): void;
  /** The relay stops now. */
  abort(): void;
}

/** Where a connection comes from. */
export interface AddressSource {
  /** Asked of the kernel each time. Null where it is not known, or is a trusted proxy's. */
  readonly address: string | null;
}

/**
 * What became of a connection as far as eviction is concerned.
 *
 * - `handshake`: its handshake is not complete; - `waiting`: it waits for a partner, here or at another relay
 * - `paired`: it has a partner, or had one, and is never evicted; - `closing`: it has no partner and never
 *   will
 */
export type EvictionState = 'handshake' | 'waiting' | 'paired' | 'closing';

/**
 * One accepted connection, from its first packet until its descriptor is closed, whatever is made of it
 * meanwhile.
 */
export class AcceptedConnection {
  slot: Slot;
  /** Wall clock, milliseconds since the epoch. */
  readonly startedAt: number;
  /** Milliseconds of a clock that never jumps. */
  readonly startedTick: number;
  phase: ConnectionPhase | null = null;
  /** Not null: it will not be let in, and there will be no record of it. */
  rejectReason: RejectReason | null = null;
  /** A client has been made of it. */
  isClient = false;
  /** What it will have failed by, should it leave as it is now; null: by nothing that it did. */
  failure: HandshakeFailure | null = 'disconnected';
  /**
   * Its private address for `SharedAddressDetector`, if it was rejected for its address; null: it has none.
   */
  addressKey: string | null = null;
  /** Its share of what its address may have. */
  addressSlot: AddressSlot | null = null;

  evictionState: EvictionState = 'handshake';
  /** Null: it is of no client's address, since another relay forwards it. */
  readonly addressSource: AddressSource | null;
  /** The client's network as a salted hash; null as long as it was not asked for, or is not known. */
  networkKey: string | null = null;
  /**
   * Its entries among connections without a partner, and among waiting clients; null while there is no
   * shortage.
   */
  unpairedEntry: Entry<AcceptedConnection> | null = null;
  waitingEntry: Entry<AcceptedConnection> | null = null;
  /** It is the relay itself, and takes no place from a client. */
  isExempt = false;

  constructor(slot: Slot, source: AddressSource | null, startedAt: number, startedTick: number) {
    this.slot = slot;
    this.addressSource = source;
    this.startedAt = startedAt;
    this.startedTick = startedTick;
  }
}

/** How long somebody who is not let in may take to say in which language to be told so, in milliseconds. */
const REJECT_TIMEOUT_MS = 5000;

/** From this part of a limit on, the relay keeps track of networks. Below it, no address is asked for. */
const EVICTION_TRACKING_THRESHOLD = 0.5;

/** A /48: what a single site may have (RFC 6177), and what is given away for free. */
const IPV6_NETWORK_GROUPS = 3;

export interface AdmissionControlOptions {
  /**
   * Time from a connection's first packet to the end of its line, in milliseconds; null: as long as it likes.
   */
  readonly handshakeTimeoutMs: number | null;
  /** Open connections. */
  readonly maxConnections: number;
  /** Clients that wait at once; null: all of them. */
  readonly maxWaiting: number | null;
  /** Null: addresses are not looked at. */
  readonly addressLimit: AddressLimit | null;
  /**
   * Nearly all clients that `addresses` rejected lately have the same private address. Called for each sample
   * of rejections.
   */
  readonly onSharedAddress?: () => void;
  readonly wallClock: () => number;
  readonly monotonicClock: () => number;
}

/** What has to be known of a client that has named its token. */
export interface AdmissionRequest {
  readonly hasPartner: boolean;
  /** Clients that wait already. */
  readonly waiting: number;
}

/** What each refused client is told, as an event of its session. */
const REJECT_EVENTS: Readonly<Record<RejectReason, Rejection>> = {
  connections: 'busy',
  waiting: 'busy',
  address: 'busy',
  quota: 'over-quota',
  shutdown: 'draining',
};

/** Who is let in: knows every connection from its first packet on, and counts whoever is refused. */
export class AdmissionControl {
  readonly #options: AdmissionControlOptions;
  readonly #limit: ConnectionLimit;
  readonly #handshakeTimeouts: TimeoutQueue<AcceptedConnection>;
  readonly #rejectTimeouts: TimeoutQueue<AcceptedConnection>;
  readonly #sharedAddress: SharedAddressDetector;
  /** Connections beyond the limit, the oldest first. */
  readonly #rejectSlots = new Set<AcceptedConnection>();
  /** Connections that no client has been made of yet. */
  readonly #pending = new Set<AcceptedConnection>();
  readonly #rejected: Record<RejectReason, number> = {
    connections: 0,
    waiting: 0,
    address: 0,
    quota: 0,
    shutdown: 0,
  };
  readonly #evicted: Record<Exclude<EvictionState, 'paired'>, number> = {
    handshake: 0,
    waiting: 0,
    closing: 0,
  };
  /**
   * Connections without a partner, and waiting clients, by network. Entries exist only as long as the
   * connections do.
   */
  readonly #unpaired = new EvictionIndex<AcceptedConnection>();
  readonly #waiting = new EvictionIndex<AcceptedConnection>();
  readonly #salt = newSalt();
  readonly #handshakeFailures: Record<HandshakeFailure, number> = {
    disconnected: 0,
    timeout: 0,
    bad_line: 0,
    overlong_line: 0,
    early_bytes: 0,
    text: 0,
    http: 0,
    tls: 0,
  };
  #totalConnections = 0;
  /** Only partners of clients that wait are let in. */
  isDraining = false;
  isOverQuota = false;
  /** The process has no descriptor left: whoever is accepted all the same has no place to be told so. */
  isOutOfDescriptors = false;

  constructor(options: AdmissionControlOptions) {
    this.#options = options;
    this.#limit = new ConnectionLimit(options.maxConnections);
    const tooLate = (accepted: AcceptedConnection): void => {
      accepted.failure = 'timeout';
      accepted.phase?.onTimeout();
    };
    const { handshakeTimeoutMs: handshakeMs, monotonicClock } = options;
    this.#handshakeTimeouts = new TimeoutQueue(handshakeMs, monotonicClock, tooLate);
    this.#sharedAddress = new SharedAddressDetector(monotonicClock);
    this.#rejectTimeouts = new TimeoutQueue(
      Math.min(REJECT_TIMEOUT_MS, handshakeMs ?? REJECT_TIMEOUT_MS),
      monotonicClock,
      tooLate,
    );
  }

  /** Connections that have not been refused, whatever became of them so far. */
  get connections(): number {
    return this.#limit.admitted;
  }

  /** Connections since the start, refused ones too. */
  get totalConnections(): number {
    return this.#totalConnections;
  }

  /** Clients that were refused since the start, by reason. */
  get rejected(): Readonly<Record<RejectReason, number>> {
    return this.#rejected;
  }

  /** Clients that never came to wait or be paired, by how that was. Refused ones are not among them. */
  get handshakeFailures(): Readonly<Record<HandshakeFailure, number>> {
    return this.#handshakeFailures;
  }

  /** Connections since the start whose place was given to a client from another network, by what they did. */
  get evicted(): Readonly<Record<Exclude<EvictionState, 'paired'>, number>> {
    return this.#evicted;
  }

  /** Limit of open connections. */
  get maxConnections(): number {
    return this.#options.maxConnections;
  }

  /** Whether anybody needs to know where clients come from. */
  get needsClientAddress(): boolean {
    return this.#options.addressLimit !== null;
  }

  /**
   * Takes in a connection. `left` is due in the end. Null where no descriptor is left even to tell it that
   * there is no room.
   *
   * @param source null: another relay forwards a client
   */
  accept(source: AddressSource | null): AcceptedConnection | null {
    this.#totalConnections += 1;
    if (this.isOutOfDescriptors) {
      this.#rejected.connections += 1;
      return null;
    }
    if (this.connections >= this.maxConnections)
      this.#evict(this.#unpaired.victimFor(this.#networkAt(source)));
    const slot = this.#limit.acquire();
    const accepted = new AcceptedConnection(
      slot,
      source,
      this.#options.wallClock(),
      this.#options.monotonicClock(),
    );
    this.#pending.add(accepted);
    if (slot === 'lane') {
      this.#reject(accepted, 'connections');
    } else {
      this.#handshakeTimeouts.start(accepted);
      this.#trackUnpaired(accepted);
    }
    return accepted;
  }

  /** Tells where a connection comes from. The address is not kept. */
  setClientAddress(accepted: AcceptedConnection, address: string): void {
    if (accepted.rejectReason !== null) return;
    this.#updateNetwork(accepted, address);
    if (this.#options.addressLimit === null) return;
    accepted.addressSlot = this.#options.addressLimit.acquire(address);
    if (accepted.addressSlot !== null) return;
    this.#untrack(accepted);
    // It must not take the room of others.
    this.#limit.release(accepted.slot);
    accepted.slot = 'lane';
    this.#reject(accepted, 'address');
    accepted.addressKey = this.#sharedAddress.keyOf(address);
  }

  /** A client has been made of it. */
  promote(accepted: AcceptedConnection): void {
    accepted.isClient = true;
    this.#pending.delete(accepted);
  }

  /** It has said what it wants, or will not. */
  handshakeDone(accepted: AcceptedConnection): void {
    this.#handshakeTimeouts.stop(accepted);
    this.#rejectTimeouts.stop(accepted);
  }

  /**
   * A client has come into another phase.
   *
   * @param waiting clients that wait now, if it is one of them; otherwise null
   */
  setEvictionState(accepted: AcceptedConnection, to: EvictionState, waiting: number | null): void {
    // A client that is closed after it had a partner may still have bytes to deliver.
    if (accepted.evictionState !== 'paired') accepted.evictionState = to;
    if (waiting === null && accepted.waitingEntry !== null) {
      this.#waiting.remove(accepted.waitingEntry);
      accepted.waitingEntry = null;
    }
    if (accepted.evictionState === 'paired') this.#untrack(accepted);
    if (waiting === null || accepted.isExempt) return;
    this.#trackUnpaired(accepted);
    const { maxWaiting } = this.#options;
    if (
      accepted.waitingEntry !== null ||
      maxWaiting === null ||
      waiting < maxWaiting * EVICTION_TRACKING_THRESHOLD
    )
      return;
    accepted.waitingEntry = this.#waiting.add(this.#networkOf(accepted), accepted);
  }

  /** Whether a client that has named its token is sent away. Its session is told with what. */
  admit(accepted: AcceptedConnection, { hasPartner, waiting }: AdmissionRequest): Rejection | null {
    accepted.rejectReason ??= this.#rejectReasonFor(accepted, hasPartner, waiting);
    return accepted.rejectReason === null ? null : REJECT_EVENTS[accepted.rejectReason];
  }

  /** Exempts one of the relay's own probes from every limit. There are a few at a time. */
  exempt(accepted: AcceptedConnection): void {
    accepted.rejectReason = null;
    if (this.#rejectSlots.delete(accepted)) accepted.slot = 'nowhere';
    accepted.isExempt = true;
    this.#untrack(accepted);
  }

  /** Counts a failed handshake. A raw client that disconnects before TLS is established counts as `tls`. */
  countHandshakeFailure(accepted: AcceptedConnection, failure: HandshakeFailure): void {
    if (accepted.rejectReason !== null) return;
    const isInTls = failure === 'disconnected' && accepted.failure === 'tls';
    this.#handshakeFailures[isInTls ? 'tls' : failure] += 1;
  }

  /** Its descriptor is closed. */
  release(accepted: AcceptedConnection): void {
    this.handshakeDone(accepted);
    this.#untrack(accepted);
    this.#pending.delete(accepted);
    this.#rejectSlots.delete(accepted);
    this.#limit.release(accepted.slot);
    accepted.addressSlot?.release();
    accepted.phase = null;
    // Only now: one of the relay's own probes is exempt when it names its token.
    if (accepted.rejectReason === 'address' && this.#sharedAddress.countRejection(accepted.addressKey))
      this.#options.onSharedAddress?.();
    if (accepted.rejectReason !== null) this.#rejected[accepted.rejectReason] += 1;
    else if (!accepted.isClient && accepted.failure !== null)
      this.countHandshakeFailure(accepted, accepted.failure);
  }

  /** Connections that no client has been made of yet. */
  get pending(): readonly AcceptedConnection[] {
    return [...this.#pending];
  }

  /** Closes a connection of `pending`, unless it has become a client since. */
  closePending(accepted: AcceptedConnection): void {
    if (!this.#pending.has(accepted)) return;
    accepted.failure = null;
    accepted.phase?.onDrain();
  }

  close(): void {
    for (const accepted of this.#pending) {
      accepted.failure = null;
      accepted.phase?.abort();
    }
    this.#handshakeTimeouts.close();
    this.#rejectTimeouts.close();
  }

  #reject(accepted: AcceptedConnection, reason: RejectReason): void {
    accepted.rejectReason = reason;
    this.#handshakeTimeouts.stop(accepted);
    this.#rejectTimeouts.start(accepted);
    this.#rejectSlots.add(accepted);
    if (this.#rejectSlots.size <= REJECT_SLOTS) return;
    // A probe says its line at once and so is never the oldest.
    const [oldest] = this.#rejectSlots;
    if (oldest === undefined) return;
    this.#rejectSlots.delete(oldest);
    oldest.phase?.evict();
  }

  /** Closes a connection, so that a newcomer can have its place. Null: there is none to close. */
  #evict(victim: AcceptedConnection | null): void {
    if (victim === null || victim.evictionState === 'paired') return;
    this.#evicted[victim.evictionState] += 1;
    this.#untrack(victim);
    this.#limit.release(victim.slot);
    victim.slot = 'nowhere';
    // As if it had come when there was no room: no record, and no failure of its own.
    if (victim.evictionState === 'handshake') victim.rejectReason = 'connections';
    victim.phase?.evict();
  }

  #trackUnpaired(accepted: AcceptedConnection): void {
    if (accepted.unpairedEntry !== null || accepted.slot !== 'inside') return;
    if (this.connections < this.maxConnections * EVICTION_TRACKING_THRESHOLD) return;
    accepted.unpairedEntry = this.#unpaired.add(this.#networkOf(accepted), accepted);
  }

  #untrack(accepted: AcceptedConnection): void {
    if (accepted.unpairedEntry !== null) this.#unpaired.remove(accepted.unpairedEntry);
    if (accepted.waitingEntry !== null) this.#waiting.remove(accepted.waitingEntry);
    accepted.unpairedEntry = null;
    accepted.waitingEntry = null;
  }

  #updateNetwork(accepted: AcceptedConnection, address: string): void {
    accepted.networkKey = this.#networkFor(address);
    if (accepted.unpairedEntry === null) return;
    this.#untrack(accepted);
    this.#trackUnpaired(accepted);
  }

  #networkOf(accepted: AcceptedConnection): string | null {
    accepted.networkKey ??= this.#networkAt(accepted.addressSource);
    return accepted.networkKey;
  }

  #networkAt(source: AddressSource | null): string | null {
    const address = source?.address ?? null;
    return address === null ? null : this.#networkFor(address);
  }

  #networkFor(address: string): string {
    return hashPrefix(this.#salt, addressPrefix(address, IPV6_NETWORK_GROUPS));
  }

  #rejectReasonFor(accepted: AcceptedConnection, hasPartner: boolean, waiting: number): RejectReason | null {
    if (this.isOverQuota) return 'quota';
    if (hasPartner) return null;
    if (this.isDraining) return 'shutdown';
    const { maxWaiting } = this.#options;
    if (maxWaiting === null || waiting < maxWaiting) return null;
    const victim = this.#waiting.victimFor(this.#networkOf(accepted));
    this.#evict(victim);
    return victim === null ? 'waiting' : null;
  }
}
