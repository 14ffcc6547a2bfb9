import { Dice } from '../support/dice.ts';

/** Pseudorandom numbers, the same for the same seed. */
export class Random {
  readonly #source: Dice;

  /** @param seed a whole number */
  constructor(seed: number) {
    this.#source = new Dice(seed);
  }

  /** At least 0 and less than 1. */
  uniform(): number {
    return this.#source.roll();
  }

  /** At least `min` and less than `max`. */
  between(min: number, max: number): number {
    return min + (max - min) * this.uniform();
  }

  /** A whole number from 0, less than `count`. */
  below(count: number): number {
    return Math.floor(this.uniform() * count);
  }

  /** From the exponential distribution with this mean. */
  exponential(mean: number): number {
    return -mean * Math.log(1 - this.uniform());
  }

  /** From the log-normal distribution: `sigma` is the standard deviation of the logarithm. */
  logNormal(median: number, sigma: number): number {
    const radius = Math.sqrt(-2 * Math.log(1 - this.uniform()));
    return median * Math.exp(sigma * radius * Math.cos(2 * Math.PI * this.uniform()));
  }
}
