import { parseHandshake } from '../protocol/handshake.ts';
import type { Rendezvous } from '../protocol/rendezvous.ts';
import { transition } from '../protocol/session.ts';
import type { Effect, Event, Refused, State } from '../protocol/session.ts';
import type { Mood, Side, Token } from '../protocol/wire.ts';
import type { Arrival, ArrivalOwner } from './arrival.ts';
import type { Elsewhere, Owner } from './elsewhere.ts';
import { failureOf } from './handshake-failure.ts';
import type { HandshakeFailure } from './handshake-failure.ts';
import { Passage } from './passage.ts';
import type { Traveller } from './passage.ts';
import type { Peer, PeerHandler, Transport } from './peer.ts';
import { REPLIES } from './replies.ts';
import { Splice } from './splice.ts';
import type { Pauses } from './splice.ts';
import { NOTHING } from './wire.ts';

/** What a finished connection or pair has to say for the usage record. Times in milliseconds. */
export interface Ending {
  readonly mood: Mood;
  /** Of the connection, or of the older one of a pair; wall clock, since the epoch. */
  readonly startedAt: number;
  readonly totalMs: number;
  /** From the start to the partner's arrival; null where none came. */
  readonly waitingMs: number | null;
  /** Both directions together. */
  readonly totalBytes: number;
  /** Of the connection, or of both of a pair. */
  readonly transports: readonly Transport[];
}

/** Where it is written down who waits for whom, which pairs run, and how each connection ended. */
export interface Books {
  readonly rendezvous: Rendezvous<Connection>;
  readonly pauses: Pauses;
  /** A client is let in: it has named its token, or ended before. */
  accepted(transport: Transport): void;
  /** @param connection one of the two */
  paired(splice: Splice, connection: Connection): void;
  /** @param splice between a client and the relay that has its partner, to which there is `link` */
  carried(splice: Splice, link: Peer): void;
  /** A client that is another relay's, and of which that has the record, has ended. */
  passedOn(transport: Transport, splice: Splice | null): void;
  unpaired(splice: Splice): void;
  ended(ending: Ending): void;
}

/** What a connection needs from the house it is in. */
export interface ConnectionContext {
  /** The books on clients, and on whoever has not said yet who it is. */
  readonly clients: Books;
  /** Milliseconds of a clock that never jumps. */
  readonly monotonicClock: () => number;
  /** The connection is now one of a pair, in these books, or passed on to another relay. */
  paired(books: Books, splice: Splice, connection: Connection): void;
  /** Null: this relay is alone. */
  readonly elsewhere: Elsewhere | null;
  /** The connection has come into another state, and all effects of that have run. */
  moved(connection: Connection, to: State): void;
  /** The books that a connection is in once it has named its token. */
  booksOf(token: Token): Books;
  /** It will neither wait nor be paired, and that is its own doing. */
  failed(arrival: Arrival, books: Books, failure: HandshakeFailure): void;
  /** Whether it is sent away instead, and with which word. */
  judge(arrival: Arrival, books: Books, token: Token, side: Side | null): Refused | null;
  /** Something in this program is wrong; the connection has been dropped. */
  fault(error: unknown): void;
}

/** One client: drives the handshake and the session with what its peer tells, and runs the effects. */
export class Connection implements PeerHandler, ArrivalOwner, Traveller {
  readonly arrival: Arrival;
  readonly peer: Peer;
  readonly #context: ConnectionContext;
  #books: Books;
  #state: State = 'handshake';
  #line: Uint8Array = NOTHING;
  #token: Token | null = null;
  #namedTick = 0;
  #side: Side | null = null;
  /** Where there are other relays. */
  #passage: Passage | null = null;
  /** Between this client and another relay. */
  #carriage: Splice | null = null;
  #pair: { readonly partner: Connection; readonly splice: Splice; readonly tick: number } | null = null;

  constructor(peer: Peer, arrival: Arrival, context: ConnectionContext) {
    this.arrival = arrival;
    this.peer = peer;
    this.#context = context;
    this.#books = context.clients;
    arrival.owner = this;
  }

  get state(): State {
    return this.#state;
  }

  /** Null before it has named one. */
  get token(): Token | null {
    return this.#token;
  }

  /** When it named its token, by the monotonic clock. */
  get namedTick(): number {
    return this.#namedTick;
  }

  /** Bytes that are still held for the client. */
  get heldBytes(): number {
    return this.peer.heldBytes;
  }

  /** Begins to listen to the client. */
  start(): void {
    this.peer.start(this);
  }

