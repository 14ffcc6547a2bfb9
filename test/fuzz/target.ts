import type { Dice } from '../support/dice.ts';

/** A parser of untrusted or operator input, with its expected behaviour. */
export interface Target {
  /** Pieces of the grammar, one character per byte. */
  readonly dictionary: Choices<string>;
  /** Generates a valid or nearly valid input of the grammar; one character per byte. */
  make(random: Dice): string;
  /** Throws on wrong behaviour. The same input and dice always give the same result. */
  check(input: Buffer, random: Dice): void;
}

/** Maximum bytes of an input: a little more than the longest header. */
export const MAX_INPUT_BYTES = 5000;

export type Choices<T> = readonly [T, ...T[]];

export function pick<T>(random: Dice, choices: Choices<T>): T {
  return choices[random.between(0, choices.length - 1)] ?? choices[0];
}

/** A random number of pieces, concatenated. */
export function many(random: Dice, least: number, count: number, make: () => string): string {
  return Array.from({ length: random.between(least, count) }, make).join('');
}

/** Inputs up to this many bytes are split at every position; for longer ones that would take too long. */
const BYTEWISE_UP_TO_BYTES = 400;

/** Positions to split an input in two, ascending: all, or both ends and random ones. */
export function cutsOf(input: Buffer, random: Dice): number[] {
  const all = Array.from({ length: input.length + 1 }, (_, at) => at);
  if (input.length <= BYTEWISE_UP_TO_BYTES) return all;
  const half = BYTEWISE_UP_TO_BYTES / 2;
  return all.filter((at) => at < half || at > input.length - half || random.happens(0.01));
}

/** One input in several splits: whole, single bytes, and random pieces. */
export function splitsOf(input: Buffer, random: Dice): Buffer[][] {
  const randomCuts = (count: number): number[] =>
    Array.from({ length: count }, () => random.between(0, input.length));
  return [[], cutsOf(input, random), randomCuts(1), randomCuts(3), randomCuts(8)].map((inner) => {
    const cuts = [0, ...inner.toSorted((a, b) => a - b), input.length];
    return cuts.slice(1).map((to, index) => input.subarray(cuts[index], to));
  });
}

/** Throws with both values if they differ. Both must be JSON-serialisable. */
export function expectSame(actual: unknown, expected: unknown, what: string): void {
  const [left, right] = [JSON.stringify(actual), JSON.stringify(expected)];
  if (left !== right) throw new Error(`${what}: ${left}, expected ${right}`);
}

export function expectTrue(condition: boolean, what: string): void {
  if (!condition) throw new Error(what);
}
