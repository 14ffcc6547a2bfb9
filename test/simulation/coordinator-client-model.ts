import type { Clock } from './clock.ts';
import {
  HEALTH_CHECK_MS,
  MAX_BACKOFF_MS,
  MIN_BACKOFF_MS,
  MIN_PAUSE,
  SLOW_MS,
  UNHEALTHY_CHECK_MS,
} from './constants.ts';
import type { CoordinatorModel } from './coordinator-model.ts';
import type { Random } from './random.ts';

/**
 * Round trips from a connection's first packet to the first health check: TCP, the login, the name, three
 * scripts.
 */
const CONNECT_ROUND_TRIPS = 6;

/** Of these, the ones that the coordinator counts as commands. */
const CONNECT_COMMANDS = 3;

interface ModelRequest<Answer> {
  readonly serviceMs: number;
  readonly do: () => Answer;
  readonly answered: (answer: Answer, tookMs: number) => void;
  readonly failed: () => void;
}

/**
 * Models src/cluster/coordinator-client.ts: reconnects, checks health, and notifies when the coordinator is
 * up again.
 */
export class CoordinatorClientModel {
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #coordinator: CoordinatorModel;
  readonly #oneWayMs: () => number;
  readonly #onUp: () => void;
  #isConnected = true;
  #isSlow = false;
  /** Number of the planned health check. A new number cancels it. */
  #healthCheck = 0;
  #failures = 0;
  #isDead = false;

  /** @param onUp called when the coordinator executes commands in time again */
  constructor(
    clock: Clock,
    random: Random,
    coordinator: CoordinatorModel,
    oneWayMs: () => number,
    onUp: () => void,
  ) {
    this.#clock = clock;
    this.#random = random;
    this.#coordinator = coordinator;
    this.#oneWayMs = oneWayMs;
    this.#onUp = onUp;
    this.#scheduleHealthCheck(random.between(0, HEALTH_CHECK_MS));
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

  request<Answer>(request: ModelRequest<Answer>): void {
    if (!this.#isConnected) {
      request.failed();
      return;
    }
    this.#coordinator.execute({
      ...request,
      outboundMs: this.#oneWayMs(),
      inboundMs: this.#oneWayMs(),
      failed: () => {
        this.#lose();
        request.failed();
      },
    });
  }

  /** Called when a reply took too long. */
  markUnhealthy(): void {
    if (!this.isUp) return;
    this.#isSlow = true;
    this.#scheduleHealthCheck(0);
  }

  #lose(): void {
    if (!this.#isConnected) return;
    this.#isConnected = false;
    this.#failures = 0;
    this.#healthCheck += 1;
    this.#scheduleConnect();
  }

  #scheduleConnect(): void {
    const backoffMs = Math.min(MAX_BACKOFF_MS, MIN_BACKOFF_MS * 2 ** this.#failures);
    this.#failures += 1;
    this.#clock.after(backoffMs * this.#random.between(0.5, 1), () => this.#connect());
  }

  #connect(): void {
    if (this.#isDead) return;
    if (!this.#coordinator.isUp) {
      this.#scheduleConnect();
      return;
    }
    let latencyMs = 0;
    for (let index = 0; index < CONNECT_ROUND_TRIPS - CONNECT_COMMANDS; index += 1)
      latencyMs += 2 * this.#oneWayMs();
    this.#clock.after(latencyMs, () => this.#loadScripts(CONNECT_COMMANDS));
  }

  #loadScripts(left: number): void {
    this.#requestOnNewConnection(() => {
      if (left > 1) this.#loadScripts(left - 1);
      else this.#requestOnNewConnection((tookMs) => this.#onHealthChecked(tookMs, false));
    });
  }

  #requestOnNewConnection(then: (tookMs: number) => void): void {
    this.#coordinator.execute({
      serviceMs: this.#coordinator.service.commandMs,
      outboundMs: this.#oneWayMs(),
      inboundMs: this.#oneWayMs(),
      do: () => null,
      answered: (_, tookMs) => then(tookMs),
      failed: () => this.#scheduleConnect(),
    });
  }

  #scheduleHealthCheck(delayMs: number): void {
    this.#healthCheck += 1;
    const check = this.#healthCheck;
    this.#clock.after(delayMs, () => {
      if (check !== this.#healthCheck || this.#isDead) return;
      this.request({
        serviceMs: this.#coordinator.service.commandMs,
        do: () => null,
        answered: (_, tookMs) => {
          if (check === this.#healthCheck) this.#onHealthChecked(tookMs, this.isUp);
        },
        failed: () => undefined,
      });
    });
  }

  #onHealthChecked(tookMs: number, wasUp: boolean): void {
    if (this.#isDead) return;
    this.#isConnected = true;
    if (tookMs > SLOW_MS) this.#isSlow = true;
    else if (!this.#isSlow || tookMs < SLOW_MS / 2) this.#isSlow = false;
    this.#scheduleHealthCheck(
      (this.#isSlow ? UNHEALTHY_CHECK_MS : HEALTH_CHECK_MS) * this.#random.between(MIN_PAUSE, 1),
    );
    if (!wasUp && !this.#isSlow) this.#onUp();
  }
}
