import type { Token } from '../../src/protocol/messages.ts';
import type { Clock } from './clock.ts';
import { LEASE_MS } from './constants.ts';

/** What the coordinator takes to do something, in milliseconds. It does one thing at a time. */
export interface ServiceTimes {
  /** A claim, a release, a test. */
  readonly commandMs: number;
  /** A renewal of 500 claims; of fewer in proportion, and no less than a command. */
  readonly batchMs: number;
}

export interface CoordinatorCommand<Answer> {
  readonly serviceMs: number;
  /** One way there, one way back. */
  readonly thereMs: number;
  readonly backMs: number;
  readonly do: () => Answer;
  /** `tookMs` is what has gone by since it was asked. */
  readonly answered: (answer: Answer, tookMs: number) => void;
  /** The coordinator was lost meanwhile. */
  readonly failed: () => void;
}

/** Valkey as one server with a queue: who has which token until when. */
export class CoordinatorModel {
  readonly service: ServiceTimes;
  readonly #clock: Clock;
  readonly #leases = new Map<Token, { owner: number; untilMs: number }>();
  /** Another one after each loss. */
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

  /** Commands done since the beginning. */
  get commands(): number {
    return this.#commands;
  }

  /** Time spent with them, in milliseconds. */
  get busyMs(): number {
    return this.#busyMs;
  }

  /** The longest that one took from question to answer, in milliseconds; since this was last asked. */
  takeLongestMs(): number {
    const longest = this.#longestMs;
    this.#longestMs = 0;
    return longest;
  }

  /** Claims that have not expired, of one relay or of all. */
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

  /** Its process is killed, and what it knew is gone. Who waits for an answer learns that at once. */
  fail(): void {
    this.#isUp = false;
    this.#epoch += 1;
    this.#leases.clear();
  }

  restart(): void {
    this.#isUp = true;
    this.#freeAtMs = this.#clock.nowMs;
  }

  execute<Answer>(question: CoordinatorCommand<Answer>): void {
    const askedMs = this.#clock.nowMs;
    const epoch = this.#epoch;
    this.#clock.after(question.thereMs, () => {
      if (epoch !== this.#epoch || !this.#isUp) {
        question.failed();
        return;
      }
      const { nowMs } = this.#clock;
      this.#freeAtMs = Math.max(this.#freeAtMs, nowMs) + question.serviceMs;
      this.#busyMs += question.serviceMs;
      this.#commands += 1;
      // In the order of the queue, which is that of arrival.
      const answer = question.do();
      const tookMs = this.#freeAtMs + question.backMs - askedMs;
      this.#longestMs = Math.max(this.#longestMs, tookMs);
      this.#clock.after(this.#freeAtMs + question.backMs - nowMs, () => {
        if (epoch === this.#epoch) question.answered(answer, tookMs);
        else question.failed();
      });
    });
  }

  /** @returns whose it is now */
  acquire(token: Token, by: number, from: number | null): number {
    const there = this.#leases.get(token);
    const untilMs = this.#clock.nowMs + LEASE_MS;
    const isFree = there === undefined || there.untilMs <= this.#clock.nowMs;
    if (!isFree && there.owner !== by && there.owner !== from) return there.owner;
    if (there === undefined) this.#leases.set(token, { owner: by, untilMs });
    else {
      there.owner = by;
      there.untilMs = untilMs;
    }
    return by;
  }

  release(token: Token, by: number): void {
    if (this.#leases.get(token)?.owner === by) this.#leases.delete(token);
  }
}
