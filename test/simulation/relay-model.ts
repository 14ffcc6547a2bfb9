import { encodeOwner } from '../../src/cluster/lease-store.ts';
import type { Owner } from '../../src/cluster/router.ts';
import { TokenLeases } from '../../src/cluster/token-leases.ts';
import { Rendezvous } from '../../src/protocol/rendezvous.ts';
import type { Side, Token } from '../../src/protocol/messages.ts';
import type { Clock } from './clock.ts';
import {
  ANSWER_TIMEOUT_MS,
  LINK_CONNECT_TIMEOUT_MS,
  LINK_LOSS_MS,
  MAX_RETRY_MS,
  OWNER_CHECK_INTERVAL_MS,
  RECONNECT_DELAY_MS,
  RETRY_MS,
} from './constants.ts';
import { NetworkPath } from './network-path.ts';
import type { Random } from './random.ts';
import { SimulatedProcess } from './simulated-process.ts';
import type { SimulatedRedis } from './simulated-redis.ts';

/**
 * Round trips of a link before the client's line is sent: TCP, the owner's line, the caller's and the owner's
 * proof.
 */
const LINK_AUTH_ROUND_TRIPS = 3;

/** The same on all relays. */
export const SECRET = 'a secret of the cluster';

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
  /** Increased by every change of relay or state, which makes timers and lookups from before outdated. */
  moves: number;
  /** Relays that it found dead. */
  deadRelays: number;
}

/** How a relay dies: its machine refuses connections, or does not reply any more. */
export type FailureMode = 'refuses' | 'silent';

export interface RelayDependencies {
  readonly clock: Clock;
  readonly random: Random;
  readonly coordinator: SimulatedRedis;
  readonly oneWayMs: () => number;
  /** All relays. One that has died is replaced when it is restarted. */
  readonly relays: readonly RelayModel[];
  /** `tookMs` is the time from the connection of the later client until both have received `ok`. */
  readonly onPaired: (one: ClientModel, other: ClientModel, tookMs: number) => void;
  /** The client's relay has found the owner dead, and takes the lease over. */
  readonly onTakeOver: (client: ClientModel) => void;
}

/** One relay: the real rendezvous and leases, with models of src/cluster/forwarder.ts and of links. */
export class RelayModel {
  readonly self: Owner;
  readonly rendezvous = new Rendezvous<ClientModel>();
  readonly leases: TokenLeases;
  /** The network between this relay and the coordinator. */
  readonly network: NetworkPath;
  readonly #dependencies: RelayDependencies;
  readonly #process: SimulatedProcess;
  /** All clients in the rendezvous. */
  readonly #waiting = new Set<ClientModel>();
  #death: FailureMode | null = null;
  #lateAnswers = 0;

  constructor(self: Owner, dependencies: RelayDependencies) {
    this.self = self;
    this.#dependencies = dependencies;
    const { clock, random, coordinator, oneWayMs } = dependencies;
    this.network = new NetworkPath(clock, coordinator, oneWayMs);
    this.#process = new SimulatedProcess(clock, random, this.network);
    const nothing = (): void => undefined;
    this.leases = new TokenLeases({
      coordinator: { host: 'coordinator', port: 6379, tls: false, credentials: [], database: 0 },
      secret: SECRET,
      self,
      events: {
        onUp: nothing,
        onDown: nothing,
        onSecretMismatch: () => {
          throw new Error('all relays have the same secret');
        },
        onLeaseLost: (token, owner) => this.#onLeaseLost(token, owner),
      },
      runtime: this.#process,
    });
  }

  get isDead(): boolean {
    return this.#death !== null;
  }

  /** How the coordinator stores this relay as an owner. */
  get leaseValue(): string {
    return encodeOwner(this.self);
  }

  /** Replies that took more than 500 ms while a client waited. */
  get lateAnswers(): number {
    return this.#lateAnswers;
  }

  /** Clients that wait here. */
  get waiting(): ReadonlySet<ClientModel> {
    return this.#waiting;
  }

  /** Stops the relay. Its own clients are lost, and those of other relays return there. */
  die(death: FailureMode): void {
    this.#death = death;
    this.#process.kill();
    const { relays, oneWayMs } = this.#dependencies;
    const noticedMs = (): number => (death === 'silent' ? LINK_LOSS_MS : oneWayMs());
    for (const client of this.#waiting)
      if (client.home !== this) this.#after(noticedMs(), client, () => client.home.#onNotOwner(client));
    for (const owner of relays) {
      if (owner === this) continue;
      for (const client of owner.#waiting)
        if (client.home === this) this.#after(noticedMs(), client, () => owner.disconnect(client));
    }
  }

  /** Adds a client that connects, or that is forwarded to this relay. */
  join(client: ClientModel): void {
    if (this.#joinRendezvous(client)) this.#lookUpOwner(client, null);
  }

  /** Removes a client that stops waiting. Does nothing if it is paired. */
  disconnect(client: ClientModel): void {
    if (client.state === 'paired') return;
    client.moves += 1;
    if (client.state === 'waiting') client.at.#leave(client);
    client.state = 'gone';
  }

  #leave(client: ClientModel): void {
    this.#waiting.delete(client);
    this.rendezvous.leave(client.token, client);
    this.#releaseUnused(client.token);
  }

  /** Where no client waits for the token any more, another relay can own it. */
  #releaseUnused(token: Token): void {
    if (!this.isDead && !this.rendezvous.hasWaiters(token)) this.leases.release(token);
  }

  /** @returns false if the client is paired */
  #joinRendezvous(client: ClientModel): boolean {
    client.at = this;
    client.moves += 1;
    client.state = 'waiting';
    const accepted = this.rendezvous.join(client.token, client.side, client);
    this.#waiting.add(client);
    if (accepted.kind === 'replaced') this.disconnect(accepted.oldest);
    if (accepted.kind !== 'paired') return true;
    for (const redundant of accepted.redundant) this.disconnect(redundant);
    this.#pair(client, accepted.partner);
    return false;
  }

