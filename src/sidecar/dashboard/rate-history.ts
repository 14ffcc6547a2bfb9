/** Time range of the sparkline, in seconds. */
export const HISTORY_S = 300;

/**
 * Samples further apart have a gap between them, in seconds: the page was hidden, or there was no response.
 */
const MAX_GAP_S = 10;

/** The rates of the last minutes while the page was open. Times are seconds since the epoch. */
export class RateHistory {
  #times: number[] = [];
  #rates: (number | null)[] = [];

  /** @param rate bytes per second; null if unknown */
  add(timeSeconds: number, rate: number | null): void {
    const last = this.#times.at(-1);
    if (last !== undefined && timeSeconds <= last) return;
    if (last !== undefined && timeSeconds - last > MAX_GAP_S) this.#push(last + 1, null);
    this.#push(timeSeconds, rate);
    const stale = this.#times.findIndex((time) => time >= timeSeconds - HISTORY_S);
    this.#times.splice(0, stale);
    this.#rates.splice(0, stale);
  }

  get times(): readonly number[] {
    return this.#times;
  }

  /** One per time. */
  get rates(): readonly (number | null)[] {
    return this.#rates;
  }

  /** The highest known rate; 0 if there is none. */
  get peak(): number {
    return this.#rates.reduce<number>((peak, rate) => Math.max(peak, rate ?? 0), 0);
  }

  #push(timeSeconds: number, rate: number | null): void {
    this.#times.push(timeSeconds);
    this.#rates.push(rate);
  }
}
