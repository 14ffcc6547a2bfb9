import { parseHandshake } from '../../src/protocol/handshake.ts';
import type { Side, Token } from '../../src/protocol/wire.ts';
import { Clock } from './clock.ts';
import { CoordinatorModel } from './coordinator-model.ts';
import type { Service } from './coordinator-model.ts';
import { oneWayMs } from './network.ts';
import type { Network } from './network.ts';
import { Random } from './random.ts';
import { RelayModel, newClient } from './relay-model.ts';
import type { ClientModel, Death } from './relay-model.ts';

export interface GroupOptions {
  readonly relays: number;
  /** Tokens somebody waits under at the beginning, and on average. */
  readonly waiting: number;
  /** How long a client waits on average, in milliseconds; how long it has waited says nothing of how long it will. */
  readonly waitMs: number;
  /** What share of those who wait leaves without a partner. */
  readonly lonely: number;
  readonly network: Network;
  readonly service: Service;
  readonly seed: number;
}

/** What has happened since it was last asked. */
export interface Tally {
  localPairs: number;
  forwardedPairs: number;
  /** Until both had heard `ok`, of each pair; in milliseconds. */
  localMs: number[];
  forwardedMs: number[];
  /** From arrival until it was found out that the token's relay is dead, and the token was asked for; in milliseconds. */
  takenOverMs: number[];
  cutOff: number;
}

/** A group of relays, a coordinator, and people who come in pairs, one some time after the other, each to any relay. */
export class Group {
  readonly clock = new Clock();
  readonly coordinator: CoordinatorModel;
  readonly relays: readonly RelayModel[];
  tally = newTally();
  readonly #options: GroupOptions;
  readonly #random: Random;
  #tokens = 0;
  /** Who has come second and has not met the first, though that one is here. */
  readonly #apart = new Set<ClientModel>();

  constructor(options: GroupOptions) {
    this.#options = options;
    const { clock } = this;
    const random = new Random(options.seed);
    this.#random = random;
    const coordinator = new CoordinatorModel(clock, options.service);
    this.coordinator = coordinator;
    const relays: RelayModel[] = [];
    this.relays = relays;
    const house = {
      clock,
      random,
      coordinator,
      relays,
      oneWayMs: () => oneWayMs(options.network, random),
      paired: (one: ClientModel, other: ClientModel, tookMs: number) => this.#paired(one, other, tookMs),
      tookOver: (client: ClientModel) => {
        this.tally.takenOverMs.push(clock.nowMs - client.cameMs);
      },
    };
    for (let id = 0; id < options.relays; id += 1) relays.push(new RelayModel(id, house));
    for (let token = 0; token < options.waiting; token += 1) this.#comesFirst(true);
    if (options.waiting > 0) this.#expectNext();
  }

  /** Tokens of which both clients are here and have not met. */
  get apart(): number {
    return this.#apart.size;
  }

