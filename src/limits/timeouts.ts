import { LinkedSet } from './linked-set.ts';
import type { Linked } from './linked-set.ts';

/** Maximum of setTimeout, in milliseconds. */
const MAX_TIMER_MS = 2 ** 31 - 1;

/** Time for things that are due at the same moment, in milliseconds. The others follow in the next slice. */
const SLICE_MS = 4;

/** Time between two slices, in milliseconds. */
const SLICE_PAUSE_MS = 1;

/** A timeout that was started. */
export class Timeout<Thing> implements Linked<Timeout<Thing>> {
  readonly thing: Thing;
  /** Milliseconds of a monotonic clock. */
  readonly dueAt: number;
  readonly #timeouts: LinkedSet<Timeout<Thing>>;
  previous: Timeout<Thing> | null = null;
  next: Timeout<Thing> | null = null;

  constructor(thing: Thing, dueAt: number, timeouts: LinkedSet<Timeout<Thing>>) {
    this.thing = thing;
    this.dueAt = dueAt;
    this.#timeouts = timeouts;
    timeouts.add(this);
  }

  /** Does nothing if it was due already. */
  stop(): void {
    this.#timeouts.delete(this);
  }
}

/**
 * Reports things that have taken too long. All of them have the same timeout, so the first to start is the
 * first to be due. One timer for the oldest is enough, however many there are; each costs one object.
 */
export class TimeoutQueue<Thing> {
  readonly #timeoutMs: number | null;
  readonly #clock: () => number;
  readonly #onTimeout: (thing: Thing) => void;
  /** Those that are not due yet, the first to be due first. */
  readonly #timeouts = new LinkedSet<Timeout<Thing>>();
  #timer: NodeJS.Timeout | null = null;

  /**
   * @param timeoutMs null: no timeout
   * @param clock milliseconds of a monotonic clock
   * @param onTimeout called once for each thing that is due, after it has been removed
   */
  constructor(timeoutMs: number | null, clock: () => number, onTimeout: (thing: Thing) => void) {
    this.#timeoutMs = timeoutMs;
    this.#clock = clock;
    this.#onTimeout = onTimeout;
  }

  /** Things that are not due yet. */
  get size(): number {
    return this.#timeouts.size;
  }

  /** Starts a timeout of `thing`. Null if things may take forever. */
  start(thing: Thing): Timeout<Thing> | null {
    if (this.#timeoutMs === null) return null;
    if (this.#timer === null) this.#schedule(this.#timeoutMs);
    return new Timeout(thing, this.#clock() + this.#timeoutMs, this.#timeouts);
  }

  /** Stops all timeouts. */
  close(): void {
    for (const timeout of this.#timeouts) timeout.stop();
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
  }

  #schedule(ms: number): void {
    this.#timer = setTimeout(() => this.#expireDue(), Math.min(Math.max(ms, 0), MAX_TIMER_MS));
  }

  #expireDue(): void {
    this.#timer = null;
    const now = this.#clock();
    for (let timeout = this.#timeouts.first; timeout !== null; timeout = this.#timeouts.first) {
      if (timeout.dueAt > now) {
        // Most are stopped long before they are due. A timer that fires too early is set again for the next
        // one.
        if (this.#timer === null) this.#schedule(timeout.dueAt - now);
        return;
      }
      if (this.#clock() - now >= SLICE_MS) {
        this.#timer ??= setTimeout(() => this.#expireDue(), SLICE_PAUSE_MS);
        return;
      }
      timeout.stop();
      this.#onTimeout(timeout.thing);
    }
  }
}

/** Checks per timeout. An idle pair is found late by up to one check interval. */
const CHECKS_PER_TIMEOUT = 20;

/** Bounds of the check interval, in milliseconds. */
const MAX_CHECK_INTERVAL_MS = 60_000;
const MIN_CHECK_INTERVAL_MS = 50;

interface Progress {
  readonly bytes: number;
  /** When a check last saw it progress, or saw it first. */
  readonly lastProgressAt: number;
}

/** Finds idle pairs by comparing byte counts that exist anyway. It costs nothing per byte. */
export class IdleTimeouts<Thing> {
  readonly #timeoutMs: number;
  readonly #clock: () => number;
  #progress = new Map<Thing, Progress>();

  /** @param clock milliseconds of a monotonic clock */
  constructor(timeoutMs: number, clock: () => number) {
    this.#timeoutMs = timeoutMs;
    this.#clock = clock;
  }

  /** Time between two checks, in milliseconds. */
  get checkIntervalMs(): number {
    return Math.min(
      Math.max(this.#timeoutMs / CHECKS_PER_TIMEOUT, MIN_CHECK_INTERVAL_MS),
      MAX_CHECK_INTERVAL_MS,
    );
  }

  /**
   * Checks all things. Missing ones are forgotten.
   *
   * @param things each with the bytes it has transferred so far
   * @returns those that have transferred nothing for the timeout
   */
  check(things: Iterable<readonly [Thing, number]>): Thing[] {
    const now = this.#clock();
    const progress = new Map<Thing, Progress>();
    const idle: Thing[] = [];
    for (const [thing, bytes] of things) {
      const last = this.#progress.get(thing);
      const lastProgressAt = last === undefined || last.bytes !== bytes ? now : last.lastProgressAt;
      progress.set(thing, { bytes, lastProgressAt });
      if (now - lastProgressAt >= this.#timeoutMs) idle.push(thing);
    }
    this.#progress = progress;
    return idle;
  }
}
