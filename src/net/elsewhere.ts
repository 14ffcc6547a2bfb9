import type { Token } from '../protocol/wire.ts';
import type { Wire } from './wire.ts';

/** Another relay of the group. */
export interface Owner {
  /** Of its process, and of no other that ever was: 8 to 64 letters, digits, `-` or `_`. */
  readonly id: string;
  /** Where it takes links: `host:port`, an IPv6 address in brackets. */
  readonly address: string;
}

/** A link to another relay, ready for a client's line. */
export interface Link {
  readonly wire: Wire;
  /** What the other relay has said already. */
  readonly firstBytes: Uint8Array;
}

/** The other relays of a group, where the partners of our clients may be. */
export interface Elsewhere {
  /**
   * Asks which relay owns a token. Where none does it is this one from now on, until `release`. Never rejects.
   *
   * @returns null: this one
   */
  seek(token: Token): Promise<Owner | null>;
  /** The owner can't be reached: it is this relay, or whoever has taken it over meanwhile. Never rejects. */
  takeOver(token: Token, owner: Owner): Promise<Owner | null>;
  /** Whether the token is that relay's still, as far as can be found out. Claims nothing. Never rejects. */
  isOwner(token: Token, owner: Owner): Promise<boolean>;
  /** Nobody waits for it here any more. Without effect where it is not ours. */
  release(token: Token): void;
  /** Connects to another relay. Rejects when that fails, within a second or two. */
  call(owner: Owner): Promise<Link>;
}