  /** Distinct tokens that somebody waits under at some relay. */
  get waiting(): number {
    return sum(this.#living().map(({ rendezvous }) => rendezvous.waitingTokens));
  }

  /** Tells from now on whether one of those who are apart now still is. */
  unmetNow(): () => boolean {
    const now = [...this.#apart];
    return () => now.some((client) => this.#apart.has(client));
  }

  /** Tells from now on whether one of the claims that the coordinator does not know of now is still wanted in vain. */
  unclaimedNow(): () => boolean {
    const now = this.#living().map(({ claims }) => claims.unclaimedNow());
    return () => now.some((isUnclaimed) => isUnclaimed());
  }

  get late(): number {
    return sum(this.relays.map(({ claims }) => claims.late));
  }

  get rounds(): number {
    return sum(this.relays.map(({ claims }) => claims.rounds));
  }

  runFor(ms: number): void {
    this.clock.runUntil(this.clock.nowMs + ms);
  }

  takeTally(): Tally {
    const { tally } = this;
    this.tally = newTally();
    return tally;
  }

  /** The relay with this number dies. Who comes goes to others at once. */
  loseRelay(id: number, death: Death): void {
    const relay = this.relays[id];
    if (relay === undefined) throw new Error(`no relay ${id}`);
    this.tally.cutOff += relay.rendezvous.waitingClients;
    relay.die(death);
  }

  /** Two clients of a new token come, to these relays, `gapMs` apart. For tests. */
  pairUp(first: number, second: number, gapMs: number): readonly [ClientModel, ClientModel] {
    const { token, sides } = this.#newToken();
    const one = this.#come(token, sides[0], this.#relay(first));
    this.runFor(gapMs);
    const other = this.#come(token, sides[1], this.#relay(second));
    return [one, other];
  }

  #expectNext(): void {
    const { waiting, waitMs } = this.#options;
    this.clock.after(this.#random.exponential(waitMs / waiting), () => {
      this.#comesFirst(false);
      this.#expectNext();
    });
  }

  #comesFirst(isOld: boolean): void {
    const { token, sides } = this.#newToken();
    const home = this.#anyRelay();
    const client = isOld ? newClient(token, sides[0], home, 0) : this.#come(token, sides[0], home);
    if (isOld) home.adopt(client);
    const isLonely = this.#random.uniform() < this.#options.lonely;
    this.clock.after(this.#random.exponential(this.#options.waitMs), () => {
      if (isLonely) this.#leaves(client);
      else this.#comesSecond(client, sides[1]);
    });
  }

  #comesSecond(first: ClientModel, side: Side): void {
    const isHere = !first.home.isDead && !first.at.isDead;
    const second = newClient(first.token, side, this.#anyRelay(), this.clock.nowMs);
    if (isHere) this.#apart.add(second);
    second.home.enter(second);
    // Nobody waits for ever for somebody who is gone.
    this.clock.after(this.#random.exponential(this.#options.waitMs), () => {
      this.#apart.delete(second);
      this.#leaves(second);
    });
  }

  #leaves(client: ClientModel): void {
    if (client.state === 'waiting') client.at.leave(client);
    if (client.state !== 'paired') client.state = 'gone';
  }

  #come(token: Token, side: Side, home: RelayModel): ClientModel {
    const client = newClient(token, side, home, this.clock.nowMs);
    home.enter(client);
    return client;
  }

  #paired(one: ClientModel, other: ClientModel, tookMs: number): void {
    this.#apart.delete(one);
    this.#apart.delete(other);
    const { tally } = this;
    if (one.home === other.home) {
      tally.localPairs += 1;
      tally.localMs.push(tookMs);
    } else {
      tally.forwardedPairs += 1;
      tally.forwardedMs.push(tookMs);
    }
  }

  #relay(id: number): RelayModel {
    const relay = this.relays[id];
    if (relay === undefined) throw new Error(`no relay ${id}`);
    return relay;
  }

  #living(): readonly RelayModel[] {
    return this.relays.filter(({ isDead }) => !isDead);
  }

  #anyRelay(): RelayModel {
    const living = this.#living();
    const relay = living[this.#random.below(living.length)];
    if (relay === undefined) throw new Error('no relay lives');
    return relay;
  }

  #newToken(): { readonly token: Token; readonly sides: readonly [Side, Side] } {
    this.#tokens += 1;
    const number = this.#tokens.toString(16).padStart(64, '0');
    const { token, side: first } = read(`please relay ${number} for side ${'0'.repeat(16)}\n`);
    const { side: second } = read(`please relay ${number} for side ${'1'.repeat(16)}\n`);
    return { token, sides: [first, second] };
  }
}

function read(line: string): { readonly token: Token; readonly side: Side } {
  const handshake = parseHandshake(Buffer.from(line));
  if (handshake.kind !== 'relay' || handshake.side === null) throw new Error('no handshake');
  return { token: handshake.token, side: handshake.side };
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}

function newTally(): Tally {
  return {
    localPairs: 0,
    forwardedPairs: 0,
    localMs: [],
    forwardedMs: [],
    takenOverMs: [],
    cutOff: 0,
  };
}
