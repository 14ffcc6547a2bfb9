import type { Forwarder } from '../cluster/forwarder.ts';
import type { Owner } from '../cluster/router.ts';
import type { Linked } from '../limits/linked-set.ts';
import type { Timeout } from '../limits/timeouts.ts';
import { parseHandshake } from '../protocol/handshake.ts';
import { REPLIES } from '../protocol/messages.ts';
import type { Mood, Side, Token } from '../protocol/messages.ts';
import { transition } from '../protocol/session.ts';
import type { SessionEffect, SessionEvent, SessionState } from '../protocol/session.ts';
import { EMPTY_BYTES } from '../transport/byte-stream.ts';
import type {
  ClientTransport,
  ClientTransportHandler,
  TransportKind,
} from '../transport/client-transport.ts';
import type { AcceptedConnection, ConnectionPhase } from './admission-control.ts';
import type { SessionManager } from './session-manager.ts';
import type { OpenPair, SessionStats } from './session-stats.ts';
import { Splice } from './splice.ts';

/** The outcome of a session that ended alone, or of a pair, for its usage record. Times in milliseconds. */
export interface SessionSummary {
  readonly mood: Mood;
  /** When the connection was accepted, or the older one of a pair; wall clock, since the epoch. */
  readonly startedAt: number;
  readonly totalMs: number;
  /** From the start until the partner arrived; null if none arrived. */
  readonly waitingMs: number | null;
  /** Both directions together. */
  readonly totalBytes: number;
  /** Of the connection, or of both of a pair. */
  readonly transports: readonly TransportKind[];
}

/**
 * One client: feeds the handshake and the session table with its transport's events, and runs the effects.
 */
export class ClientSession implements ClientTransportHandler, ConnectionPhase, Linked<ClientSession> {
  readonly accepted: AcceptedConnection;
  readonly transport: ClientTransport;
  readonly #sessions: SessionManager;
  #stats: SessionStats;
  #state: SessionState = 'handshake';
  #line: Uint8Array = EMPTY_BYTES;
  #token: Token | null = null;
  #handshakeTick = 0;
  #side: Side | null = null;
  /** Null if the relay is not in a cluster, or the client does not wait or is a probe. */
  #forwarder: Forwarder | null = null;
  /** Between this client and the owner relay. */
  #forwardingSplice: Splice | null = null;
  #pair: { readonly partner: ClientSession; readonly open: OpenPair; readonly tick: number } | null = null;
  /** Null unless it waits and may not do so forever. Owned by the session manager, like the links. */
  waitTimeout: Timeout<ClientSession> | null = null;
  previous: ClientSession | null = null;
  next: ClientSession | null = null;

  constructor(transport: ClientTransport, accepted: AcceptedConnection, sessions: SessionManager) {
    this.accepted = accepted;
    this.transport = transport;
    this.#sessions = sessions;
    this.#stats = sessions.clients;
    accepted.phase = this;
  }

  get state(): SessionState {
    return this.#state;
  }

  /** Null until it has named one. */
  get token(): Token | null {
    return this.#token;
  }

  /** When it named its token, in milliseconds of the monotonic clock. */
  get handshakeTick(): number {
    return this.#handshakeTick;
  }

  /** Its pair, also once it has ended; or its connection to the owner relay. Null if it never had a partner. */
  get splice(): Splice | null {
    return this.#pair?.open.splice ?? this.#forwardingSplice;
  }

