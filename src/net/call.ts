import { NEWLINE } from '../protocol/wire.ts';
import type { Elsewhere, Link, Owner } from './elsewhere.ts';
import { LinkPeer, WORDLESS } from './link-peer.ts';
import type { Peer, PeerHandler } from './peer.ts';
import { NOTHING } from './wire.ts';

/** The longest word that an owner says, in bytes and with its newline, and room for longer ones to come. */
const MAX_WORD_BYTES = 64;

/** What an owner says to a client that is passed on to it, once. */
const WORDS = ['ok', 'impatient', 'busy', 'over quota', WORDLESS] as const;

export type Word = (typeof WORDS)[number];

/** How a call came to nothing. The client has heard no word of it. */
export type CallFailure =
  /** Nobody answers there, or not as a relay of this group. */
  | 'unreachable'
  /** The token is no longer the owner's, or the owner is going, or gone. */
  | 'moved';

/** Who makes the call. */
export interface Caller {
  /** The owner takes what the client says. */
  connected(): void;
  /** The owner has spoken. What came behind its word are the partner's bytes. */
  answered(word: Word, rest: Uint8Array): void;
  failed(failure: CallFailure): void;
  /** The owner's bytes, after `ok`. */
  received(bytes: Uint8Array): void;
  /** The owner has taken all that was held for it. */
  drained(): void;
  /** The owner will send nothing more. */
  ended(): void;
}

/** One client of ours that is passed on to the relay that owns its token. */
export class Call implements PeerHandler {
  readonly #caller: Caller;
  #peer: LinkPeer | null = null;
  /** `over`: it has ended, or come to nothing, and the caller is told nothing more. */
  #state: 'connecting' | 'asking' | 'carried' | 'over' = 'connecting';
  #word: Uint8Array = NOTHING;

  constructor(caller: Caller) {
    this.#caller = caller;
  }

  /** The owner as a client has its partner. Null until it is connected. */
  get peer(): Peer | null {
    return this.#peer;
  }

  /** @param line the client's, with its newline */
  start(elsewhere: Pick<Elsewhere, 'call'>, owner: Owner, line: Uint8Array): void {
    elsewhere.call(owner).then(
      (link) => this.#connected(link, line),
      () => this.#fail('unreachable'),
    );
  }

  /** Ends the link behind what the owner has coming. */
  hangUp(): void {
    const hadPartner = this.#state === 'carried';
    this.#state = 'over';
    this.#peer?.finish(1000, hadPartner);
  }

  onData(bytes: Uint8Array): void {
    if (this.#state === 'carried') this.#caller.received(bytes);
    else if (this.#state === 'asking') this.#listen(bytes);
  }

  onText(): void {
    // There are no messages on a link.
  }

  onDrain(): void {
    if (this.#state !== 'over') this.#caller.drained();
  }

  onLeft(): void {
    this.#peer?.finish(1000, this.#state === 'carried');
    this.onLost();
  }

  onLost(): void {
    if (this.#state === 'carried') {
      this.#state = 'over';
      this.#caller.ended();
    }
    this.#fail('moved');
  }

  #connected({ wire, firstBytes }: Link, line: Uint8Array): void {
    if (this.#state === 'over') {
      wire.destroy();
      return;
    }
    const peer = new LinkPeer(wire);
    this.#peer = peer;
    this.#state = 'asking';
    peer.start(this);
    peer.resume();
    peer.send(line);
    this.#caller.connected();
    if (firstBytes.length > 0) peer.onBytes(firstBytes);
  }

  #listen(bytes: Uint8Array): void {
    const heard = this.#word.length === 0 ? bytes : Buffer.concat([this.#word, bytes]);
    const end = heard.indexOf(NEWLINE);
    if (end < 0 && heard.length < MAX_WORD_BYTES) {
      // The read buffer is not ours to keep.
      this.#word = Uint8Array.from(heard);
      return;
    }
    const said = Buffer.from(heard.subarray(0, Math.max(0, end))).toString('latin1');
    const word = WORDS.find((known) => known === said);
    if (word === undefined) {
      this.#peer?.finish(1000, false);
      this.#fail('moved');
      return;
    }
    this.#word = NOTHING;
    this.#state = word === 'ok' ? 'carried' : 'over';
    if (word === 'ok') this.#peer?.partnerFound();
    else this.#peer?.finish(1000, false);
    this.#caller.answered(word, heard.subarray(end + 1));
  }

  #fail(failure: CallFailure): void {
    if (this.#state === 'over') return;
    this.#state = 'over';
    this.#caller.failed(failure);
  }
}
