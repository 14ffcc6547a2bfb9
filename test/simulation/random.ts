/** Numbers that look random, the same ones for the same seed. */
export class Random {
  #state: number;

  /** @param seed a whole number */
  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** At least 0 and less than 1. Mulberry32, of Tommy Ettinger: https://gist.github.com/tommyettinger/46a874533244883189143505d203312c */
  uniform(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let mixed = this.#state;
    mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  }

  /** At least `least` and less than `most`. */
  between(least: number, most: number): number {
    return least + (most - least) * this.uniform();
  }

  /** A whole number from 0, less than `count`. */
  below(count: number): number {
    return Math.floor(this.uniform() * count);
  }

  /** What is as likely to end at any moment, and lasts `mean` on average. */
  exponential(mean: number): number {
    return -mean * Math.log(1 - this.uniform());
  }

  /** What has `median`, and a logarithm with the standard deviation `sigma`. */
  logNormal(median: number, sigma: number): number {
    const radius = Math.sqrt(-2 * Math.log(1 - this.uniform()));
    return median * Math.exp(sigma * radius * Math.cos(2 * Math.PI * this.uniform()));
  }
}