  onData(bytes: Uint8Array): void {
    if (this.#state === 'paired') this.#pair?.splice.forward(this.peer, bytes);
    else if (this.#state === 'handshake') this.guard(() => this.#readLine(bytes));
    else if (this.#state === 'carried') this.#passage?.forward(bytes);
    else if (this.#state === 'calling') this.#passage?.onData(bytes);
    else if (this.#state === 'waiting' && this.#passage?.keep(bytes) !== true) this.dispatch('early-bytes');
  }

  onText(): void {
    this.dispatch('text');
  }

  tooLate(): void {
    this.dispatch(this.arrival.refusal === null ? 'timed-out' : 'busy');
  }

  shutdown(): void {
    // The relay that passes a client on finds another place for it.
    const isGuest = this.#state === 'waiting' && this.peer.transport === 'link';
    this.dispatch(isGuest ? 'elsewhere' : 'shutdown');
  }

  evict(): void {
    if (this.#state === 'handshake') this.dispatch('busy');
    this.dispatch(this.#state === 'waiting' ? 'evicted' : 'cut');
  }

  cut(): void {
    this.dispatch('cut');
  }

  onDrain(): void {
    this.#pair?.splice.drained(this.peer);
    this.#passage?.clientDrained();
  }

  onLeft(): void {
    this.dispatch('left');
  }

  onLost(): void {
    this.dispatch('lost');
  }

  /** Tells the connection what happened. A fault in this program costs this connection and no other. */
  dispatch(event: Event): void {
    this.guard(() => {
      const before = this.#state;
      const { next, effects } = transition(before, event);
      this.#state = next;
      // Whoever is held until it is known where its partner is would not be heard to leave.
      if (next === 'closing' || next === 'closed') this.#passage?.settle();
      for (const effect of effects) this.#run(effect);
      const wasPassedOn = before === 'calling' || before === 'carried' || event === 'elsewhere';
      if (wasPassedOn && (next === 'closing' || next === 'closed')) {
        this.#books.passedOn(this.peer.transport, this.#carriage);
      }
      if (next === before) return;
      const failure = failureOf(before, event, this.arrival.failure === 'tls');
      if (failure !== null) this.#context.failed(this.arrival, this.#books, failure);
      this.#context.moved(this, next);
    });
  }

  guard(action: () => void): void {
    try {
      action();
    } catch (error) {
      this.peer.destroy();
      this.#context.fault(error);
    }
  }

  #readLine(bytes: Uint8Array): void {
    this.#line = this.#line.length === 0 ? bytes : Buffer.concat([this.#line, bytes]);
    const handshake = parseHandshake(this.#line);
    switch (handshake.kind) {
      case 'incomplete':
        // The read buffer is not ours to keep.
        this.#line = Uint8Array.from(this.#line);
        return;
      case 'overlong':
      case 'bad':
        this.#line = NOTHING;
        this.dispatch(handshake.kind === 'bad' ? 'bad-line' : 'overlong-line');
        return;
      case 'relay': {
        this.#line = NOTHING;
        this.#token = handshake.token;
        this.#namedTick = this.#context.monotonicClock();
        this.#books = this.#context.booksOf(handshake.token);
        const refused = this.#context.judge(this.arrival, this.#books, handshake.token, handshake.side);
        if (refused !== null) {
          this.dispatch(refused);
          return;
        }
        this.#side = handshake.side;
        this.#books.accepted(this.peer.transport);
        this.enter();
        this.#hear(handshake.rest);
      }
    }
  }

  /** What came behind the line is for the partner, who may be at another relay. */
  #hear(rest: Uint8Array): void {
    const { elsewhere, clients } = this.#context;
    if (this.#state === 'waiting' && elsewhere !== null && this.#books === clients && this.#token !== null) {
      this.#passage = new Passage(this, elsewhere, this.#token, this.#side);
      this.#passage.begin(rest);
    } else if (rest.length > 0) {
      this.onData(rest);
    }
  }

  enter(): void {
    if (this.#token === null) return;
    const arrival = this.#books.rendezvous.arrive(this.#token, this.#side, this);
    if (arrival.kind === 'paired') this.#meet(arrival.partner, arrival.redundant);
    else this.dispatch('waits');
    if (arrival.kind === 'replaced') arrival.oldest.dispatch('superseded');
  }

  carry(link: Peer): Splice {
    const splice = new Splice(this.peer, link, this.#books.pauses);
    this.#carriage = splice;
    this.#books.carried(splice, link);
    this.#context.paired(this.#books, splice, this);
    return splice;
  }

  /** Another relay has its token. Does nothing where it does not wait. */
  calledAway(owner: Owner): void {
    this.guard(() => this.#passage?.found(owner));
  }

  #meet(partner: Connection, redundant: readonly Connection[]): void {
    const splice = new Splice(this.peer, partner.peer, this.#books.pauses);
    const tick = this.#context.monotonicClock();
    this.#pair = { partner, splice, tick };
    partner.#pair = { partner: this, splice, tick };
    this.#books.paired(splice, this);
    this.#context.paired(this.#books, splice, this);
    partner.dispatch('matched');
    this.dispatch('matched');
    partner.#passage?.settle();
    this.#passage?.settle();
    splice.insist();
    for (const other of redundant) other.dispatch('superseded');
  }

  #run(effect: Effect): void {
    switch (effect.kind) {
      case 'reply':
        this.peer.send(REPLIES[effect.reply]);
        return;
      case 'leave':
        if (this.#token !== null) this.#books.rendezvous.leave(this.#token, this);
        return;
      case 'finish':
        this.peer.finish(effect.code, this.#pair !== null || this.#carriage !== null);
        return;
      case 'drop':
        this.peer.destroy();
        return;
      case 'end-partner':
        this.#pair?.partner.dispatch('partner-gone');
        return;
      case 'hang-up':
        this.#passage?.hangUp();
        return;
      case 'record':
        this.#record(effect.mood);
    }
  }

  #record(mood: Mood): void {
    // Whoever was not let in is counted as that alone, whatever it did.
    if (this.arrival.refusal !== null) return;
    const now = this.#context.monotonicClock();
    const pair = this.#pair;
    const other = pair?.partner.arrival ?? this.arrival;
    const older = other.startedTick < this.arrival.startedTick ? other : this.arrival;
    if (this.#token === null) this.#books.accepted(this.peer.transport);
    if (pair !== null) this.#books.unpaired(pair.splice);
    this.#books.ended({
      mood,
      startedAt: older.startedAt,
      totalMs: now - older.startedTick,
      waitingMs: pair === null ? null : pair.tick - older.startedTick,
      totalBytes: pair?.splice.totalBytes ?? 0,
      transports: [this, ...(pair === null ? [] : [pair.partner])].map((one) => one.peer.transport),
    });
  }
}
