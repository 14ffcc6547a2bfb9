import type { TrustedProxies } from '../config/trusted-proxies.ts';
import { SharedAddressDetector, hashPrefix, newSalt } from '../limits/address-limit.ts';
import type { AddressLimit, AddressLimits, AddressSlot } from '../limits/address-limit.ts';
import { REJECT_SLOTS } from '../limits/capacity.ts';
import { EvictionIndex } from '../limits/eviction-index.ts';
import type { Entry } from '../limits/eviction-index.ts';
import { LinkedSet } from '../limits/linked-set.ts';
import type { Linked } from '../limits/linked-set.ts';
import { RejectionHistory } from '../limits/rejection-history.ts';
import type { RejectReason } from '../limits/rejection-history.ts';
import { TimeoutQueue } from '../limits/timeouts.ts';
import type { Timeout } from '../limits/timeouts.ts';
import type { Rejection, SessionFailure } from '../protocol/session.ts';
import { addressPrefix } from '../protocol/ip-address.ts';
import type { ByteStream } from '../transport/byte-stream.ts';

/**
 * How a connection failed to become a waiting or paired client.
 *
 * - `http`: it sent HTTP requests and did not become a WebSocket client; a browser, for example
 * - `tls`: its TLS handshake did not complete
 */
type HandshakeFailure = SessionFailure | 'http' | 'tls';

/** The code that handles a connection at the moment. */
export interface ConnectionPhase {
  /** Its handshake took too long. */
  onTimeout(): void;
  /** The relay drains; only pairs continue. */
  onDrain(): void;
  /** It has to be closed at once, because another connection takes its place. */
  evict(): void;
  /** The relay stops now. */
  abort(): void;
}

/**
 * The state of a connection for eviction.
 *
 * - `handshake`: its handshake is not complete
 * - `waiting`: it waits for a partner, here or at another relay
 * - `paired`: it has or had a partner, and is never evicted
 * - `closing`: it never had a partner and closes
 */
export type EvictionState = 'handshake' | 'waiting' | 'paired' | 'closing';

/**
 * The slot of a connection.
 *
 * - `admitted`: it is within the limit
 * - `reject-slot`: the limit is reached; the connection stays open until it has been rejected
 * - `none`: it is not counted
 */
type Slot = 'admitted' | 'reject-slot' | 'none';

/** One accepted connection, from its first packet until its descriptor is closed, in all its phases. */
export class AcceptedConnection implements Linked<AcceptedConnection> {
  slot: Slot;
  /** Wall clock, milliseconds since the epoch. */
  readonly startedAt: number;
  /** Monotonic clock, milliseconds. */
  readonly startedTick: number;
  phase: ConnectionPhase | null = null;
  /** Not null: it is rejected and gets no record. */
  rejectReason: RejectReason | null = null;
  /** Failure to count if the connection closes now; null if closing now is not a failure. */
  failure: HandshakeFailure | null = 'disconnected';
  /** The key of its private address in `SharedAddressDetector`, if it was rejected for its address. */
  addressKey: string | null = null;
  /** Its slot in the limit of its address. */
  addressSlot: AddressSlot | null = null;

  evictionState: EvictionState = 'handshake';
  /** Its address is read there. Null: another relay forwards it, so the address is not the client's. */
  readonly stream: ByteStream | null;
  /** The client's network as a salted hash; null if it was not needed yet or is unknown. */
  networkKey: string | null = null;
  /**
   * Its entries in the indexes of connections without a partner and of waiting clients; null while the limits
   * are far.
   */
  unpairedEntry: Entry<AcceptedConnection> | null = null;
  waitingEntry: Entry<AcceptedConnection> | null = null;
  /** It is a probe of the relay itself and takes no slot from a client. */
  isExempt = false;
  /** Of its handshake, or of its rejection. Null: neither runs. */
  timeout: Timeout<AcceptedConnection> | null = null;
  previous: AcceptedConnection | null = null;
  next: AcceptedConnection | null = null;

  constructor(slot: Slot, stream: ByteStream | null, startedAt: number, startedTick: number) {
    this.slot = slot;
    this.stream = stream;
    this.startedAt = startedAt;
    this.startedTick = startedTick;
  }
}

/**
 * How long a rejected connection may take until its protocol is known and it can be told, in milliseconds.
 */
const REJECT_TIMEOUT_MS = 5000;

