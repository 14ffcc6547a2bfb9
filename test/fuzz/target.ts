import type { Dice } from '../support/dice.ts';

/** A parser of untrusted or operator input, with its expected behaviour. */
export interface Target {
  /** Pieces of the grammar, one character per byte. */
  readonly dictionary: Choices<string>;
  /** Generates a valid or nearly valid input of the grammar; one character per byte. */
  make(dice: Dice): string;
  /** Throws on wrong behaviour. The same input and dice always give the same result. */
  check(input: Buffer, dice: Dice): void;
}

/** Maximum bytes of an input: a little more than the longest header. */
export const MAX_INPUT_BYTES = 5000;

export type Choices<T> = readonly [T, ...T[]];

export function pick<T>(dice: Dice, choices: Choices<T>): T {
  return choices[dice.between(0, choices.length - 1)] ?? choices[0];
}

/** A random number of pieces, concatenated. */
export function many(dice: Dice, least: number, most: number, make: () => string): string {
  return Array.from({ length: dice.between(least, most) }, make).join('');
}

/** Inputs up to this many bytes are split at every position; for longer ones that would take too long. */
const BYTEWISE_UP_TO_BYTES = 400;

/** Positions to split an input in two, ascending: all, or both ends and random ones. */
export function cutsOf(input: Buffer, dice: Dice): number[] {
  const all = Array.from({ length: input.length + 1 }, (_, at) => at);
  if (input.length <= BYTEWISE_UP_TO_BYTES) return all;
  const half = BYTEWISE_UP_TO_BYTES / 2;
  return all.filter((at) => at < half || at > input.length - half || dice.happens(0.01));
}

/** One input in several splits: whole, single bytes, and random pieces. */
export function splitsOf(input: Buffer, dice: Dice): Buffer[][] {
  const random = (most: number): number[] =>
    Array.from({ length: most }, () => dice.between(0, input.length));
  return [[], cutsOf(input, dice), random(1), random(3), random(8)].map((places) => {
    const cuts = [0, ...places.toSorted((a, b) => a - b), input.length];
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
