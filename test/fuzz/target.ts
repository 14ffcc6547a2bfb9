import type { Dice } from '../support/dice.ts';

/** Something that reads what strangers or operators write, with all that is known of what it has to do. */
export interface Target {
  /** Pieces of the grammar, a character a byte. */
  readonly dictionary: Choices<string>;
  /** Makes an input of the grammar, good or nearly so; a character a byte. */
  make(dice: Dice): string;
  /** Throws where something is wrong. The same input and the same dice do the same. */
  check(input: Buffer, dice: Dice): void;
}

/** No input is longer, in bytes: a little more than the longest header that is read. */
export const MAX_INPUT_BYTES = 5000;

export type Choices<T> = readonly [T, ...T[]];

export function pick<T>(dice: Dice, choices: Choices<T>): T {
  return choices[dice.between(0, choices.length - 1)] ?? choices[0];
}

/** As many as the dice say, one behind the other. */
export function many(dice: Dice, least: number, most: number, make: () => string): string {
  return Array.from({ length: dice.between(least, most) }, make).join('');
}

/** Inputs up to this many bytes are taken byte by byte; of longer ones, every place would take too long. */
const BYTEWISE_UP_TO_BYTES = 400;

/** Where to cut an input in two, in ascending order: everywhere, or at both ends and at random. */
export function cutsOf(input: Buffer, dice: Dice): number[] {
  const all = Array.from({ length: input.length + 1 }, (_, at) => at);
  if (input.length <= BYTEWISE_UP_TO_BYTES) return all;
  const half = BYTEWISE_UP_TO_BYTES / 2;
  return all.filter((at) => at < half || at > input.length - half || dice.happens(0.01));
}

/** One input in several splits: whole, byte by byte, and at random places. */
export function splitsOf(input: Buffer, dice: Dice): Buffer[][] {
  const random = (most: number): number[] =>
    Array.from({ length: most }, () => dice.between(0, input.length));
  return [[], cutsOf(input, dice), random(1), random(3), random(8)].map((places) => {
    const cuts = [0, ...places.toSorted((a, b) => a - b), input.length];
    return cuts.slice(1).map((to, index) => input.subarray(cuts[index], to));
  });
}

/** Throws with both sides where they differ. Both have to survive JSON. */
export function expectSame(actual: unknown, expected: unknown, what: string): void {
  const [left, right] = [JSON.stringify(actual), JSON.stringify(expected)];
  if (left !== right) throw new Error(`${what}: ${left}, and not ${right}`);
}

export function expectTrue(condition: boolean, what: string): void {
  if (!condition) throw new Error(what);
}