/** Fraction of a limit above which the relay tracks networks. Below it, no address is read. */
const EVICTION_TRACKING_THRESHOLD = 0.5;

/** A /48: what a single site may have (RFC 6177), and what providers assign for free. */
const IPV6_NETWORK_GROUPS = 3;

export interface AdmissionControlOptions {
  /**
   * Time from a connection's first packet to the end of its handshake line, in milliseconds; null: forever.
   */
  readonly handshakeTimeoutMs: number | null;
  /** Open connections. */
  readonly maxConnections: number;
  /** Clients that wait at the same time; null: no limit. */
  readonly maxWaiting: number | null;
  /** Null: no proxy is trusted to name the client's address. */
  readonly proxies: TrustedProxies | null;
  /** Null: addresses are not limited. */
  readonly addressLimit: AddressLimit | null;
  /**
   * Nearly all clients that `addressLimit` rejected recently have the same private address. Called for each
   * sample of rejections.
   */
  readonly onSharedAddress?: () => void;
  /** A client has been rejected. */
  readonly onRejected?: (reason: RejectReason) => void;
  readonly wallClock: () => number;
  readonly monotonicClock: () => number;
}

/** The session event for each reason, which selects the reply. */
const REJECT_EVENTS: Readonly<Record<RejectReason, Rejection>> = {
  connections: 'busy',
  waiting: 'busy',
  address: 'busy',
  quota: 'over-quota',
  shutdown: 'draining',
};

/**
 * Decides which connections may enter. Tracks every connection from its first packet, and counts rejections.
 */
