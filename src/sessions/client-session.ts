import type { Forwarder } from '../cluster/forwarder.ts';
import type { ClusterRouter, Owner } from '../cluster/router.ts';
import { parseHandshake } from '../protocol/handshake.ts';
import { REPLIES } from '../protocol/messages.ts';
import type { Mood, Side, Token } from '../protocol/messages.ts';
import type { Rendezvous } from '../protocol/rendezvous.ts';
import { transition } from '../protocol/session.ts';
import type {
  Rejection,
  SessionEffect,
  SessionEvent,
  SessionFailure,
  SessionState,
} from '../protocol/session.ts';
import { EMPTY_BYTES } from '../transport/byte-stream.ts';
import type {
  ClientTransport,
  ClientTransportHandler,
  TransportKind,
} from '../transport/client-transport.ts';
import type { AcceptedConnection, ConnectionPhase } from './admission-control.ts';
import { Splice } from './splice.ts';
import type { StallTimers } from './splice.ts';

/** What a finished connection or pair has to say for the usage record. Times in milliseconds. */
export interface SessionSummary {
  readonly mood: Mood;
  /** Of the connection, or of the older one of a pair; wall clock, since the epoch. */
  readonly startedAt: number;
  readonly totalMs: number;
  /** From the start to the partner's arrival; null where none came. */
  readonly waitingMs: number | null;
  /** Both directions together. */
  readonly totalBytes: number;
  /** Of the connection, or of both of a pair. */
  readonly transports: readonly TransportKind[];
}

/** Where it is written down who waits for whom, which pairs run, and how each connection ended. */
export interface SessionStatsSink {
  readonly rendezvous: Rendezvous<ClientSession>;
  readonly stallTimers: StallTimers;
  /** A client is let in: it has named its token, or ended before. */
  clientAccepted(transport: TransportKind): void;
  /** @param connection one of the two */
  pairStarted(splice: Splice, connection: ClientSession): void;
  /** @param splice between a client and the relay that has its partner, to which there is `link` */
  forwardingStarted(splice: Splice, link: ClientTransport): void;
  /** A client that is another relay's, and of which that has the record, has ended. */
  forwardingEnded(transport: TransportKind, splice: Splice | null): void;
  pairEnded(splice: Splice): void;
  sessionEnded(summary: SessionSummary): void;
}

/** What a connection needs from the house it is in. */
export interface SessionContext {
  /** The books on clients, and on whoever has not said yet who it is. */
  readonly clients: SessionStatsSink;
  /** Milliseconds of a clock that never jumps. */
  readonly monotonicClock: () => number;
  /** The connection is now one of a pair, in these books, or passed on to another relay. */
  onPaired(stats: SessionStatsSink, splice: Splice, connection: ClientSession): void;
  /** Null: this relay is alone. */
  readonly clusterRouter: ClusterRouter | null;
  /** The connection has come into another state, and all effects of that have run. */
  onStateChange(connection: ClientSession, to: SessionState): void;
  /** The books that a connection is in once it has named its token. */
  statsFor(token: Token): SessionStatsSink;
  /** It will neither wait nor be paired, and that is its own doing. */
  onHandshakeFailure(accepted: AcceptedConnection, stats: SessionStatsSink, failure: SessionFailure): void;
  /** Whether it is sent away instead, and with which word. */
  admit(
    accepted: AcceptedConnection,
    stats: SessionStatsSink,
    token: Token,
    side: Side | null,
  ): Rejection | null;
  /** Something in this program is wrong; the connection has been dropped. */
  onInternalError(error: unknown): void;
}

/** One client: drives the handshake and the session with what its peer tells, and runs the effects. */
export class ClientSession implements ClientTransportHandler, ConnectionPhase {
  readonly accepted: AcceptedConnection;
  readonly transport: ClientTransport;
  readonly #context: SessionContext;
  #stats: SessionStatsSink;
  #state: SessionState = 'handshake';
  #line: Uint8Array = EMPTY_BYTES;
  #token: Token | null = null;
  #handshakeTick = 0;
  #side: Side | null = null;
  /** Where there are other relays. */
  #forwarder: Forwarder | null = null;
  /** Between this client and another relay. */
  #forwardingSplice: Splice | null = null;
  #pair: { readonly partner: ClientSession; readonly splice: Splice; readonly tick: number } | null = null;

  constructor(transport: ClientTransport, accepted: AcceptedConnection, context: SessionContext) {
    this.accepted = accepted;
    this.transport = transport;
    this.#context = context;
    this.#stats = context.clients;
    accepted.phase = this;
  }

  get state(): SessionState {
    return this.#state;
  }

  /** Null before it has named one. */
  get token(): Token | null {
    return this.#token;
  }

  /** When it named its token, by the monotonic clock. */
  get handshakeTick(): number {
    return this.#handshakeTick;
  }

  /** Bytes that are still held for the client. */
  get bufferedBytes(): number {
    return this.transport.bufferedBytes;
  }

