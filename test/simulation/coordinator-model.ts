import type { Token } from '../../src/protocol/messages.ts';
import type { Clock } from './clock.ts';
import { LEASE_MS } from './constants.ts';

/** Service times of the coordinator, in milliseconds. It executes one command at a time. */
export interface ServiceTimes {
  /** Acquiring or releasing a lease, or a health check. */
  readonly commandMs: number;
  /** A renewal of 500 leases. Fewer leases take proportionally less, but at least `commandMs`. */
  readonly batchMs: number;
}

export interface CoordinatorCommand<Answer> {
  readonly serviceMs: number;
  /** Latency to the coordinator, and back. */
  readonly outboundMs: number;
  readonly inboundMs: number;
  readonly do: () => Answer;
  /** `tookMs` is the time since the request. */
  readonly answered: (answer: Answer, tookMs: number) => void;
  /** The coordinator was lost meanwhile. */
  readonly failed: () => void;
}

/** Valkey as one server with a queue. It has the owner of each token, and when the lease expires. */
export class CoordinatorModel {
  readonly service: ServiceTimes;
  readonly #clock: Clock;
  readonly #leases = new Map<Token, { owner: number; untilMs: number }>();
  /** Increased by each failure. */
  #epoch = 0;
  #isUp = true;
  #freeAtMs = 0;
  #commands = 0;
  #busyMs = 0;
  #longestMs = 0;

  constructor(clock: Clock, service: ServiceTimes) {
    this.#clock = clock;
    this.service = service;
  }

  get isUp(): boolean {
    return this.#isUp;
  }

  /** Commands executed since the start. */
  get commands(): number {
    return this.#commands;
  }

  /** Time spent on them, in milliseconds. */
  get busyMs(): number {
    return this.#busyMs;
  }

  /** The longest time from a request to its reply since the last call, in milliseconds. */
  takeLongestMs(): number {
    const longest = this.#longestMs;
    this.#longestMs = 0;
    return longest;
  }

  /** Leases that have not expired, of one relay or of all. */
  countLeases(owner: number | null = null): number {
    let count = 0;
    for (const lease of this.#leases.values())
      if (lease.untilMs > this.#clock.nowMs && (owner === null || lease.owner === owner)) count += 1;
    return count;
  }

  isOwner(token: Token, owner: number): boolean {
    const lease = this.#leases.get(token);
    return lease !== undefined && lease.owner === owner && lease.untilMs > this.#clock.nowMs;
  }

  /** Kills the coordinator, which loses all data. Pending commands fail immediately. */
  fail(): void {
    this.#isUp = false;
    this.#epoch += 1;
    this.#leases.clear();
  }

  restart(): void {
    this.#isUp = true;
    this.#freeAtMs = this.#clock.nowMs;
  }

  execute<Answer>(command: CoordinatorCommand<Answer>): void {
    const requestedMs = this.#clock.nowMs;
    const epoch = this.#epoch;
    this.#clock.after(command.outboundMs, () => {
      if (epoch !== this.#epoch || !this.#isUp) {
        command.failed();
        return;
      }
      const { nowMs } = this.#clock;
      this.#freeAtMs = Math.max(this.#freeAtMs, nowMs) + command.serviceMs;
      this.#busyMs += command.serviceMs;
      this.#commands += 1;
      // Commands are executed in the order in which they arrive.
      const answer = command.do();
      const tookMs = this.#freeAtMs + command.inboundMs - requestedMs;
      this.#longestMs = Math.max(this.#longestMs, tookMs);
      this.#clock.after(this.#freeAtMs + command.inboundMs - nowMs, () => {
        if (epoch === this.#epoch) command.answered(answer, tookMs);
        else command.failed();
      });
    });
  }

  /** @returns the owner */
  acquire(token: Token, relay: number, previousOwner: number | null): number {
    const lease = this.#leases.get(token);
    const untilMs = this.#clock.nowMs + LEASE_MS;
    const isFree = lease === undefined || lease.untilMs <= this.#clock.nowMs;
    if (!isFree && lease.owner !== relay && lease.owner !== previousOwner) return lease.owner;
    if (lease === undefined) this.#leases.set(token, { owner: relay, untilMs });
    else {
      lease.owner = relay;
      lease.untilMs = untilMs;
    }
    return relay;
  }

  release(token: Token, relay: number): void {
    if (this.#leases.get(token)?.owner === relay) this.#leases.delete(token);
  }
}
