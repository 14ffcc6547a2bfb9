import type { Duplex } from 'node:stream';
import type { Runtime, Timer } from '../../src/cluster/runtime.ts';
import type { CoordinatorAddress } from '../../src/config/cluster-config.ts';
import { SimulatedTimer } from './clock.ts';
import type { Clock } from './clock.ts';
import type { NetworkPath } from './network-path.ts';
import type { Random } from './random.ts';

/** The process of one relay, with simulated time. None of its timers ends after it was killed. */
export class SimulatedProcess implements Runtime {
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #coordinator: NetworkPath;
  #isRunning = true;

  constructor(clock: Clock, random: Random, coordinator: NetworkPath) {
    this.#clock = clock;
    this.#random = random;
    this.#coordinator = coordinator;
  }

  get isRunning(): boolean {
    return this.#isRunning;
  }

  kill(): void {
    this.#isRunning = false;
  }

  now(): number {
    return this.#clock.nowMs;
  }

  random(): number {
    return this.#random.uniform();
  }

  setTimeout(callback: () => void, ms: number): Timer {
    return new SimulatedTimer(this.#clock, ms, this.#whileRunning(callback));
  }

  setImmediate(callback: () => void): void {
    this.#clock.after(0, this.#whileRunning(callback));
  }

  connect(_address: CoordinatorAddress, onOpen: () => void): Duplex {
    return this.#coordinator.connect(onOpen);
  }

  #whileRunning(callback: () => void): () => void {
    return () => {
      if (this.#isRunning) callback();
    };
  }
}
