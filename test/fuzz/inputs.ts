import * as fc from 'fast-check';
import { Dice } from '../support/dice.ts';
import { MAX_INPUT_BYTES } from './target.ts';
import type { Target } from './target.ts';

type Edit = (input: Buffer) => Buffer;

const NOTHING = Buffer.alloc(0);

/** Bytes of one value, longer than every limit of a line. */
const MAX_FILLER_BYTES = 1500;

/**
 * Inputs for a target: from its grammar, from pieces of its dictionary, and stored ones, most of them with a
 * few edits.
 */
export function inputsOf(target: Target, stored: readonly Buffer[]): fc.Arbitrary<Buffer> {
  // A smaller seed is not a smaller input.
  const fromGrammar = fc
    .noShrink(fc.noBias(fc.nat(2 ** 31 - 1)))
    .map((seed) => toBytes(target.make(new Dice(seed))));
  const piece = pieceOf(target);
  const pieces = fc.array(piece, { minLength: 1, maxLength: 10 }).map((parts) => Buffer.concat(parts));
  const bases = stored.length === 0 ? [] : [fc.constantFrom(...stored)];
  const edit = editOf(piece);
  const edits = fc.oneof(
    edit.map((one) => [one]),
    fc.array(edit, { minLength: 2, maxLength: 6 }),
  );
  const edited = fc
    .tuple(fc.oneof(fromGrammar, pieces, ...bases), edits)
    .map(([base, changes]) => changes.reduce((input, change) => change(input), base));
  return fc
    .oneof(
      { arbitrary: edited, weight: 6 },
      { arbitrary: fromGrammar, weight: 3 },
      { arbitrary: pieces, weight: 1 },
    )
    .map((input) => input.subarray(0, MAX_INPUT_BYTES));
}

function pieceOf({ dictionary }: Target): fc.Arbitrary<Buffer> {
  const characters = [...new Set(dictionary.join(''))];
  const filler = fc.tuple(fc.integer({ min: 1, max: MAX_FILLER_BYTES }), fc.nat(255));
  return fc.oneof(
    { arbitrary: fc.constantFrom(...dictionary).map(toBytes), weight: 4 },
    { arbitrary: fc.constantFrom(...characters).map(toBytes), weight: 2 },
    {
      arbitrary: fc.uint8Array({ minLength: 1, maxLength: 4 }).map((bytes) => Buffer.from(bytes)),
      weight: 2,
    },
    { arbitrary: filler.map(([length, byte]) => Buffer.alloc(length, byte)), weight: 1 },
  );
}

function editOf(piece: fc.Arbitrary<Buffer>): fc.Arbitrary<Edit> {
  const length = fc.integer({ min: 1, max: 16 });
  const difference = fc.integer({ min: -3, max: 3 });
  return fc.oneof(
    editAt(piece, (input, at, added) => splice(input, at, 0, added)),
    editAt(piece, (input, at, added) => splice(input, at, added.length, added)),
    editAt(length, (input, at, removed) => splice(input, at, removed, NOTHING)),
    editAt(length, (input, at, copied) => splice(input, at, 0, input.subarray(at, at + copied))),
    editAt(length, (input, at, count) => splice(input, at, 0, Buffer.alloc(count, input[at]))),
    editAt(fc.nat(7), (input, at, bit) => splice(input, at, 1, [(input[at] ?? 0) ^ (1 << bit)])),
    editAt(difference, (input, at, added) => splice(input, at, 1, [(input[at] ?? 0) + added])),
    editAt(fc.constant(null), (input, at) => input.subarray(0, at)),
  );
}

/** A change at any offset; often at the end, because parsers read from left to right. */
function editAt<T>(
  values: fc.Arbitrary<T>,
  change: (input: Buffer, at: number, value: T) => Buffer,
): fc.Arbitrary<Edit> {
  const part = fc.oneof(
    { arbitrary: fc.noBias(fc.nat(2 ** 16)).map((number) => number / 2 ** 16), weight: 3 },
    { arbitrary: fc.constant(1), weight: 1 },
  );
  return fc.tuple(values, part).map(
    ([value, of]) =>
      (input) =>
        change(input, Math.floor(of * input.length), value),
  );
}

function splice(input: Buffer, at: number, removed: number, added: Uint8Array | readonly number[]): Buffer {
  return Buffer.concat([input.subarray(0, at), Uint8Array.from(added), input.subarray(at + removed)]);
}

function toBytes(text: string): Buffer {
  return Buffer.from(text, 'latin1');
}
