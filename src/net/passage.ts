import type { Event, State } from '../protocol/session.ts';
import { formatHandshake } from '../protocol/handshake.ts';
import type { Side, Token } from '../protocol/wire.ts';
import { Call } from './call.ts';
import type { CallFailure, Caller, Word } from './call.ts';
import type { Elsewhere, Owner } from './elsewhere.ts';
import type { Peer } from './peer.ts';
import type { Splice } from './splice.ts';
import { NOTHING } from './wire.ts';

/** What a client may have said before its partner is known. Further bytes stay in the kernel. */
const MAX_EARLY_BYTES = 65_536;

/** Time before an owner that sent a client away is looked for again, in milliseconds; twice that for each further time. */
const RETRY_MS = 50;

const LONGEST_RETRY_MS = 2000;

/**
 * How often it is looked whether an owner that has not spoken is the owner still, in milliseconds. One that hangs, or has lost
 * the coordinator, keeps its links, while others meet elsewhere.
 */
const LOOK_MS = 15_000;

/** What an owner's word means to its client's session. */
const EVENTS: Readonly<Record<Word, Event>> = {
  ok: 'carried',
  impatient: 'early-bytes',
  busy: 'busy',
  'over quota': 'over-quota',
  gone: 'partner-gone',
};

/** A client whose partner may be at another relay. */
export interface Traveller {
  readonly peer: Peer;
  readonly state: State;
  dispatch(event: Event): void;
  /** Comes to the rendezvous: it waits there then, or is paired. */
  enter(): void;
  /** Takes what the client had said earlier. */
  onData(bytes: Uint8Array): void;
  /** The data plane between it and the owner. */
  carry(link: Peer): Splice;
  /** A fault in this program costs this client and no other. */
  guard(action: () => void): void;
}

/**
 * Finds out where a client meets its partner, and takes it there.
 *
 * The client waits in its own relay's rendezvous meanwhile, and nothing more of it is read: should its partner come there
 * first, that is as good. What it said behind its line is kept for whoever it will be for.
 */
export class Passage implements Caller {
  readonly #traveller: Traveller;
  readonly #elsewhere: Elsewhere;
  readonly #token: Token;
  readonly #side: Side | null;
  #early: Uint8Array = NOTHING;
  #isHeld = false;
  #call: Call | null = null;
  #owner: Owner | null = null;
  #splice: Splice | null = null;
  #retryMs = RETRY_MS;
  #timer: NodeJS.Timeout | undefined;
  /** The last answer that is waited for. */
  #asked: Promise<Owner | null> | null = null;

  constructor(traveller: Traveller, elsewhere: Elsewhere, token: Token, side: Side | null) {
    this.#traveller = traveller;
    this.#elsewhere = elsewhere;
    this.#token = token;
    this.#side = side;
  }

  /** The client waits. What it said behind its line is `early`. */
  begin(early: Uint8Array): void {
    this.#keep(early);
    this.#hold();
    this.#seek();
  }

