import { LeaseKeys } from '../../src/cluster/lease-store.ts';
import { parseHandshake } from '../../src/protocol/handshake.ts';
import type { Side, Token } from '../../src/protocol/messages.ts';
import { Clock } from './clock.ts';
import { LEASE_MS, RENEWALS_PER_LEASE } from './constants.ts';
import { oneWayMs } from './latency.ts';
import type { LatencyModel } from './latency.ts';
import { Random } from './random.ts';
import { RelayModel, SECRET, newClient } from './relay-model.ts';
import type { ClientModel, FailureMode, RelayDependencies } from './relay-model.ts';
import { SimulatedRedis } from './simulated-redis.ts';
import type { ServiceTimes } from './simulated-redis.ts';

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

/** Time within which all relays start, in milliseconds. */
const START_MS = LEASE_MS / RENEWALS_PER_LEASE;

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
  readonly coordinator: SimulatedRedis;
  readonly #relays: RelayModel[] = [];
  readonly #dependencies: RelayDependencies;
  readonly #keys = new LeaseKeys(SECRET);
  #processes = 0;
  tally = newTally();
  readonly #options: SimulationOptions;
  readonly #random: Random;
  #tokens = 0;
  /** Second clients that are not paired although the first one is connected. */
  readonly #unpaired = new Set<ClientModel>();

  private constructor(options: SimulationOptions) {
    this.#options = options;
    const { clock } = this;
    const random = new Random(options.seed);
    this.#random = random;
    this.coordinator = new SimulatedRedis(clock, options.service);
    this.#dependencies = {
      clock,
      random,
      coordinator: this.coordinator,
      relays: this.#relays,
      oneWayMs: () => oneWayMs(options.latency, random),
      onPaired: (one, other, tookMs) => this.#paired(one, other, tookMs),
      onTakeOver: (client) => {
        this.tally.takenOverMs.push(clock.nowMs - client.acceptedMs);
      },
    };
  }

  /**
   * Starts relays one after the other within the renewal interval, so that they do not renew at the same time. Clients that
   * wait from the beginning connect to a relay at its start.
   */
  static async start(options: SimulationOptions): Promise<SimulatedCluster> {
    const cluster = new SimulatedCluster(options);
    const { relays, waiting } = options;
    const clientsOf = Array.from({ length: relays }, () => 0);
    for (let client = 0; client < waiting; client += 1) {
      const home = cluster.#random.below(relays);
      clientsOf[home] = (clientsOf[home] ?? 0) + 1;
    }
    for (const [index, count] of clientsOf.entries()) {
      const atMs = ((index + cluster.#random.uniform()) * START_MS) / relays;
      cluster.clock.after(atMs, () => cluster.#startRelay(index, count));
    }
    await cluster.clock.runUntil(START_MS);
    if (waiting > 0) cluster.#expectNext();
    return cluster;
  }

  get relays(): readonly RelayModel[] {
    return this.#relays;
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
   * Returns a function that tells whether any token that waits at a relay without a lease now still does.
   */
  trackUnacquired(): () => boolean {
    let missing = this.#liveRelays().flatMap((relay) => {
      const tokens = [...new Set([...relay.waiting].map(({ token }) => token))];
      return tokens.map((token) => ({ relay, token, key: this.#keys.forToken(token) }));
    });
    return () => {
      missing = missing.filter(
        ({ relay, token, key }) =>
          relay.rendezvous.hasWaiters(token) && this.coordinator.ownerOf(key) !== relay.leaseValue,
      );
      return missing.length > 0;
    };
  }

  get lateAnswers(): number {
    return sum(this.#relays.map((relay) => relay.lateAnswers));
  }

  /** The longest time from a command to its reply since the last call, in milliseconds. */
  takeLongestAnswerMs(): number {
    return Math.max(...this.#relays.map(({ network }) => network.takeLongestAnswerMs()));
  }

  async runFor(ms: number): Promise<void> {
    await this.clock.runUntil(this.clock.nowMs + ms);
  }

  takeTally(): Tally {
    const { tally } = this;
    this.tally = newTally();
    return tally;
  }

  /** Kills a relay. New clients connect to other relays immediately. */
  killRelay(id: number, death: FailureMode): void {
    const relay = this.relay(id);
    this.tally.cutOff += [...relay.waiting].filter(({ home }) => home === relay).length;
    relay.die(death);
  }

  /** Starts a dead relay again, at the same address. */
  restartRelay(id: number): void {
    this.#relays[id] = this.#newRelay(id);
  }

  /** Two clients of a new token connect to these relays, `gapMs` apart. For tests. */
  async pairUp(first: number, second: number, gapMs: number): Promise<readonly [ClientModel, ClientModel]> {
    const { token, sides } = newToken(this.#nextToken());
    const one = this.connect(token, sides[0], this.relay(first));
    await this.runFor(gapMs);
    const other = this.connect(token, sides[1], this.relay(second));
    // Until the promises that the connections wait for are resolved.
    await this.runFor(0);
    return [one, other];
  }

  connect(token: Token, side: Side, home: RelayModel): ClientModel {
    const client = newClient(token, side, home, this.clock.nowMs);
    home.join(client);
    return client;
  }

  relay(id: number): RelayModel {
    const relay = this.#relays[id];
    if (relay === undefined) throw new Error(`no relay ${id}`);
    return relay;
  }

  /** The coordinator's key of a token. */
  keyOf(token: Token): string {
    return this.#keys.forToken(token);
  }

  #startRelay(id: number, clients: number): void {
    this.#relays[id] = this.#newRelay(id);
    for (let client = 0; client < clients; client += 1) this.#firstClientConnects(this.relay(id), START_MS);
  }

  #newRelay(id: number): RelayModel {
    this.#processes += 1;
    const processId = `process-${this.#processes}`;
    return new RelayModel({ id: processId, address: `10.0.${id >> 8}.${id & 255}:4005` }, this.#dependencies);
  }

  #expectNext(): void {
    const { waiting, waitMs } = this.#options;
    this.clock.after(this.#random.exponential(waitMs / waiting), () => {
      this.#firstClientConnects(this.#anyRelay(), this.clock.nowMs);
      this.#expectNext();
    });
  }

  /** @param fromMs start of its waiting time */
  #firstClientConnects(home: RelayModel, fromMs: number): void {
    const { token, sides } = newToken(this.#nextToken());
    const client = this.connect(token, sides[0], home);
    const staysUnpaired = this.#random.uniform() < this.#options.unpairedShare;
    const waitMs = fromMs - this.clock.nowMs + this.#random.exponential(this.#options.waitMs);
    this.clock.after(waitMs, () => {
      if (staysUnpaired) client.home.disconnect(client);
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
      second.home.disconnect(second);
    });
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

  #liveRelays(): readonly RelayModel[] {
    return this.#relays.filter(({ isDead }) => !isDead);
  }

  #anyRelay(): RelayModel {
    const alive = this.#liveRelays();
    const relay = alive[this.#random.below(alive.length)];
    if (relay === undefined) throw new Error('no relay is alive');
    return relay;
  }

  #nextToken(): number {
    this.#tokens += 1;
    return this.#tokens;
  }
}

interface TokenAndSides {
  readonly token: Token;
  readonly sides: readonly [Side, Side];
}

/** A different token for each number, with the sides of two clients. */
export function newToken(number: number): TokenAndSides {
  const hex = number.toString(16).padStart(64, '0');
  const { token, side: first } = parseLine(`please relay ${hex} for side ${'0'.repeat(16)}\n`);
  const { side: second } = parseLine(`please relay ${hex} for side ${'1'.repeat(16)}\n`);
  return { token, sides: [first, second] };
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
