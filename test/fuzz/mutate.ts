import type { Dice } from '../support/dice.ts';
import { MAX_INPUT_BYTES, pick } from './target.ts';
import type { Choices } from './target.ts';

/** Bytes at which grammars and length fields change their meaning. */
const TELLING_BYTES: Choices<number> = [
  0, 1, 3, 4, 7, 8, 9, 10, 11, 12, 13, 15, 16, 32, 47, 48, 57, 58, 64, 65, 90, 91, 94, 95, 96, 97, 122, 123,
  124, 125, 126, 127, 128, 129, 130, 136, 137, 138, 252, 253, 254, 255,
];

interface Sources {
  readonly corpus: Choices<Buffer>;
  readonly dictionary: Choices<Buffer>;
}

type Mutation = (input: Buffer, dice: Dice, sources: Sources) => Buffer;

/** Replaces bytes at a position. */
function replace(input: Buffer, at: number, removed: number, added: Uint8Array): Buffer {
  return Buffer.concat([input.subarray(0, at), added, input.subarray(at + removed)]);
}

/** Often at the end, because parsers read from left to right. */
const place = (input: Buffer, dice: Dice): number =>
  dice.happens(0.25) ? input.length : dice.between(0, input.length);

/** Anywhere, but mostly short. */
const span = (input: Buffer, dice: Dice): Buffer => {
  const at = place(input, dice);
  return input.subarray(at, at + dice.size(Math.max(1, input.length)));
};

const MUTATIONS: Choices<Mutation> = [
  (input, dice) => replace(input, place(input, dice), 1, Buffer.of(pick(dice, TELLING_BYTES))),
  (input, dice) => replace(input, place(input, dice), 0, Buffer.of(pick(dice, TELLING_BYTES))),
  (input, dice) => {
    const at = place(input, dice);
    return replace(input, at, 1, Buffer.of((input[at] ?? 0) ^ (1 << dice.between(0, 7))));
  },
  (input, dice) => {
    const at = place(input, dice);
    return replace(input, at, 1, Buffer.of((input[at] ?? 0) + dice.between(-3, 3)));
  },
  (input, dice) => replace(input, place(input, dice), dice.between(0, 1), Buffer.of(dice.between(0, 255))),
  (input, dice) => replace(input, place(input, dice), dice.size(16), Buffer.alloc(0)),
  (input, dice) => input.subarray(0, place(input, dice)),
  // A copy of its own bytes at another position.
  (input, dice) => replace(input, place(input, dice), 0, span(input, dice)),
  (input, dice) =>
    replace(input, place(input, dice), 0, Buffer.alloc(dice.size(1500), span(input, dice)[0] ?? 0)),
  (input, dice, { dictionary }) => replace(input, place(input, dice), 0, pick(dice, dictionary)),
  (input, dice, { dictionary }) => {
    const token = pick(dice, dictionary);
    return replace(input, place(input, dice), token.length, token);
  },
  (input, dice, { corpus }) => {
    const other = pick(dice, corpus);
    return Buffer.concat([input.subarray(0, place(input, dice)), other.subarray(place(other, dice))]);
  },
  (input, dice, { corpus }) => replace(input, place(input, dice), 0, span(pick(dice, corpus), dice)),
];

/** A mutation of an input by a few changes. */
export function mutate(input: Buffer, dice: Dice, sources: Sources): Buffer {
  let mutated = input;
  for (let left = dice.size(6); left > 0; left -= 1) mutated = pick(dice, MUTATIONS)(mutated, dice, sources);
  return mutated.subarray(0, MAX_INPUT_BYTES);
}