  #pair(one: ClientModel, other: ClientModel): void {
    const { clock, oneWayMs, onPaired } = this.#dependencies;
    for (const client of [one, other]) {
      client.moves += 1;
      client.state = 'paired';
      this.#waiting.delete(client);
    }
    this.#releaseUnused(one.token);
    const isForwarded = one.home !== this || other.home !== this;
    const laterMs = Math.max(one.acceptedMs, other.acceptedMs);
    onPaired(one, other, clock.nowMs - laterMs + (isForwarded ? oneWayMs() : 0));
  }

  /** @param deadOwner whose lease is taken over; null: no relay's */
  #lookUpOwner(client: ClientModel, deadOwner: Owner | null): void {
    const { clock } = this.#dependencies;
    const { token, moves } = client;
    const beganMs = clock.nowMs;
    const lookup = deadOwner === null ? this.leases.acquire(token) : this.leases.takeOver(token, deadOwner);
    void lookup.then((owner) => {
      if (this.isDead) return;
      if (clock.nowMs - beganMs >= ANSWER_TIMEOUT_MS) this.#lateAnswers += 1;
      if (client.moves === moves && this.#isOtherRelay(owner)) this.#redirect(client, owner);
    });
  }

  #onLeaseLost(token: Token, owner: Owner): void {
    if (!this.#isOtherRelay(owner)) return;
    for (const client of this.rendezvous.waitersOf(token)) this.#redirect(client, owner);
  }

  /** As in src/cluster/router.ts: another process at the same address is gone. */
  #isOtherRelay(owner: Owner | null): owner is Owner {
    return owner !== null && owner.address !== this.self.address;
  }

  #redirect(client: ClientModel, owner: Owner): void {
    client.moves += 1;
    this.#leave(client);
    client.state = 'connecting-upstream';
    if (client.home === this) this.#connectUpstream(client, owner);
    // The client was forwarded, so its own relay receives `elsewhere` over the link.
    else this.#after(this.#dependencies.oneWayMs(), client, () => client.home.#onNotOwner(client));
  }

  #connectUpstream(client: ClientModel, owner: Owner): void {
    const upstream = this.#dependencies.relays.find(({ self }) => self.address === owner.address);
    if (upstream === undefined) throw new Error(`no relay at ${owner.address}`);
    if (upstream.#death === null) {
      const lineMs = this.#roundTripsMs(LINK_AUTH_ROUND_TRIPS) + this.#dependencies.oneWayMs();
      this.#after(lineMs, client, () => {
        if (this.isDead) return;
        if (upstream.isDead) this.#onNotOwner(client);
        else this.#forward(client, upstream, owner);
      });
      return;
    }
    const failedMs =
      upstream.#death === 'silent' ? LINK_CONNECT_TIMEOUT_MS : this.#roundTripsMs(2) + RECONNECT_DELAY_MS;
    this.#after(failedMs, client, () => {
      if (this.isDead) return;
      client.deadRelays += 1;
      if (this.#joinRendezvous(client)) this.#lookUpOwner(client, owner);
      if (client.deadRelays === 1) this.#dependencies.onTakeOver(client);
    });
  }

  #forward(client: ClientModel, upstream: RelayModel, owner: Owner): void {
    upstream.join(client);
    if (client.state === 'waiting') this.#scheduleOwnerCheck(client, owner, client.moves);
  }

  /** Takes the client back from a relay that no longer owns its token. */
  #scheduleOwnerCheck(client: ClientModel, owner: Owner, moves: number): void {
    this.#after(OWNER_CHECK_INTERVAL_MS, client, () => {
      if (this.isDead) return;
      void this.leases.isOwner(client.token, owner).then((isOwner) => {
        if (this.isDead || client.moves !== moves) return;
        if (isOwner) this.#scheduleOwnerCheck(client, owner, moves);
        else this.#onNotOwner(client);
      });
    });
  }

  /** The other relay no longer owns the token, or is gone. Looks the owner up again after a delay. */
  #onNotOwner(client: ClientModel): void {
    if (this.isDead) return;
    if (client.state === 'waiting') client.at.#leave(client);
    // Meanwhile the client waits at its own relay.
    if (!this.#joinRendezvous(client)) return;
    this.#after(client.retryMs, client, () => {
      if (!this.isDead) this.#lookUpOwner(client, null);
    });
    client.retryMs = Math.min(2 * client.retryMs, MAX_RETRY_MS);
  }

  /** Runs an action later, unless the client has moved by then. */
  #after(delayMs: number, client: ClientModel, run: () => void): void {
    const { moves } = client;
    this.#dependencies.clock.after(delayMs, () => {
      if (client.moves === moves) run();
    });
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
    moves: 0,
    deadRelays: 0,
  };
}
