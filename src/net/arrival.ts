import type { AddressSlot } from '../limits/address-limit.ts';
import type { Entry } from '../limits/eviction-index.ts';
import type { Place } from '../limits/connection-limit.ts';
import type { HandshakeFailure } from './handshake-failure.ts';

/** Why a client is not let in. The first three are told `busy`. */
export type RefusalReason = 'connections' | 'waiting' | 'address' | 'quota' | 'shutdown';

/** Who deals with a connection at the moment. */
export interface ArrivalOwner {
  /** It has taken too long to say what it wants. */
  tooLate(): void;
  /** The relay stops; only pairs go on. */
  shutdown(): void;
  /** It has to be closed at once, since there is no room: another one needs its place. */
  evict(): void;
  /** The relay stops now. */
  cut(): void;
}

/** Where a connection comes from. */
export interface Source {
  /** Asked of the kernel each time. Null where it is not known, or is a trusted proxy's. */
  readonly address: string | null;
}

/**
 * What became of a connection as far as eviction is concerned.
 *
 * - `handshake`: its handshake is not complete; - `waiting`: it waits for a partner, here or at another relay
 * - `paired`: it has a partner, or had one, and is never evicted; - `closing`: it has no partner and never will
 */
export type Phase = 'handshake' | 'waiting' | 'paired' | 'closing';

/** One accepted connection, from its first packet until its descriptor is closed, whatever is made of it meanwhile. */
export class Arrival {
  place: Place;
  /** Wall clock, milliseconds since the epoch. */
  readonly startedAt: number;
  /** Milliseconds of a clock that never jumps. */
  readonly startedTick: number;
  owner: ArrivalOwner | null = null;
  /** Not null: it will not be let in, and there will be no record of it. */
  refusal: RefusalReason | null = null;
  /** A client has been made of it. */
  isClient = false;
  /** What it will have failed by, should it leave as it is now; null: by nothing that it did. */
  failure: HandshakeFailure | null = 'left';
  /** Its private address for `SharedAddressDetector`, if it was rejected for its address; null: it has none. */
  addressKey: string | null = null;
  /** Its share of what its address may have. */
  slot: AddressSlot | null = null;

  phase: Phase = 'handshake';
  /** Null: it is of no client's address, since another relay forwards it. */
  readonly source: Source | null;
  /** The client's network as a salted hash; null as long as it was not asked for, or is not known. */
  network: string | null = null;
  /** Its entries among connections without a partner, and among waiting clients; null while there is no shortage. */
  unpaired: Entry<Arrival> | null = null;
  waiting: Entry<Arrival> | null = null;
  /** It is the relay itself, and takes no place from a client. */
  isExempt = false;

  constructor(place: Place, source: Source | null, startedAt: number, startedTick: number) {
    this.place = place;
    this.source = source;
    this.startedAt = startedAt;
    this.startedTick = startedTick;
  }
}