  /** Its token turned out to be another relay's, or not: null is this one. Does nothing where it does not wait any more. */
  found(owner: Owner | null): void {
    this.#asked = null;
    clearTimeout(this.#timer);
    if (!this.#is('waiting')) return;
    if (owner === null) {
      this.settle();
      return;
    }
    if (this.#traveller.peer.transport === 'link') {
      this.#traveller.dispatch('elsewhere');
      return;
    }
    this.#owner = owner;
    this.#hold();
    this.#traveller.dispatch('called-away');
    const call = new Call(this);
    this.#call = call;
    // Made here and not kept: most who wait are never passed on.
    call.start(this.#elsewhere, owner, formatHandshake(this.#token, this.#side));
    this.#lookLater(call, owner);
  }

  /** It is known where the client belongs: it is read again, and what it said is heard. */
  settle(): void {
    clearTimeout(this.#timer);
    if (!this.#isHeld) return;
    this.#release();
    const early = this.#early;
    this.#early = NOTHING;
    if (early.length > 0) this.#traveller.onData(early);
  }

  /** The client speaks while it waits. False where it is known that its partner is yet to come, so that it must not. */
  keep(bytes: Uint8Array): boolean {
    if (this.#isHeld) this.#keep(bytes);
    return this.#isHeld;
  }

  /** The client speaks before the owner has. */
  onData(bytes: Uint8Array): void {
    this.#call?.peer?.send(bytes);
    this.#keep(bytes);
    if (this.#early.length > MAX_EARLY_BYTES) this.#hold();
  }

  /** The client speaks to its partner. */
  forward(bytes: Uint8Array): void {
    this.#splice?.forward(this.#traveller.peer, bytes);
  }

  /** The client has taken what was held for it. */
  clientDrained(): void {
    this.#splice?.drained(this.#traveller.peer);
  }

  hangUp(): void {
    clearTimeout(this.#timer);
    this.#call?.hangUp();
  }

  connected(): void {
    this.#traveller.guard(() => {
      if (this.#early.length > 0) this.#call?.peer?.send(this.#early);
      this.#release();
    });
  }

  answered(word: Word, rest: Uint8Array): void {
    clearTimeout(this.#timer);
    this.#traveller.guard(() => {
      if (!this.#is('calling')) return;
      const link = this.#call?.peer ?? null;
      if (word !== 'ok' || link === null) {
        this.#traveller.dispatch(EVENTS[word]);
        return;
      }
      const early = this.#early.length;
      this.#early = NOTHING;
      const splice = this.#traveller.carry(link);
      this.#splice = splice;
      this.#traveller.dispatch('carried');
      this.#release();
      splice.insist();
      if (early > 0) splice.count(this.#traveller.peer, early);
      if (rest.length > 0 && this.#is('carried')) splice.forward(link, rest);
    });
  }

  failed(failure: CallFailure): void {
    clearTimeout(this.#timer);
    this.#traveller.guard(() => {
      const owner = this.#owner;
      this.#call = null;
      if (!this.#is('calling') || owner === null) return;
      this.#hold();
      this.#traveller.enter();
      if (!this.#is('waiting')) return;
      if (failure === 'unreachable') this.#ask(this.#elsewhere.takeOver(this.#token, owner));
      else this.#seekLater();
    });
  }

  received(bytes: Uint8Array): void {
    const link = this.#call?.peer ?? null;
    if (link !== null) this.#splice?.forward(link, bytes);
  }

  drained(): void {
    const link = this.#call?.peer ?? null;
    if (link !== null) this.#splice?.drained(link);
  }

  ended(): void {
    this.#traveller.dispatch('partner-gone');
  }

  #is(state: State): boolean {
    return this.#traveller.state === state;
  }

  #seek(): void {
    this.#ask(this.#elsewhere.seek(this.#token));
  }

  /** Calls the client home from an owner that is none any more. */
  #lookLater(call: Call, owner: Owner): void {
    this.#timer = setTimeout(() => {
      void this.#elsewhere.isOwner(this.#token, owner).then((isOwner) => {
        if (this.#call !== call || !this.#is('calling')) return;
        if (isOwner) {
          this.#lookLater(call, owner);
          return;
        }
        this.#traveller.guard(() => call.hangUp());
        this.failed('moved');
      });
    }, LOOK_MS);
  }

  #seekLater(): void {
    this.#timer = setTimeout(() => {
      if (this.#is('waiting')) this.#seek();
    }, this.#retryMs);
    this.#retryMs = Math.min(2 * this.#retryMs, LONGEST_RETRY_MS);
  }

  #ask(answer: Promise<Owner | null>): void {
    this.#asked = answer;
    void answer.then((owner) => {
      // What was so before the client was called away and came back is not so now.
      if (this.#asked === answer) this.#traveller.guard(() => this.found(owner));
    });
  }

  #keep(bytes: Uint8Array): void {
    // The read buffer is not ours to keep.
    if (bytes.length > 0) this.#early = Uint8Array.from(Buffer.concat([this.#early, bytes]));
  }

  #hold(): void {
    if (this.#isHeld) return;
    this.#isHeld = true;
    this.#traveller.peer.pause();
  }

  #release(): void {
    if (!this.#isHeld) return;
    this.#isHeld = false;
    this.#traveller.peer.resume();
  }
}