export class AdmissionControl {
  readonly proxies: TrustedProxies | null;
  readonly rejections: RejectionHistory;
  readonly #options: AdmissionControlOptions;
  readonly #handshakeTimeouts: TimeoutQueue<AcceptedConnection>;
  readonly #rejectTimeouts: TimeoutQueue<AcceptedConnection>;
  readonly #sharedAddress: SharedAddressDetector;
  /** Connections beyond the limit, the oldest first. */
  readonly #rejectSlots = new Set<AcceptedConnection>();
  /** Connections without a client session. */
  readonly #pending = new LinkedSet<AcceptedConnection>();
  readonly #evicted: Record<Exclude<EvictionState, 'paired'>, number> = {
    handshake: 0,
    waiting: 0,
    closing: 0,
  };
  /**
   * Connections without a partner, and waiting clients, by network. An entry exists only as long as its
   * connection.
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
  /** Connections with the slot `admitted`. */
  #connections = 0;
  #totalConnections = 0;
  /** Only partners of waiting clients are admitted. */
  isDraining = false;
  isOverQuota = false;
  /** The process has no free descriptor. New connections are rejected without a reject slot. */
  isOutOfDescriptors = false;

  constructor(options: AdmissionControlOptions) {
    this.proxies = options.proxies;
    this.#options = options;
    const onTimeout = (accepted: AcceptedConnection): void => {
      accepted.failure = 'timeout';
      accepted.phase?.onTimeout();
    };
    const { handshakeTimeoutMs, monotonicClock, wallClock } = options;
    this.rejections = new RejectionHistory(monotonicClock, wallClock);
    this.#handshakeTimeouts = new TimeoutQueue(handshakeTimeoutMs, monotonicClock, onTimeout);
    this.#sharedAddress = new SharedAddressDetector(monotonicClock);
    this.#rejectTimeouts = new TimeoutQueue(
      Math.min(REJECT_TIMEOUT_MS, handshakeTimeoutMs ?? REJECT_TIMEOUT_MS),
      monotonicClock,
      onTimeout,
    );
  }

  /** Open connections that were not rejected. */
  get connections(): number {
    return this.#connections;
  }

  /** Connections since the start, including rejected ones. */
  get totalConnections(): number {
    return this.#totalConnections;
  }

  /** Clients rejected since the start, by reason. */
  get rejected(): Readonly<Record<RejectReason, number>> {
    return this.rejections.totals;
  }

  /** Failed handshakes since the start, without rejected connections. */
  get handshakeFailures(): Readonly<Record<HandshakeFailure, number>> {
    return this.#handshakeFailures;
  }

  /** Connections evicted since the start for a client from another network, by their state. */
  get evicted(): Readonly<Record<Exclude<EvictionState, 'paired'>, number>> {
    return this.#evicted;
  }

  /** Limit of open connections. */
  get maxConnections(): number {
    return this.#options.maxConnections;
  }

  /** Limit of waiting clients; null: no limit. */
  get maxWaiting(): number | null {
    return this.#options.maxWaiting;
  }

  /** The limit that the last client rejected for its address exceeded; null: there was none. */
  get exceededAddressLimit(): keyof AddressLimits | null {
    return this.#options.addressLimit?.exceeded ?? null;
  }

  /** Whether `setClientAddress` has to be called on accept. */
  get needsClientAddress(): boolean {
    return this.#options.addressLimit !== null || this.proxies !== null;
  }

  /**
   * Registers a new connection. `release` has to be called when it is closed. Null if the process has no free
   * descriptor: the connection has to be closed at once.
   *
   * @param stream null: another relay forwards a client
   */
  accept(stream: ByteStream | null): AcceptedConnection | null {
    this.#totalConnections += 1;
    if (this.isOutOfDescriptors) {
      this.#countRejection('connections');
      return null;
    }
    if (this.connections >= this.maxConnections)
      this.#evict(this.#unpaired.victimFor(this.#networkAt(stream)));
    const slot = this.connections < this.maxConnections ? 'admitted' : 'reject-slot';
    const accepted = new AcceptedConnection(
      slot,
      stream,
      this.#options.wallClock(),
      this.#options.monotonicClock(),
    );
    this.#pending.add(accepted);
    if (slot === 'reject-slot') {
      this.#reject(accepted, 'connections');
    } else {
      this.#connections += 1;
      accepted.timeout = this.#handshakeTimeouts.start(accepted);
      this.#trackUnpaired(accepted);
    }
    return accepted;
  }

  /** Sets the client's address, which is not stored. */
  setClientAddress(accepted: AcceptedConnection, address: string): void {
    if (accepted.rejectReason !== null) return;
    accepted.networkKey = this.#networkFor(address);
    if (accepted.unpairedEntry !== null) {
      this.#untrack(accepted);
      this.#trackUnpaired(accepted);
    }
    if (this.#options.addressLimit === null) return;
    accepted.addressSlot = this.#options.addressLimit.acquire(address);
    if (accepted.addressSlot !== null) return;
    this.#untrack(accepted);
    // It must not use the capacity of others.
    this.#setSlot(accepted, 'reject-slot');
    this.#reject(accepted, 'address');
    accepted.addressKey = this.#sharedAddress.keyOf(address);
  }

  /** The connection has a client session now. */
  promote(accepted: AcceptedConnection): void {
    this.#pending.delete(accepted);
  }

  /** The handshake is complete or has failed. */
  handshakeDone(accepted: AcceptedConnection): void {
    accepted.timeout?.stop();
    accepted.timeout = null;
  }

  /**
   * The state of a client has changed.
   *
   * @param waiting clients that wait now, if it is one of them; otherwise null
   */
  setEvictionState(accepted: AcceptedConnection, to: EvictionState, waiting: number | null): void {
    // After a pair, a closing client may still have bytes to receive.
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

  /**
   * Admits a client that has named its token (null), or returns the session event that rejects it.
   *
   * @param waiting clients that are waiting now
   */
  admit(accepted: AcceptedConnection, hasPartner: boolean, waiting: number): Rejection | null {
    accepted.rejectReason ??= this.#rejectReasonFor(accepted, hasPartner, waiting);
    return accepted.rejectReason === null ? null : REJECT_EVENTS[accepted.rejectReason];
  }

  /** Exempts one of the relay's own probes from all limits. There are only a few at a time. */
  exempt(accepted: AcceptedConnection): void {
    accepted.rejectReason = null;
    if (this.#rejectSlots.delete(accepted)) accepted.slot = 'none';
    accepted.isExempt = true;
    this.#untrack(accepted);
  }

  /** Counts a failed handshake. A raw client that disconnects before TLS is established counts as `tls`. */
  countHandshakeFailure(accepted: AcceptedConnection, failure: HandshakeFailure): void {
    if (accepted.rejectReason !== null || accepted.isExempt) return;
    const isInTls = failure === 'disconnected' && accepted.failure === 'tls';
    this.#handshakeFailures[isInTls ? 'tls' : failure] += 1;
  }

  /** Ends the bookkeeping of a connection whose descriptor is closed. */
  release(accepted: AcceptedConnection): void {
    this.handshakeDone(accepted);
    this.#untrack(accepted);
    const isPending = this.#pending.delete(accepted);
    this.#rejectSlots.delete(accepted);
    this.#setSlot(accepted, 'none');
    accepted.addressSlot?.release();
    accepted.phase = null;
    // Only now, because a probe of the relay is exempt once it has named its token.
    if (accepted.rejectReason === 'address' && this.#sharedAddress.countRejection(accepted.addressKey))
      this.#options.onSharedAddress?.();
    if (accepted.rejectReason !== null) this.#countRejection(accepted.rejectReason);
    else if (isPending && accepted.failure !== null) this.countHandshakeFailure(accepted, accepted.failure);
  }

  /** Connections without a client session. */
  get pending(): readonly AcceptedConnection[] {
    return [...this.#pending];
  }

  /** Closes a connection of `pending`, unless it has a client session by now. */
  closePending(accepted: AcceptedConnection): void {
    if (!this.#pending.has(accepted)) return;
    accepted.failure = null;
    accepted.phase?.onDrain();
  }

  close(): void {
    for (const accepted of this.pending) {
      accepted.failure = null;
      accepted.phase?.abort();
    }
    this.#handshakeTimeouts.close();
    this.#rejectTimeouts.close();
  }

  #countRejection(reason: RejectReason): void {
    this.rejections.count(reason);
    this.#options.onRejected?.(reason);
  }

  /** Takes its slot from a connection that does not count any more. */
  #setSlot(accepted: AcceptedConnection, slot: Exclude<Slot, 'admitted'>): void {
    if (accepted.slot === 'admitted') this.#connections -= 1;
    accepted.slot = slot;
  }

  #reject(accepted: AcceptedConnection, reason: RejectReason): void {
    accepted.rejectReason = reason;
    accepted.timeout?.stop();
    accepted.timeout = this.#rejectTimeouts.start(accepted);
    this.#rejectSlots.add(accepted);
    if (this.#rejectSlots.size <= REJECT_SLOTS) return;
    // A probe sends its line at once, so it is never the oldest.
    const [oldest] = this.#rejectSlots;
    if (oldest === undefined) return;
    this.#rejectSlots.delete(oldest);
    oldest.phase?.evict();
  }

  /** Closes a connection to make a place for a new one. Null: there is none to close. */
  #evict(victim: AcceptedConnection | null): void {
    if (victim === null || victim.evictionState === 'paired') return;
    this.#evicted[victim.evictionState] += 1;
    this.#untrack(victim);
    this.#setSlot(victim, 'none');
    // Counts like a connection that arrived when the relay was full: no record and no failed handshake.
    if (victim.evictionState === 'handshake') victim.rejectReason = 'connections';
    victim.phase?.evict();
  }

  #trackUnpaired(accepted: AcceptedConnection): void {
    if (accepted.unpairedEntry !== null || accepted.slot !== 'admitted') return;
    if (this.connections < this.maxConnections * EVICTION_TRACKING_THRESHOLD) return;
    accepted.unpairedEntry = this.#unpaired.add(this.#networkOf(accepted), accepted);
  }

  #untrack(accepted: AcceptedConnection): void {
    if (accepted.unpairedEntry !== null) this.#unpaired.remove(accepted.unpairedEntry);
    if (accepted.waitingEntry !== null) this.#waiting.remove(accepted.waitingEntry);
    accepted.unpairedEntry = null;
    accepted.waitingEntry = null;
  }

  #networkOf(accepted: AcceptedConnection): string | null {
    accepted.networkKey ??= this.#networkAt(accepted.stream);
    return accepted.networkKey;
  }

  /** Reads the address from the kernel. Null if it is unknown or that of a trusted proxy. */
  #networkAt(stream: ByteStream | null): string | null {
    const address = stream?.remoteAddress ?? null;
    return address === null || this.proxies?.trusts(address) === true ? null : this.#networkFor(address);
  }

  #networkFor(address: string): string {
    return hashPrefix(this.#salt, addressPrefix(address, IPV6_NETWORK_GROUPS));
  }

  #rejectReasonFor(accepted: AcceptedConnection, hasPartner: boolean, waiting: number): RejectReason | null {
    if (accepted.isExempt) return null;
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
