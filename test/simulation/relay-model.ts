import { Rendezvous } from '../../src/protocol/rendezvous.ts';
import type { Side, Token } from '../../src/protocol/wire.ts';
import { ClaimsModel } from './claims-model.ts';
import type { Clock } from './clock.ts';
import { AGAIN_MS, CALL_MS, LONGEST_RETRY_MS, RETRY_MS } from './constants.ts';
import type { CoordinatorModel } from './coordinator-model.ts';
import type { Random } from './random.ts';

/** Round trips of a link before the client's line is sent: TCP, the owner's line, the caller's and the owner's proof. */
const GREETING_TRIPS = 3;

export interface ClientModel {
  readonly token: Token;
  readonly side: Side;
  /** Where it has come to. */
  readonly home: RelayModel;
  /** Where it is in the rendezvous, or was at last. */
  at: RelayModel;
  readonly cameMs: number;
  retryMs: number;
  state: 'waiting' | 'calling' | 'paired' | 'gone';
  /** Relays that it found dead. */
  dead: number;
}

/** How a relay ends: its machine goes on and refuses connections, or nobody answers any more. */
export type Death = 'refuses' | 'silent';

export interface RelayHouse {
  readonly clock: Clock;
  readonly random: Random;
  readonly coordinator: CoordinatorModel;
  readonly oneWayMs: () => number;
  readonly relays: readonly RelayModel[];
  /** `tookMs` has gone by from the arrival of the later one until both have heard `ok`. */
  readonly paired: (one: ClientModel, other: ClientModel, tookMs: number) => void;
  /** It has found out that the token's relay is dead, and asks for the token. */
  readonly tookOver: (client: ClientModel) => void;
}

/** One relay: the real rendezvous, and what src/net/passage.ts and src/cluster/ do around it. */
export class RelayModel {
  readonly id: number;
  readonly rendezvous = new Rendezvous<ClientModel>();
  readonly claims: ClaimsModel;
  readonly #house: RelayHouse;
  #death: Death | null = null;

  constructor(id: number, house: RelayHouse) {
    this.id = id;
    this.#house = house;
    const { clock, random, coordinator, oneWayMs } = house;
    const theirs = (token: Token, owner: number): void => {
      for (const client of this.rendezvous.waitersOf(token)) this.#found(client, owner);
    };
    this.claims = new ClaimsModel({ clock, random, coordinator, oneWayMs, id, theirs });
  }

  get isDead(): boolean {
    return this.#death !== null;
  }

  /** Who waited here is gone. */
  die(death: Death): void {
    this.#death = death;
    this.claims.stop();
  }

  /** Somebody who has waited since before the beginning. */
  adopt(client: ClientModel): void {
    this.rendezvous.arrive(client.token, client.side, client);
    this.claims.adopt(client.token);
  }

  /** A client comes, or is passed on to here. */
  enter(client: ClientModel, takeFrom: number | null = null): void {
    if (this.#waits(client)) this.claims.want(client.token, takeFrom);
  }

  /** It has waited long enough, or goes on to another relay. */
  leave(client: ClientModel): void {
    this.rendezvous.leave(client.token, client);
    if (!this.isDead && !this.rendezvous.isWaitedFor(client.token)) this.claims.release(client.token);
  }

  /** @returns false: it has met its partner */
  #waits(client: ClientModel): boolean {
    client.at = this;
    client.state = 'waiting';
    const arrival = this.rendezvous.arrive(client.token, client.side, client);
    if (arrival.kind !== 'paired') return true;
    this.claims.release(client.token);
    this.#pair(client, arrival.partner);
    return false;
  }

  #pair(one: ClientModel, other: ClientModel): void {
    one.state = 'paired';
    other.state = 'paired';
    const { clock, oneWayMs } = this.#house;
    const isForwarded = one.home !== this || other.home !== this;
    const laterMs = Math.max(one.cameMs, other.cameMs);
    this.#house.paired(one, other, clock.nowMs - laterMs + (isForwarded ? oneWayMs() : 0));
  }

  #found(client: ClientModel, ownerId: number): void {
    const owner = this.#house.relays[ownerId];
    if (owner === undefined) throw new Error(`no relay ${ownerId}`);
    this.leave(client);
    client.state = 'calling';
    if (client.home === this) this.#call(client, owner);
    // It came over a link, and hears `elsewhere`.
    else this.#house.clock.after(this.#house.oneWayMs(), () => client.home.#moved(client));
  }

  #call(client: ClientModel, owner: RelayModel): void {
    const { clock } = this.#house;
    if (owner.#death === null) {
      const lineMs = this.#tripsMs(GREETING_TRIPS) + this.#house.oneWayMs();
      clock.after(lineMs, () => {
        if (client.state !== 'calling') return;
        if (owner.#death === null) owner.enter(client);
        else this.#moved(client);
      });
      return;
    }
    const failedMs = owner.#death === 'silent' ? CALL_MS : this.#tripsMs(2) + AGAIN_MS;
    clock.after(failedMs, () => {
      if (client.state !== 'calling' || this.isDead) return;
      client.dead += 1;
      this.enter(client, owner.id);
      if (client.dead === 1) this.#house.tookOver(client);
    });
  }

  /** The token is no longer where it was: it is looked for again, a little later. */
  #moved(client: ClientModel): void {
    if (client.state !== 'calling' || this.isDead) return;
    // It waits at home meanwhile.
    if (!this.#waits(client)) return;
    this.#house.clock.after(client.retryMs, () => {
      if (client.state === 'waiting' && client.at === this && !this.isDead)
        this.claims.want(client.token, null);
    });
    client.retryMs = Math.min(2 * client.retryMs, LONGEST_RETRY_MS);
  }

  #tripsMs(trips: number): number {
    let ms = 0;
    for (let trip = 0; trip < 2 * trips; trip += 1) ms += this.#house.oneWayMs();
    return ms;
  }
}

/** A client that comes to `home` now. */
export function newClient(token: Token, side: Side, home: RelayModel, cameMs: number): ClientModel {
  return { token, side, home, at: home, cameMs, retryMs: RETRY_MS, state: 'waiting', dead: 0 };
}