  /** Begins to listen to the client. */
  start(): void {
    this.transport.start(this);
  }

  onData(bytes: Uint8Array): void {
    if (this.#state === 'paired') this.#pair?.splice.forward(this.transport, bytes);
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
    // The relay that passes a client on finds another place for it.
    const isGuest = this.#state === 'waiting' && this.transport.kind === 'link';
    this.dispatch(isGuest ? 'not-owner' : 'drain');
  }

  evict(): void {
    if (this.#state === 'handshake') this.dispatch('busy');
    this.dispatch(this.#state === 'waiting' ? 'evicted' : 'aborted');
  }

  abort(): void {
    this.dispatch('aborted');
  }

  onWritable(): void {
    this.#pair?.splice.receiverDrained(this.transport);
    this.#forwarder?.onClientDrain();
  }

  onEnd(): void {
    this.dispatch('end');
  }

  onClose(): void {
    this.dispatch('close');
  }

  /** Tells the connection what happened. A fault in this program costs this connection and no other. */
  dispatch(event: SessionEvent): void {
    this.guard(() => {
      const before = this.#state;
      const { next, effects } = transition(before, event);
      this.#state = next;
      // Whoever is held until it is known where its partner is would not be heard to leave.
      if (next === 'closing' || next === 'closed') this.#forwarder?.flushEarlyData();
      for (const effect of effects) this.#run(effect);
      if (next !== before) this.#context.onStateChange(this, next);
    });
  }

  guard(action: () => void): void {
    try {
      action();
    } catch (error) {
      this.transport.abort();
      this.#context.onInternalError(error);
    }
  }

  #readHandshake(bytes: Uint8Array): void {
    this.#line = this.#line.length === 0 ? bytes : Buffer.concat([this.#line, bytes]);
    const handshake = parseHandshake(this.#line);
    switch (handshake.kind) {
      case 'incomplete':
        // The read buffer is not ours to keep.
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
        this.#handshakeTick = this.#context.monotonicClock();
        this.#stats = this.#context.statsFor(handshake.token);
        const rejected = this.#context.admit(this.accepted, this.#stats, handshake.token, handshake.side);
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

  /** What came behind the line is for the partner, who may be at another relay. */
  #routePayload(rest: Uint8Array): void {
    const { clusterRouter: router, clients } = this.#context;
    if (this.#state === 'waiting' && router !== null && this.#stats === clients && this.#token !== null) {
      this.#forwarder = router.createForwarder(this, this.#token, this.#side);
      this.#forwarder.start(rest);
    } else if (rest.length > 0) {
      this.onData(rest);
    }
  }

  joinRendezvous(): void {
    if (this.#token === null) return;
    const accepted = this.#stats.rendezvous.join(this.#token, this.#side, this);
    if (accepted.kind === 'paired') this.#pairWith(accepted.partner, accepted.redundant);
    else this.dispatch('waits');
    if (accepted.kind === 'replaced') accepted.oldest.dispatch('superseded');
  }

  startForwarding(link: ClientTransport): Splice {
    const splice = new Splice(this.transport, link, this.#stats.stallTimers);
    this.#forwardingSplice = splice;
    this.#stats.forwardingStarted(splice, link);
    this.#context.onPaired(this.#stats, splice, this);
    return splice;
  }

  /** Another relay has its token. Does nothing where it does not wait. */
  redirect(owner: Owner): void {
    this.guard(() => this.#forwarder?.onOwnerResolved(owner));
  }

  #pairWith(partner: ClientSession, redundant: readonly ClientSession[]): void {
    const splice = new Splice(this.transport, partner.transport, this.#stats.stallTimers);
    const tick = this.#context.monotonicClock();
    this.#pair = { partner, splice, tick };
    partner.#pair = { partner: this, splice, tick };
    this.#stats.pairStarted(splice, this);
    this.#context.onPaired(this.#stats, splice, this);
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
        this.transport.closeGracefully(effect.code, this.#pair !== null || this.#forwardingSplice !== null);
        return;
      case 'abort':
        this.transport.abort();
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
        this.#context.onHandshakeFailure(this.accepted, this.#stats, effect.failure);
    }
  }

  #record(mood: Mood): void {
    // Whoever was not let in is counted as that alone, whatever it did.
    if (this.accepted.rejectReason !== null) return;
    const now = this.#context.monotonicClock();
    const pair = this.#pair;
    const other = pair?.partner.accepted ?? this.accepted;
    const older = other.startedTick < this.accepted.startedTick ? other : this.accepted;
    if (this.#token === null) this.#stats.clientAccepted(this.transport.kind);
    if (pair !== null) this.#stats.pairEnded(pair.splice);
    this.#stats.sessionEnded({
      mood,
      startedAt: older.startedAt,
      totalMs: now - older.startedTick,
      waitingMs: pair === null ? null : pair.tick - older.startedTick,
      totalBytes: pair?.splice.totalBytes ?? 0,
      transports: [this, ...(pair === null ? [] : [pair.partner])].map((one) => one.transport.kind),
    });
  }
}
