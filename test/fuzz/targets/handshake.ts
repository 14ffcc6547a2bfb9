import { parseHandshake, isHandshakePrefix } from '../../../src/protocol/handshake.ts';
import type { Dice } from '../../support/dice.ts';
import { cutsOf, expectSame, many, pick } from '../target.ts';
import type { Choices, Target } from '../target.ts';

const TOKEN = '0123456789abcdefghijklmnopqrstuvwxyz_ABCDEFGHIJKLMNOPQRSTUVWXYZ_';
const SIDE = 'fedcba9876543210';
const SIDED = `please relay ${TOKEN} for side ${SIDE}`;

/** Pieces of valid and nearly valid lines. */
export const LINE_TOKENS: Choices<string> = [
  'please relay ',
  ' for side ',
  TOKEN,
  SIDE,
  '\n',
  '\r\n',
  '_',
  '0',
  'z',
  'x'.repeat(1024),
  `please relay ${TOKEN}\n`,
  `${SIDED}\n`,
];

/** A line that is valid, or slightly too long or too short somewhere. */
export function makeLine(random: Dice): string {
  const word = (length: number): string =>
    many(random, length, length, () => pick(random, ['a', 'z', 'A', 'Z', '0', '9', '_'])) +
    (random.happens(0.05) ? pick(random, ['a', '-', ' ', '\n', '\xe9']) : '');
  const side = random.happens(0.6) ? ` for side ${word(random.happens(0.9) ? 16 : 15)}` : '';
  return `please relay ${word(random.happens(0.9) ? 64 : 63)}${side}`;
}

/** A second implementation of the grammar in wire.md. Without the `u` and `i` flags `\w` is ASCII. */
function expected(text: string): unknown {
  const newline = text.indexOf('\n');
  if (newline < 0) return { kind: text.length > 1024 ? 'overlong' : 'incomplete' };
  if (newline > 1024) return { kind: 'overlong' };
  const found = /^please relay (\w{64})(?: for side (\w{16}))?\n/.exec(text);
  if (found === null) return { kind: 'bad' };
  const [line, token, side = null] = found;
  return { kind: 'relay', token, side, rest: text.slice(line.length) };
}

function parse(bytes: Buffer): unknown {
  const handshake = parseHandshake(bytes);
  if (handshake.kind !== 'relay') return { kind: handshake.kind };
  const { kind, token, side, rest } = handshake;
  return { kind, token, side, rest: Buffer.from(rest).toString('latin1') };
}

/** Whether a text without a newline is a prefix of a valid line in the grammar. */
export function canBecomeLine(text: string): boolean {
  return /^please relay \w{64}(?: for side \w{16})?$/.test(text + SIDED.slice(text.length));
}

export const handshake: Target = {
  dictionary: LINE_TOKENS,

  make(random) {
    const line = makeLine(random);
    // Mostly unchanged; otherwise padded to the length of the longest line, or a little more.
    const end = random.happens(0.8)
      ? pick(random, ['', '\r', ' '])
      : 'x'.repeat(random.between(1022, 1027) - line.length);
    return (
      line + end + pick(random, ['\n', '\n', '\n', '']) + many(random, 0, 2, () => pick(random, LINE_TOKENS))
    );
  },

  check(input, random) {
    for (const cut of cutsOf(input, random)) {
      const start = input.subarray(0, cut);
      const text = start.toString('latin1');
      expectSame(parse(start), expected(text), `the first ${cut} bytes`);
      if (text.includes('\n')) continue;
      expectSame(isHandshakePrefix(start), canBecomeLine(text), `the beginning of ${cut} bytes`);
    }
  },
};
