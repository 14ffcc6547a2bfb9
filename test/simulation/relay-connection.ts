import type { Clock } from './clock.ts';
import { LEAST_PAUSE, MAX_BACKOFF_MS, MIN_BACKOFF_MS, SLOW_MS, TEST_AGAIN_MS, TEST_MS } from './constants.ts';
import type { CoordinatorModel } from './coordinator-model.ts';
import type { Random } from './random.ts';

/** Round trips from a connection's first packet to the first test: TCP, the login, the name, three scripts. */
const OPENING_TRIPS = 6;

/** Of these, what the coordinator counts as commands. */
const OPENING_COMMANDS = 3;

interface Asking<Answer> {
  readonly serviceMs: number;
  readonly do: () => Answer;
  readonly answered: (answer: Answer, tookMs: number) => void;
  readonly failed: () => void;
}

/** What src/cluster/coordinator.ts does: stays connected, tests, and tells when all is well again. */
export class RelayConnection {
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #coordinator: CoordinatorModel;
  readonly #oneWayMs: () => number;
  readonly #up: () => void;
  #isConnected = true;
  #isSlow = false;
  /** The test that is planned; another number makes it void. */
  #test = 0;
  #failures = 0;
  #isDead = false;

  /** @param up it does again what it is asked, in time */
  constructor(
    clock: Clock,
    random: Random,
    coordinator: CoordinatorModel,
    oneWayMs: () => number,
    up: () => void,
  ) {
    this.#clock = clock;
    this.#random = random;
    this.#coordinator = coordinator;
    this.#oneWayMs = oneWayMs;
    this.#up = up;
    this.#planTest(random.between(0, TEST_MS));
  }

  get isConnected(): boolean {
    return this.#isConnected;
  }

  get isUp(): boolean {
    return this.#isConnected && !this.#isSlow;
  }

  stop(): void {
    this.#isDead = true;
  }

  ask<Answer>(asking: Asking<Answer>): void {
    if (!this.#isConnected) {
      asking.failed();
      return;
    }
    this.#coordinator.ask({
      ...asking,
      thereMs: this.#oneWayMs(),
      backMs: this.#oneWayMs(),
      failed: () => {
        this.#lose();
        asking.failed();
      },
    });
  }

  /** An answer took too long. */
  suspect(): void {
    if (!this.isUp) return;
    this.#isSlow = true;
    this.#planTest(0);
  }

  #lose(): void {
    if (!this.#isConnected) return;
    this.#isConnected = false;
    this.#failures = 0;
    this.#test += 1;
    this.#planConnect();
  }

  #planConnect(): void {
    const backoffMs = Math.min(MAX_BACKOFF_MS, MIN_BACKOFF_MS * 2 ** this.#failures);
    this.#failures += 1;
    this.#clock.after(backoffMs * this.#random.between(0.5, 1), () => this.#connect());
  }

  #connect(): void {
    if (this.#isDead) return;
    if (!this.#coordinator.isUp) {
      this.#planConnect();
      return;
    }
    let tripsMs = 0;
    for (let trip = 0; trip < OPENING_TRIPS - OPENING_COMMANDS; trip += 1) tripsMs += 2 * this.#oneWayMs();
    this.#clock.after(tripsMs, () => this.#loadScripts(OPENING_COMMANDS));
  }

  #loadScripts(left: number): void {
    this.#askOnNewConnection(() => {
      if (left > 1) this.#loadScripts(left - 1);
      else this.#askOnNewConnection((tookMs) => this.#tested(tookMs, false));
    });
  }

  #askOnNewConnection(then: (tookMs: number) => void): void {
    this.#coordinator.ask({
      serviceMs: this.#coordinator.service.commandMs,
      thereMs: this.#oneWayMs(),
      backMs: this.#oneWayMs(),
      do: () => null,
      answered: (_, tookMs) => then(tookMs),
      failed: () => this.#planConnect(),
    });
  }

  #planTest(delayMs: number): void {
    this.#test += 1;
    const test = this.#test;
    this.#clock.after(delayMs, () => {
      if (test !== this.#test || this.#isDead) return;
      this.ask({
        serviceMs: this.#coordinator.service.commandMs,
        do: () => null,
        answered: (_, tookMs) => {
          if (test === this.#test) this.#tested(tookMs, this.isUp);
        },
        failed: () => undefined,
      });
    });
  }

  #tested(tookMs: number, wasUp: boolean): void {
    if (this.#isDead) return;
    this.#isConnected = true;
    if (tookMs > SLOW_MS) this.#isSlow = true;
    else if (!this.#isSlow || tookMs < SLOW_MS / 2) this.#isSlow = false;
    this.#planTest((this.#isSlow ? TEST_AGAIN_MS : TEST_MS) * this.#random.between(LEAST_PAUSE, 1));
    if (!wasUp && !this.#isSlow) this.#up();
  }
}
