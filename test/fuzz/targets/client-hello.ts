import { parseClientHello } from '../../../src/protocol/client-hello.ts';
import type { ClientHello } from '../../../src/protocol/client-hello.ts';
import type { Dice } from '../../support/dice.ts';
import { cutsOf, expectSame, many, pick } from '../target.ts';
import type { Choices, Target } from '../target.ts';

/** A number of up to three bytes, big-endian. */
function number(value: number, size: number): string {
  return Array.from({ length: size }, (_, at) =>
    String.fromCharCode((value >> (8 * (size - 1 - at))) & 0xff),
  ).join('');
}

/** Bytes after their length, which is wrong now and then. */
function vector(bytes: string, size: number, random: Dice | null = null): string {
  const error = random?.happens(0.02) === true ? pick(random, [-1, 1, 200]) : 0;
  return number(Math.max(0, bytes.length + error), size) + bytes;
}

const NAME_EXTENSION = '\0\0';
const PROTOCOLS_EXTENSION = '\0\x10';

const DICTIONARY: Choices<string> = [
  '\x16\x03\x01',
  '\x16\x03\x01\x10\x00',
  '\x16\x03\x01\x10\x01',
  '\x01\0\0',
  NAME_EXTENSION,
  PROTOCOLS_EXTENSION,
  'acme-tls/1',
  '\x0aacme-tls/1',
  'relay.example.org',
  '\xff',
  '\0',
  '\0'.repeat(34),
];

function makeExtension(random: Dice): string {
  const word = (): string =>
    pick(random, ['acme-tls/1', 'h2', '', 'Relay.Example.org', '\xe9', 'x'.repeat(255)]);
  const name = (): string => pick(random, ['\0', '\0', '\x01']) + vector(word(), 2, random);
  const content = {
    name: NAME_EXTENSION + vector(vector(many(random, 0, 2, name), 2, random), 2, random),
    protocols:
      PROTOCOLS_EXTENSION +
      vector(
        vector(
          many(random, 0, 3, () => vector(word(), 1, random)),
          2,
          random,
        ),
        2,
        random,
      ),
    other: number(random.between(0, 60), 2) + vector(word(), 2, random),
  };
  return content[pick<keyof typeof content>(random, ['name', 'protocols', 'other'])];
}

/** The next vector of a text and what follows it; null: the text is too short. */
function splitVector(text: string, size: number): readonly [content: string, rest: string] | null {
  const digits = Array.from({ length: size }, (_, at) => text.charCodeAt(at));
  const length = digits.reduce((sum, digit) => sum * 256 + digit, 0);
  const isWhole = text.length >= size + length;
  return isWhole ? [text.slice(size, size + length), text.slice(size + length)] : null;
}

/** All vectors of a text, each after a prefix; null: the last one is cut off. */
function splitAll(
  text: string,
  prefix: number,
  size: number,
): (readonly [prefix: string, content: string])[] | null {
  const found: (readonly [string, string])[] = [];
  for (let rest = text; rest !== '';) {
    const split = rest.length < prefix ? null : splitVector(rest.slice(prefix), size);
    if (split === null) return null;
    found.push([rest.slice(0, prefix), split[0]]);
    rest = split[1];
  }
  return found;
}

/** A second implementation of RFC 8446, sections 4.1.2 and 5.1, RFC 6066, section 3, and RFC 7301, section 3.1. */
function expected(text: string): ClientHello | 'incomplete' | 'other' {
  if (text !== '' && text[0] !== '\x16') return 'other';
  if (text.length < 5) return 'incomplete';
  const length = text.charCodeAt(3) * 256 + text.charCodeAt(4);
  if (length > 4096) return 'other';
  if (text.length < 5 + length) return 'incomplete';
  const record = text.slice(5, 5 + length);
  const [message] = record[0] === '\x01' ? (splitVector(record.slice(1), 3) ?? []) : [];
  return message === undefined || message.length < 34 ? 'other' : (helloIn(message.slice(34)) ?? 'other');
}

/** @param text from the session on */
function helloIn(text: string): ClientHello | null {
  let rest: string | undefined = text;
  for (const size of [1, 2, 1]) rest = rest === undefined ? undefined : splitVector(rest, size)?.[1];
  if (rest === undefined) return null;
  const [extensions] = rest === '' ? [''] : (splitVector(rest, 2) ?? []);
  const all = extensions === undefined ? null : splitAll(extensions, 2, 2);
  if (all === null) return null;
  let serverName: string | null = null;
  let protocols: string[] = [];
  for (const [type, content] of all) {
    if (type === NAME_EXTENSION) {
      const [list] = splitVector(content, 2) ?? [];
      const name = list === undefined ? undefined : firstHostName(list);
      if (name === undefined) return null;
      serverName = name;
    } else if (type === PROTOCOLS_EXTENSION) {
      const [list] = splitVector(content, 2) ?? [];
      const found = list === undefined ? null : splitAll(list, 0, 1);
      if (found === null) return null;
      protocols = found.map(([, protocol]) => protocol);
    }
  }
  return { serverName, protocols };
}

/** Names after the first host name are not read. Undefined: the list is cut off before it. */
function firstHostName(list: string): string | null | undefined {
  for (let rest = list; rest !== '';) {
    const split = splitVector(rest.slice(1), 2);
    if (split === null) return undefined;
    if (rest[0] === '\0') return split[0].toLowerCase();
    rest = split[1];
  }
  return null;
}

export const clientHello: Target = {
  dictionary: DICTIONARY,

  make(random) {
    const extensions = many(random, 0, 4, () => makeExtension(random));
    const fixed = '\x03\x03' + 'r'.repeat(random.happens(0.97) ? 32 : 31);
    const lists = vector('', 1, random) + vector('\x13\x01', 2, random) + vector('\0', 1, random);
    const end = random.happens(0.1) ? '' : vector(extensions, 2, random);
    const message = pick(random, ['\x01', '\x01', '\x01', '\x02']) + vector(fixed + lists + end, 3, random);
    return '\x16\x03\x01' + vector(message, 2, random) + many(random, 0, 1, () => pick(random, DICTIONARY));
  },

  check(input, random) {
    for (const cut of cutsOf(input, random)) {
      const start = input.subarray(0, cut);
      expectSame(parseClientHello(start), expected(start.toString('latin1')), `the first ${cut} bytes`);
    }
  },
};
