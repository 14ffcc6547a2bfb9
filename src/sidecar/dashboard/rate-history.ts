/** How far back the small chart looks, in seconds. */
export const HISTORY_S = 300;

/** Between samples that are further apart nothing is known, in seconds: the page was hidden, or nobody answered. */
const MAX_GAP_S = 10;

/** What the rate was in the last minutes, as the page has seen it. Times are seconds since the epoch. */
export class RateHistory {
  #times: number[] = [];
  #rates: (number | null)[] = [];

  /** @param rate bytes per second; null when it is not known */
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

  /** As many as times. */
  get rates(): readonly (number | null)[] {
    return this.#rates;
  }

  /** The highest known rate; 0 where none is. */
  get peak(): number {
    return this.#rates.reduce<number>((peak, rate) => Math.max(peak, rate ?? 0), 0);
  }

  #push(timeSeconds: number, rate: number | null): void {
    this.#times.push(timeSeconds);
    this.#rates.push(rate);
  }
}
