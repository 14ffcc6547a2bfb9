import { addressPrefix } from '../protocol/ip-address.ts';
import { hashPrefix, newSalt } from './address-hash.ts';

/**
 * Time that handshakes may take at once, in milliseconds; the last one may exceed it. One with RSA 4096 takes about 5 ms, one with
 * ECDSA P-256 about 0.3 ms.
 */
const BURST_MS = 5;

/**
 * Share of the time that handshakes get while steps wait. The event loop accepts one connection in each turn: if handshakes
 * made all turns long, new clients would wait in the listen backlog.
 */
const CPU_SHARE = 0.5;

/** Handshakes that wait at once: a second's work with RSA 4096. A client that waits longer gives up anyway. */
const MAX_WAITING = 256;

/** What a network has used counts half after this time, in milliseconds. */
const HALF_LIFE_MS = 10_000;

/** Networks that are remembered; one takes about 200 bytes. */
const MAX_NETWORKS = 4096;

/** One step of a TLS handshake: up to several milliseconds of this process. */
export interface TlsHandshakeStep {
  run(): void;
  /** There is no room for it. */
  reject(): void;
}

/** The steps and the recent use of one address prefix. */
interface NetworkUsage {
  readonly key: string;
  readonly waiting: TlsHandshakeStep[];
  /** Milliseconds of computing, as of `countedAt`. */
  usedMs: number;
  usedMsAt: number;
}

/**
 * Decides which TLS handshakes this process computes next, since each of them takes it up to several milliseconds and anybody may ask for
 * one. Handshakes get a bounded time at once and half of it overall, so that transfers go on beside them. The network that has used the
 * least lately is first, so that a flood from one network delays that network only.
 *
 * Addresses are not kept: a network is known by a hash of its prefix with a salt that never leaves the memory.
 */
export class TlsHandshakeQueue {
  readonly #clock: () => number;
  readonly #nextTurn: (run: () => void) => void;
  readonly #salt = newSalt();
  readonly #networks = new Map<string, NetworkUsage>();
  #waiting = 0;
  /** Milliseconds that handshakes may take now, as of `#refilledAt`; below zero after a long one. */
  #budgetMs = BURST_MS;
  #refilledAt = 0;
  #isRunScheduled = false;

  /**
   * @param clock monotonic, in milliseconds
   * @param nextTurn calls a function in the next turn of the event loop, once there was time for everything else
   */
  constructor(clock: () => number, nextTurn: (run: () => void) => void) {
    this.#clock = clock;
    this.#nextTurn = nextTurn;
    this.#refilledAt = clock();
  }

  /** Steps that wait. */
  get waiting(): number {
    return this.#waiting;
  }

  /** Networks that are remembered. */
  get networks(): number {
    return this.#networks.size;
  }

  /**
   * Runs a step now or in a later turn. When too many wait, one of the network with the most waiting steps is rejected: this one, where
   * that network is its own, else the one that has waited longest there.
   *
   * @param address where the client is, or null where that is not known; those count as one network
   */
  enqueue(address: string | null, step: TlsHandshakeStep): void {
    const network = this.#networkOf(address);
    if (this.#waiting === 0 && this.#hasBudget()) {
      this.#run(network, step);
      return;
    }
    if (this.#waiting >= MAX_WAITING && !this.#evictWaiting(network)) {
      step.reject();
      return;
    }
    network.waiting.push(step);
    this.#waiting += 1;
    this.#scheduleRun();
  }

  /** Takes back a step that waits. Does nothing for others. */
  cancel(address: string | null, step: TlsHandshakeStep): void {
    const { waiting } = this.#networkOf(address);
    const index = waiting.indexOf(step);
    if (index === -1) return;
    waiting.splice(index, 1);
    this.#waiting -= 1;
  }

  #scheduleRun(): void {
    if (this.#isRunScheduled) return;
    this.#isRunScheduled = true;
    this.#nextTurn(() => {
      this.#isRunScheduled = false;
      this.#runWaiting();
    });
  }

  #runWaiting(): void {
    while (this.#waiting > 0 && this.#hasBudget()) {
      const network = this.#leastUsedNetwork();
      const step = network?.waiting.shift();
      if (network === null || step === undefined) return;
      this.#waiting -= 1;
      this.#run(network, step);
    }
    if (this.#waiting > 0) this.#scheduleRun();
  }

  /** A token bucket of time. */
  #hasBudget(): boolean {
    const now = this.#clock();
    const othersMs = now - this.#refilledAt;
    this.#budgetMs = Math.min(BURST_MS, this.#budgetMs + (othersMs * CPU_SHARE) / (1 - CPU_SHARE));
    this.#refilledAt = now;
    return this.#budgetMs > 0;
  }

  #run(network: NetworkUsage, step: TlsHandshakeStep): void {
    const startedAt = this.#clock();
    step.run();
    const endedAt = this.#clock();
    const tookMs = endedAt - startedAt;
    this.#budgetMs -= tookMs;
    this.#refilledAt = endedAt;
    network.usedMs = this.#decayedUsageMs(network, endedAt) + tookMs;
    network.usedMsAt = endedAt;
  }

  #decayedUsageMs({ usedMs, usedMsAt: countedAt }: NetworkUsage, now: number): number {
    return usedMs * 0.5 ** ((now - countedAt) / HALF_LIFE_MS);
  }

  /** The network with waiting steps that has used the least. */
  #leastUsedNetwork(): NetworkUsage | null {
    const now = this.#clock();
    let least: NetworkUsage | null = null;
    let leastMs = Infinity;
    for (const network of this.#networks.values()) {
      if (network.waiting.length === 0) continue;
      const usedMs = this.#decayedUsageMs(network, now);
      if (usedMs < leastMs) [least, leastMs] = [network, usedMs];
    }
    return least;
  }

  /** Rejects a step of the network that has the most, for one of `newcomer`. False where that is `newcomer` itself. */
  #evictWaiting(newcomer: NetworkUsage): boolean {
    let most = newcomer;
    for (const network of this.#networks.values()) {
      if (network.waiting.length > most.waiting.length) most = network;
    }
    const step = most === newcomer ? undefined : most.waiting.shift();
    if (step === undefined) return false;
    this.#waiting -= 1;
    step.reject();
    return true;
  }

  #networkOf(address: string | null): NetworkUsage {
    const key = address === null ? '' : hashPrefix(this.#salt, addressPrefix(address));
    const known = this.#networks.get(key);
    if (known !== undefined) return known;
    if (this.#networks.size >= MAX_NETWORKS) this.#evictIdleNetworks();
    const network: NetworkUsage = { key, waiting: [], usedMs: 0, usedMsAt: this.#clock() };
    this.#networks.set(key, network);
    return network;
  }

  /** Forgets the networks that have no waiting step. */
  #evictIdleNetworks(): void {
    for (const [key, { waiting }] of this.#networks) if (waiting.length === 0) this.#networks.delete(key);
  }
}
