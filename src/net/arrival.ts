import type { AddressSlot } from '../limits/address-limit.ts';
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
  /** Its share of what its address may have. */
  slot: AddressSlot | null = null;

  constructor(place: Place, startedAt: number, startedTick: number) {
    this.place = place;
    this.startedAt = startedAt;
    this.startedTick = startedTick;
  }
}
