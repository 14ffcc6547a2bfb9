import { parseHandshake } from '../../src/protocol/handshake.ts';
import type { Side, Token } from '../../src/protocol/messages.ts';
import { Clock } from './clock.ts';
import { CoordinatorModel } from './coordinator-model.ts';
import type { ServiceTimes } from './coordinator-model.ts';
import { oneWayMs } from './latency.ts';
import type { LatencyModel } from './latency.ts';
import { Random } from './random.ts';
import { RelayModel, newClient } from './relay-model.ts';
import type { ClientModel, FailureMode } from './relay-model.ts';

export interface SimulationOptions {
  readonly relays: number;
  /** Tokens with a waiting client, at the start and on average. */
  readonly waiting: number;
  /** Mean waiting time of a client, in milliseconds; exponentially distributed. */
  readonly waitMs: number;
  /** Share of waiting clients that leave without a partner. */
  readonly unpairedShare: number;
  readonly latency: LatencyModel;
  readonly service: ServiceTimes;
  readonly seed: number;
}

/** Counts since the last `takeTally`. */
export interface Tally {
  localPairs: number;
  forwardedPairs: number;
  /** For each pair: time until both clients had received `ok`, in milliseconds. */
  localMs: number[];
  forwardedMs: number[];
  /** From connecting until the owner was found dead and the lease was taken over, in milliseconds. */
  takenOverMs: number[];
  cutOff: number;
}

/**
 * A cluster of relays, a coordinator, and pairs of clients: one connects some time after the other, each to
 * any relay.
 */
export class SimulatedCluster {
  readonly clock = new Clock();
  readonly coordinator: CoordinatorModel;
  readonly relays: readonly RelayModel[];
  tally = newTally();
  readonly #options: SimulationOptions;
  readonly #random: Random;
  #tokens = 0;
  /** Second clients that are not paired although the first one is connected. */
  readonly #unpaired = new Set<ClientModel>();

  constructor(options: SimulationOptions) {
    this.#options = options;
    const { clock } = this;
    const random = new Random(options.seed);
    this.#random = random;
    const coordinator = new CoordinatorModel(clock, options.service);
    this.coordinator = coordinator;
    const relays: RelayModel[] = [];
    this.relays = relays;
    const dependencies = {
      clock,
      random,
      coordinator,
      relays,
      oneWayMs: () => oneWayMs(options.latency, random),
      onPaired: (one: ClientModel, other: ClientModel, tookMs: number) => this.#paired(one, other, tookMs),
      onTakeOver: (client: ClientModel) => {
        this.tally.takenOverMs.push(clock.nowMs - client.acceptedMs);
      },
    };
    for (let id = 0; id < options.relays; id += 1) relays.push(new RelayModel(id, dependencies));
    for (let token = 0; token < options.waiting; token += 1) this.#firstClientConnects(true);
    if (options.waiting > 0) this.#expectNext();
  }

  /** Tokens with both clients connected and not paired. */
  get unpaired(): number {
    return this.#unpaired.size;
  }

  /** Distinct tokens with a waiting client at any relay. */
  get waiting(): number {
    return sum(this.#liveRelays().map(({ rendezvous }) => rendezvous.waitingTokens));
  }

  /** Returns a function that tells whether any client that is unpaired now is still unpaired. */
  trackUnpaired(): () => boolean {
    const now = [...this.#unpaired];
    return () => now.some((client) => this.#unpaired.has(client));
  }

  /**
   * Returns a function that tells whether any lease that is missing at the coordinator now is still desired
   * and not acquired.
   */
  trackUnacquired(): () => boolean {
    const now = this.#liveRelays().map(({ leases }) => leases.trackUnacquired());
    return () => now.some((isUnacquired) => isUnacquired());
  }

  get lateAnswers(): number {
    return sum(this.relays.map(({ leases }) => leases.lateAnswers));
  }

  get renewals(): number {
    return sum(this.relays.map(({ leases }) => leases.renewals));
  }

  runFor(ms: number): void {
    this.clock.runUntil(this.clock.nowMs + ms);
  }

  takeTally(): Tally {
    const { tally } = this;
    this.tally = newTally();
    return tally;
  }

  /** Kills a relay. New clients connect to other relays immediately. */
  killRelay(id: number, death: FailureMode): void {
    const relay = this.relays[id];
    if (relay === undefined) throw new Error(`no relay ${id}`);
    this.tally.cutOff += relay.rendezvous.waitingClients;
    relay.die(death);
  }

  /** Two clients of a new token connect to these relays, `gapMs` apart. For tests. */
  pairUp(first: number, second: number, gapMs: number): readonly [ClientModel, ClientModel] {
    const { token, sides } = this.#newToken();
    const one = this.#connect(token, sides[0], this.#relay(first));
    this.runFor(gapMs);
    const other = this.#connect(token, sides[1], this.#relay(second));
    return [one, other];
  }

  #expectNext(): void {
    const { waiting, waitMs } = this.#options;
    this.clock.after(this.#random.exponential(waitMs / waiting), () => {
      this.#firstClientConnects(false);
      this.#expectNext();
    });
  }

  #firstClientConnects(isInitial: boolean): void {
    const { token, sides } = this.#newToken();
    const home = this.#anyRelay();
    const client = isInitial ? newClient(token, sides[0], home, 0) : this.#connect(token, sides[0], home);
    if (isInitial) home.adopt(client);
    const staysUnpaired = this.#random.uniform() < this.#options.unpairedShare;
    this.clock.after(this.#random.exponential(this.#options.waitMs), () => {
      if (staysUnpaired) this.#disconnect(client);
      else this.#secondClientConnects(client, sides[1]);
    });
  }

  #secondClientConnects(first: ClientModel, side: Side): void {
    const isFirstWaiting = !first.home.isDead && !first.at.isDead;
    const second = newClient(first.token, side, this.#anyRelay(), this.clock.nowMs);
    if (isFirstWaiting) this.#unpaired.add(second);
    second.home.join(second);
    // The client does not wait forever for a partner that has disconnected.
    this.clock.after(this.#random.exponential(this.#options.waitMs), () => {
      this.#unpaired.delete(second);
      this.#disconnect(second);
    });
  }

  #disconnect(client: ClientModel): void {
    if (client.state === 'waiting') client.at.leave(client);
    if (client.state !== 'paired') client.state = 'gone';
  }

  #connect(token: Token, side: Side, home: RelayModel): ClientModel {
    const client = newClient(token, side, home, this.clock.nowMs);
    home.join(client);
    return client;
  }

  #paired(one: ClientModel, other: ClientModel, tookMs: number): void {
    this.#unpaired.delete(one);
    this.#unpaired.delete(other);
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

  #liveRelays(): readonly RelayModel[] {
    return this.relays.filter(({ isDead }) => !isDead);
  }

  #anyRelay(): RelayModel {
    const alive = this.#liveRelays();
    const relay = alive[this.#random.below(alive.length)];
    if (relay === undefined) throw new Error('no relay is alive');
    return relay;
  }

  #newToken(): { readonly token: Token; readonly sides: readonly [Side, Side] } {
    this.#tokens += 1;
    const number = this.#tokens.toString(16).padStart(64, '0');
    const { token, side: first } = parseLine(`please relay ${number} for side ${'0'.repeat(16)}\n`);
    const { side: second } = parseLine(`please relay ${number} for side ${'1'.repeat(16)}\n`);
    return { token, sides: [first, second] };
  }
}

function parseLine(line: string): { readonly token: Token; readonly side: Side } {
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
