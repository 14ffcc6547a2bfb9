import { addressPrefix } from '../protocol/ip-address.ts';
import { hashPrefix, newSalt } from './address-limit.ts';

/**
 * Time that handshakes may take in a row, in milliseconds; the last one may exceed it. A handshake with RSA
 * 4096 takes about 5 ms, one with ECDSA P-256 about 0.3 ms.
 */
const BURST_MS = 5;

/**
 * Share of the time for handshakes while steps are waiting. The event loop accepts one connection per turn:
 * if handshakes made all turns long, new clients would wait in the listen backlog.
 */
const CPU_SHARE = 0.5;

/** Maximum of waiting handshakes: a second of work with RSA 4096. Clients that wait longer give up anyway. */
const MAX_WAITING = 256;

/** Half-life of the recorded usage of a network, in milliseconds. */
const HALF_LIFE_MS = 10_000;

/** Maximum of tracked networks; each takes about 200 bytes. */
const MAX_NETWORKS = 4096;

/** One step of a TLS handshake: up to several milliseconds of CPU time. */
export interface TlsHandshakeStep {
  run(): void;
  /** The queue is full. */
  reject(): void;
}

/** The waiting steps and the recent usage of one address prefix. */
interface NetworkUsage {
  readonly key: string;
  readonly waiting: TlsHandshakeStep[];
  /** CPU time in milliseconds, as of `usedMsAt`. */
  usedMs: number;
  usedMsAt: number;
}

/**
 * Schedules TLS handshakes, because each takes up to several milliseconds of CPU time and any client may
 * request one. The time of handshakes in a row is bounded, and they get half of the time overall, so that
 * transfers go on. The network with the least recent usage is first, so that a flood from one network delays
 * only that network.
 *
 * Addresses are not stored: a network is identified by a hash of its prefix with a salt that never leaves the
 * memory.
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
   * @param nextTurn calls a function in the next turn of the event loop, after all other work
   */
  constructor(clock: () => number, nextTurn: (run: () => void) => void) {
    this.#clock = clock;
    this.#nextTurn = nextTurn;
    this.#refilledAt = clock();
  }

  /**
   * Runs a step now or in a later turn. If too many steps are waiting, a step of the network with the most
   * waiting steps is rejected: this step if it is of that network, otherwise the one that has waited longest
   * there.
   *
   * @param address of the client; null if not known. Unknown ones count as one network
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

  /** Removes a waiting step. Does nothing if the step is not waiting. */
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

  #decayedUsageMs({ usedMs, usedMsAt }: NetworkUsage, now: number): number {
    return usedMs * 0.5 ** ((now - usedMsAt) / HALF_LIFE_MS);
  }

  /** The network with waiting steps and the least usage. */
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

  /** Rejects a step of the network with the most waiting steps. Returns false if that is `newcomer`. */
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

  /** Removes the networks without waiting steps. */
  #evictIdleNetworks(): void {
    for (const [key, { waiting }] of this.#networks) if (waiting.length === 0) this.#networks.delete(key);
  }
}
