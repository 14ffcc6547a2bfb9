import { Rendezvous } from '../../src/protocol/rendezvous.ts';
import type { Side, Token } from '../../src/protocol/messages.ts';
import { TokenLeasesModel } from './token-leases-model.ts';
import type { Clock } from './clock.ts';
import { RECONNECT_DELAY_MS, LINK_CONNECT_TIMEOUT_MS, MAX_RETRY_MS, RETRY_MS } from './constants.ts';
import type { CoordinatorModel } from './coordinator-model.ts';
import type { Random } from './random.ts';

/**
 * Round trips of a link before the client's line is sent: TCP, the owner's line, the caller's and the owner's
 * proof.
 */
const LINK_AUTH_ROUND_TRIPS = 3;

export interface ClientModel {
  readonly token: Token;
  readonly side: Side;
  /** The relay that it is connected to. */
  readonly home: RelayModel;
  /** The relay in whose rendezvous it waits, or waited last. */
  at: RelayModel;
  readonly acceptedMs: number;
  retryMs: number;
  state: 'waiting' | 'connecting-upstream' | 'paired' | 'gone';
  /** Relays that it found dead. */
  deadRelays: number;
}

/** How a relay dies: its machine refuses connections, or does not reply any more. */
export type FailureMode = 'refuses' | 'silent';

export interface RelayDependencies {
  readonly clock: Clock;
  readonly random: Random;
  readonly coordinator: CoordinatorModel;
  readonly oneWayMs: () => number;
  readonly relays: readonly RelayModel[];
  /** `tookMs` is the time from the connection of the later client until both have received `ok`. */
  readonly onPaired: (one: ClientModel, other: ClientModel, tookMs: number) => void;
  /** The client's relay has found the owner dead, and takes the lease over. */
  readonly onTakeOver: (client: ClientModel) => void;
}

/** One relay: the real rendezvous, with a model of src/cluster/. */
export class RelayModel {
  readonly id: number;
  readonly rendezvous = new Rendezvous<ClientModel>();
  readonly leases: TokenLeasesModel;
  readonly #dependencies: RelayDependencies;
  #death: FailureMode | null = null;

  constructor(id: number, dependencies: RelayDependencies) {
    this.id = id;
    this.#dependencies = dependencies;
    const { clock, random, coordinator, oneWayMs } = dependencies;
    const onLeaseLost = (token: Token, owner: number): void => {
      for (const client of this.rendezvous.waitersOf(token)) this.#redirect(client, owner);
    };
    this.leases = new TokenLeasesModel({
      clock,
      random,
      coordinator,
      oneWayMs,
      id,
      onLeaseLost,
    });
  }

  get isDead(): boolean {
    return this.#death !== null;
  }

  /** Stops the relay. Its waiting clients are lost. */
  die(death: FailureMode): void {
    this.#death = death;
    this.leases.stop();
  }

  /** Adds a client that has waited since before the start. */
  adopt(client: ClientModel): void {
    this.rendezvous.join(client.token, client.side, client);
    this.leases.adopt(client.token);
  }

  /** Adds a client that connects, or that is forwarded to this relay. */
  join(client: ClientModel, takeFrom: number | null = null): void {
    if (this.#joinRendezvous(client)) this.leases.request(client.token, takeFrom);
  }

  /** Removes a client that stops waiting or is redirected to another relay. */
  leave(client: ClientModel): void {
    this.rendezvous.leave(client.token, client);
    if (!this.isDead && !this.rendezvous.hasWaiters(client.token)) this.leases.release(client.token);
  }

  /** @returns false if the client is paired */
  #joinRendezvous(client: ClientModel): boolean {
    client.at = this;
    client.state = 'waiting';
    const accepted = this.rendezvous.join(client.token, client.side, client);
    if (accepted.kind !== 'paired') return true;
    this.leases.release(client.token);
    this.#pair(client, accepted.partner);
    return false;
  }

  #pair(one: ClientModel, other: ClientModel): void {
    one.state = 'paired';
    other.state = 'paired';
    const { clock, oneWayMs } = this.#dependencies;
    const isForwarded = one.home !== this || other.home !== this;
    const laterMs = Math.max(one.acceptedMs, other.acceptedMs);
    this.#dependencies.onPaired(one, other, clock.nowMs - laterMs + (isForwarded ? oneWayMs() : 0));
  }

  #redirect(client: ClientModel, ownerId: number): void {
    const owner = this.#dependencies.relays[ownerId];
    if (owner === undefined) throw new Error(`no relay ${ownerId}`);
    this.leave(client);
    client.state = 'connecting-upstream';
    if (client.home === this) this.#connectUpstream(client, owner);
    // The client was forwarded, so its own relay receives `elsewhere` over the link.
    else this.#dependencies.clock.after(this.#dependencies.oneWayMs(), () => client.home.#onNotOwner(client));
  }

  #connectUpstream(client: ClientModel, owner: RelayModel): void {
    const { clock } = this.#dependencies;
    if (owner.#death === null) {
      const lineMs = this.#roundTripsMs(LINK_AUTH_ROUND_TRIPS) + this.#dependencies.oneWayMs();
      clock.after(lineMs, () => {
        if (client.state !== 'connecting-upstream') return;
        if (owner.#death === null) owner.join(client);
        else this.#onNotOwner(client);
      });
      return;
    }
    const failedMs =
      owner.#death === 'silent' ? LINK_CONNECT_TIMEOUT_MS : this.#roundTripsMs(2) + RECONNECT_DELAY_MS;
    clock.after(failedMs, () => {
      if (client.state !== 'connecting-upstream' || this.isDead) return;
      client.deadRelays += 1;
      this.join(client, owner.id);
      if (client.deadRelays === 1) this.#dependencies.onTakeOver(client);
    });
  }

  /** The other relay no longer owns the token. Looks the owner up again after a delay. */
  #onNotOwner(client: ClientModel): void {
    if (client.state !== 'connecting-upstream' || this.isDead) return;
    // Meanwhile the client waits at its own relay.
    if (!this.#joinRendezvous(client)) return;
    this.#dependencies.clock.after(client.retryMs, () => {
      if (client.state === 'waiting' && client.at === this && !this.isDead)
        this.leases.request(client.token, null);
    });
    client.retryMs = Math.min(2 * client.retryMs, MAX_RETRY_MS);
  }

  #roundTripsMs(count: number): number {
    let ms = 0;
    for (let trip = 0; trip < 2 * count; trip += 1) ms += this.#dependencies.oneWayMs();
    return ms;
  }
}

/** A client that connects to `home` at `acceptedMs`. */
export function newClient(token: Token, side: Side, home: RelayModel, acceptedMs: number): ClientModel {
  return {
    token,
    side,
    home,
    at: home,
    acceptedMs,
    retryMs: RETRY_MS,
    state: 'waiting',
    deadRelays: 0,
  };
}
