/** Why a client is rejected. For the first three reasons it gets `busy`. */
export type RejectReason = 'connections' | 'waiting' | 'address' | 'quota' | 'shutdown';

const MINUTE_MS = 60_000;

const MINUTES_PER_HOUR = 60;

/** An episode ends after this time without a rejection, in milliseconds. */
const EPISODE_TIMEOUT_MS = MINUTE_MS;

/** Rejections for one reason, each within a minute of the one before. */
export interface RejectionEpisode {
  readonly count: number;
  /** When the first and the last client were rejected, in milliseconds since the epoch. */
  readonly startedAt: number;
  readonly lastAt: number;
}

/** Counts rejected clients by reason: since the start, in the last hour, and now. Its size is fixed. */
export class RejectionHistory {
  readonly #monotonicClock: () => number;
  readonly #wallClock: () => number;
  readonly #totals = byReason(() => 0);
  readonly #hours = byReason(() => new RejectionsOfHour());
  readonly #episodes = byReason<(RejectionEpisode & { readonly lastTick: number }) | null>(() => null);

  /**
   * @param monotonicClock in milliseconds
   * @param wallClock in milliseconds since the epoch; only for the times that are shown
   */
  constructor(monotonicClock: () => number, wallClock: () => number) {
    this.#monotonicClock = monotonicClock;
    this.#wallClock = wallClock;
  }

  /** Rejected clients since the start. */
  get totals(): Readonly<Record<RejectReason, number>> {
    return this.#totals;
  }

  /** Rejected clients in this minute and in the 59 minutes before it. */
  get lastHour(): Readonly<Record<RejectReason, number>> {
    const minute = minuteOf(this.#monotonicClock());
    return byReason((reason) => this.#hours[reason].sumAt(minute));
  }

  /** The episode that goes on; null if no client was rejected for this reason within the last minute. */
  episode(reason: RejectReason): RejectionEpisode | null {
    return this.#episodeAt(reason, this.#monotonicClock());
  }

  count(reason: RejectReason): void {
    const [now, lastAt] = [this.#monotonicClock(), this.#wallClock()];
    const { count, startedAt } = this.#episodeAt(reason, now) ?? { count: 0, startedAt: lastAt };
    this.#episodes[reason] = { count: count + 1, startedAt, lastAt, lastTick: now };
    this.#totals[reason] += 1;
    this.#hours[reason].countAt(minuteOf(now));
  }

  #episodeAt(reason: RejectReason, now: number): RejectionEpisode | null {
    const episode = this.#episodes[reason];
    return episode === null || now - episode.lastTick > EPISODE_TIMEOUT_MS ? null : episode;
  }
}

function minuteOf(ms: number): number {
  return Math.floor(ms / MINUTE_MS);
}

/** Rejections of each of the last 60 minutes. */
class RejectionsOfHour {
  /** By minute modulo 60. */
  readonly #counts = new Uint32Array(MINUTES_PER_HOUR);
  /** The minute of the last count. */
  #minute = 0;

  countAt(minute: number): void {
    this.#advanceTo(minute);
    const slot = minute % MINUTES_PER_HOUR;
    this.#counts[slot] = (this.#counts[slot] ?? 0) + 1;
  }

  sumAt(minute: number): number {
    this.#advanceTo(minute);
    return this.#counts.reduce((sum, count) => sum + count, 0);
  }

  /** Clears the minutes since the last count. */
  #advanceTo(minute: number): void {
    const passed = Math.min(minute - this.#minute, MINUTES_PER_HOUR);
    for (let age = 0; age < passed; age += 1) this.#counts[(minute - age) % MINUTES_PER_HOUR] = 0;
    this.#minute = minute;
  }
}

function byReason<Value>(valueFor: (reason: RejectReason) => Value): Record<RejectReason, Value> {
  return {
    connections: valueFor('connections'),
    waiting: valueFor('waiting'),
    address: valueFor('address'),
    quota: valueFor('quota'),
    shutdown: valueFor('shutdown'),
  };
}