  /**
   * Since when the kernel's buffers of its pair may be full because a receiver does not keep up, in milliseconds of
   * the monotonic clock. Null if they are not, and for one of the two clients of a pair. A closing client counts while
   * bytes are buffered for it.
   */
  get stalledSince(): number | null {
    if (this.#state === 'paired' && this.#pair?.open.session !== this) return null;
    if (this.#state === 'closing' && this.transport.bufferedBytes === 0) return null;
    return this.#state === 'closed' ? null : (this.splice?.stalledSince ?? null);
  }

  onData(bytes: Uint8Array): void {
    if (this.#state === 'paired') this.#pair?.open.splice.forward(this.transport, bytes);
    else if (this.#state === 'handshake') this.guard(() => this.#readHandshake(bytes));
    else if (this.#state === 'forwarding') this.#forwarder?.forward(bytes);
    else if (this.#state === 'connecting-upstream') this.#forwarder?.onClientData(bytes);
    else if (this.#state === 'waiting' && this.#forwarder?.tryBuffer(bytes) !== true)
      this.dispatch('early-bytes');
  }

  onText(): void {
    this.dispatch('text');
  }

  onTimeout(): void {
    this.dispatch(this.accepted.rejectReason === null ? 'timed-out' : 'busy');
  }

  onDrain(): void {
    // The relay that forwards the client looks for another owner.
    const isForwardedHere = this.#state === 'waiting' && this.transport.kind === 'link';
    this.dispatch(isForwardedHere ? 'not-owner' : 'drain');
  }

  evict(): void {
    if (this.#state === 'handshake') this.dispatch('busy');
    this.dispatch(this.#state === 'waiting' ? 'evicted' : 'aborted');
  }

  abort(): void {
    this.dispatch('aborted');
  }

  onWritable(): void {
    if (this.#state === 'closing') {
      this.#sessions.onDelivered(this);
      return;
    }
    this.#pair?.open.splice.receiverDrained(this.transport);
    this.#forwarder?.onClientDrain();
  }

  onEnd(): void {
    this.dispatch('end');
  }

  onClose(): void {
    this.dispatch('close');
  }

  /** Applies an event. An internal error ends this session and no other. */
  dispatch(event: SessionEvent): void {
    this.guard(() => {
      const before = this.#state;
      const { next, effects } = transition(before, event);
      this.#state = next;
      // While it is paused for the lookup of its owner, its FIN would stay unnoticed.
      if (next === 'closing' || next === 'closed') this.#forwarder?.flushEarlyData();
      for (const effect of effects) this.#run(effect);
      if (next !== before) this.#sessions.onStateChange(this, next);
    });
  }

  guard(action: () => void): void {
    try {
      action();
    } catch (error) {
      this.transport.abort();
      this.#sessions.onInternalError(error);
    }
  }

  #readHandshake(bytes: Uint8Array): void {
    this.#line = this.#line.length === 0 ? bytes : Buffer.concat([this.#line, bytes]);
    const handshake = parseHandshake(this.#line);
    switch (handshake.kind) {
      case 'incomplete':
        // The read buffer is reused, so copy.
        this.#line = Uint8Array.from(this.#line);
        return;
      case 'overlong':
      case 'bad':
        this.#line = EMPTY_BYTES;
        this.dispatch(handshake.kind === 'bad' ? 'bad-line' : 'overlong-line');
        return;
      case 'relay': {
        this.#line = EMPTY_BYTES;
        this.#token = handshake.token;
        this.#handshakeTick = this.#sessions.monotonicClock();
        this.#stats = this.#sessions.statsFor(handshake.token, this.accepted);
        const { rendezvous } = this.#stats;
        const hasPartner = rendezvous.hasPartner(handshake.token, handshake.side);
        const { admission } = this.#sessions;
        const rejected = admission.admit(this.accepted, hasPartner, rendezvous.waitingClients);
        if (rejected !== null) {
          this.dispatch(rejected);
          return;
        }
        this.#side = handshake.side;
        this.#stats.clientAccepted(this.transport.kind);
        this.joinRendezvous();
        this.#routePayload(handshake.rest);
      }
    }
  }

  /** Handles the bytes after the handshake line. They are for the partner, which may be at another relay. */
  #routePayload(rest: Uint8Array): void {
    const { clusterRouter: router } = this.#sessions;
    if (this.#state === 'waiting' && router !== null && !this.accepted.isExempt && this.#token !== null) {
      this.#forwarder = router.createForwarder(this, this.#token, this.#side);
      this.#forwarder.start(rest);
    } else if (rest.length > 0) {
      this.onData(rest);
    }
  }

  joinRendezvous(): void {
    if (this.#token === null) return;
    const result = this.#stats.rendezvous.join(this.#token, this.#side, this);
    if (result.kind === 'paired') this.#pairWith(result.partner, result.redundant);
    else this.dispatch('waits');
    if (result.kind === 'replaced') result.oldest.dispatch('superseded');
  }

  startForwarding(link: ClientTransport): Splice {
    const splice = new Splice(this.transport, link, this.#stats.stallTimers);
    this.#forwardingSplice = splice;
    this.#stats.forwardingStarted(splice, link);
    this.#sessions.onPaired(splice, this);
    return splice;
  }

  /** A link to an owner that is no longer used has handed over all of its bytes, or has closed. */
  onLinkDelivered(link: ClientTransport): void {
    this.#sessions.onLinkDelivered(link);
  }

  /** Forwards the client to the owner of its token. Does nothing unless it waits. */
  redirect(owner: Owner): void {
    this.guard(() => this.#forwarder?.onOwnerResolved(owner));
  }

  #pairWith(partner: ClientSession, redundant: readonly ClientSession[]): void {
    const splice = new Splice(this.transport, partner.transport, this.#stats.stallTimers);
    const tick = this.#sessions.monotonicClock();
    const open = this.#stats.pairStarted(splice, this);
    this.#pair = { partner, open, tick };
    partner.#pair = { partner: this, open, tick };
    this.#sessions.onPaired(splice, this);
    partner.dispatch('matched');
    this.dispatch('matched');
    partner.#forwarder?.flushEarlyData();
    this.#forwarder?.flushEarlyData();
    splice.reapplyPause();
    for (const other of redundant) other.dispatch('superseded');
  }

  #run(effect: SessionEffect): void {
    switch (effect.kind) {
      case 'reply':
        this.transport.send(REPLIES[effect.reply]);
        return;
      case 'leave-rendezvous':
        if (this.#token !== null) this.#stats.rendezvous.leave(this.#token, this);
        return;
      case 'close-gracefully':
        this.transport.closeGracefully(effect.code, this.splice !== null);
        return;
      case 'abort':
        this.transport.abort();
        return;
      case 'reset':
        this.transport.abort('reset');
        return;
      case 'reset-partner':
        this.#pair?.partner.dispatch('partner-reset');
        return;
      case 'reset-upstream':
        this.#forwarder?.resetUpstream();
        return;
      case 'close-partner':
        this.#pair?.partner.dispatch('partner-gone');
        return;
      case 'close-upstream':
        this.#forwarder?.closeUpstream();
        return;
      case 'record':
        this.#record(effect.mood);
        return;
      case 'count-forwarded':
        this.#stats.forwardingEnded(this.transport.kind, this.#forwardingSplice);
        return;
      case 'count-failure':
        this.#sessions.admission.countHandshakeFailure(this.accepted, effect.failure);
    }
  }

  #record(mood: Mood): void {
    // A rejected client is counted as rejected only.
    if (this.accepted.rejectReason !== null) return;
    const now = this.#sessions.monotonicClock();
    const pair = this.#pair;
    const other = pair?.partner.accepted ?? this.accepted;
    const older = other.startedTick < this.accepted.startedTick ? other : this.accepted;
    if (this.#token === null) this.#stats.clientAccepted(this.transport.kind);
    if (pair !== null) this.#stats.pairEnded(pair.open);
    this.#stats.sessionEnded({
      mood,
      startedAt: older.startedAt,
      totalMs: now - older.startedTick,
      waitingMs: pair === null ? null : pair.tick - older.startedTick,
      totalBytes: pair?.open.splice.totalBytes ?? 0,
      transports: [this, ...(pair === null ? [] : [pair.partner])].map((one) => one.transport.kind),
    });
  }
}
