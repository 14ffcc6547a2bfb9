import type { Dice } from '../support/dice.ts';
import { MAX_INPUT_BYTES, pick } from './target.ts';
import type { Choices } from './target.ts';

/** Bytes at which grammars and length fields change their meaning. */
const SPECIAL_BYTES: Choices<number> = [
  0, 1, 3, 4, 7, 8, 9, 10, 11, 12, 13, 15, 16, 32, 47, 48, 57, 58, 64, 65, 90, 91, 94, 95, 96, 97, 122, 123,
  124, 125, 126, 127, 128, 129, 130, 136, 137, 138, 252, 253, 254, 255,
];

interface Sources {
  readonly corpus: Choices<Buffer>;
  readonly dictionary: Choices<Buffer>;
}

type Mutation = (input: Buffer, random: Dice, sources: Sources) => Buffer;

/** Replaces bytes at a position. */
function replace(input: Buffer, at: number, removed: number, added: Uint8Array): Buffer {
  return Buffer.concat([input.subarray(0, at), added, input.subarray(at + removed)]);
}

/** Often at the end, because parsers read from left to right. */
const randomOffset = (input: Buffer, random: Dice): number =>
  random.happens(0.25) ? input.length : random.between(0, input.length);

/** Anywhere, but mostly short. */
const randomPart = (input: Buffer, random: Dice): Buffer => {
  const at = randomOffset(input, random);
  return input.subarray(at, at + random.size(Math.max(1, input.length)));
};

const MUTATIONS: Choices<Mutation> = [
  (input, random) => replace(input, randomOffset(input, random), 1, Buffer.of(pick(random, SPECIAL_BYTES))),
  (input, random) => replace(input, randomOffset(input, random), 0, Buffer.of(pick(random, SPECIAL_BYTES))),
  (input, random) => {
    const at = randomOffset(input, random);
    return replace(input, at, 1, Buffer.of((input[at] ?? 0) ^ (1 << random.between(0, 7))));
  },
  (input, random) => {
    const at = randomOffset(input, random);
    return replace(input, at, 1, Buffer.of((input[at] ?? 0) + random.between(-3, 3)));
  },
  (input, random) =>
    replace(input, randomOffset(input, random), random.between(0, 1), Buffer.of(random.between(0, 255))),
  (input, random) => replace(input, randomOffset(input, random), random.size(16), Buffer.alloc(0)),
  (input, random) => input.subarray(0, randomOffset(input, random)),
  // A copy of its own bytes at another position.
  (input, random) => replace(input, randomOffset(input, random), 0, randomPart(input, random)),
  (input, random) =>
    replace(
      input,
      randomOffset(input, random),
      0,
      Buffer.alloc(random.size(1500), randomPart(input, random)[0] ?? 0),
    ),
  (input, random, { dictionary }) => replace(input, randomOffset(input, random), 0, pick(random, dictionary)),
  (input, random, { dictionary }) => {
    const token = pick(random, dictionary);
    return replace(input, randomOffset(input, random), token.length, token);
  },
  (input, random, { corpus }) => {
    const other = pick(random, corpus);
    return Buffer.concat([
      input.subarray(0, randomOffset(input, random)),
      other.subarray(randomOffset(other, random)),
    ]);
  },
  (input, random, { corpus }) =>
    replace(input, randomOffset(input, random), 0, randomPart(pick(random, corpus), random)),
];

/** A mutation of an input by a few changes. */
export function mutate(input: Buffer, random: Dice, sources: Sources): Buffer {
  let mutated = input;
  for (let remaining = random.size(6); remaining > 0; remaining -= 1)
    mutated = pick(random, MUTATIONS)(mutated, random, sources);
  return mutated.subarray(0, MAX_INPUT_BYTES);
}
