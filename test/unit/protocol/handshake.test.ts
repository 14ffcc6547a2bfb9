import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import * as fc from 'fast-check';
import {
  SIDED_LINE_BYTES,
  UNSIDED_LINE_BYTES,
  parseHandshake,
  isHandshakePrefix,
} from '../../../src/protocol/handshake.ts';

const TOKEN = '0123456789abcdef'.repeat(4);
const SIDE = 'fedcba9876543210';
const UNSIDED = `please relay ${TOKEN}\n`;
const SIDED = `please relay ${TOKEN} for side ${SIDE}\n`;

/** The grammar of wire.md as a regular expression. Without the `u` and `i` flags, `\w` is ASCII. */
const GOOD_LINE = /^please relay (\w{64})(?: for side (\w{16}))?\n/;

const WORD_CHARACTERS = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz'.split('');
const word = (length: number): fc.Arbitrary<string> =>
  fc.string({ unit: fc.constantFrom(...WORD_CHARACTERS), minLength: length, maxLength: length });
const goodLine = fc
  .record({ token: word(64), side: fc.option(word(16)) })
  .map(({ token, side }) => `please relay ${token}${side === null ? '' : ` for side ${side}`}\n`);

interface Reading {
  readonly kind: string;
  readonly token?: string;
  readonly side?: string | null;
  readonly rest?: string;
}

/** Parses a string of bytes (one character each), and returns the rest as such a string. */
function read(text: string): Reading {
  const handshake = parseHandshake(Buffer.from(text, 'latin1'));
  if (handshake.kind !== 'relay') return handshake;
  return { ...handshake, rest: Buffer.from(handshake.rest).toString('latin1') };
}

/** The result according to wire.md, for bytes without an overlong line. */
function expected(text: string): Reading {
  if (!text.includes('\n')) return { kind: 'incomplete' };
  const found = GOOD_LINE.exec(text);
  if (found === null) return { kind: 'bad' };
  const [line, token = '', side = null] = found;
  return { kind: 'relay', token, side, rest: text.slice(line.length) };
}

describe('a valid line', () => {
  test('without a side names its token', () => {
    assert.deepEqual(read(UNSIDED), { kind: 'relay', token: TOKEN, side: null, rest: '' });
  });

  test('with a side names both', () => {
    assert.deepEqual(read(SIDED), { kind: 'relay', token: TOKEN, side: SIDE, rest: '' });
  });

  test('leaves the bytes after it in the same segment unchanged', () => {
    const rest = '\n\0\xff payload \r\n please relay ';
    assert.equal(read(UNSIDED + rest).rest, rest);
    assert.equal(read(SIDED + rest).rest, rest);
  });

  test('may have many bytes after it', () => {
    assert.equal(read(SIDED + 'x'.repeat(100_000)).rest?.length, 100_000);
  });

  test('may contain upper case and underscores, which are preserved', () => {
    const token = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz_0123456789';
    assert.equal(token.length, 64);
    assert.deepEqual(read(`please relay ${token} for side _A_z_0_Z_9________\n`), { kind: 'bad' });
    assert.deepEqual(read(`please relay ${token} for side _A_z_0_Z_9______\n`), {
      kind: 'relay',
      token,
      side: '_A_z_0_Z_9______',
      rest: '',
    });
  });

  test('has the length of the constants', () => {
    assert.equal(UNSIDED_LINE_BYTES, UNSIDED.length - 1);
    assert.equal(SIDED_LINE_BYTES, SIDED.length - 1);
  });

  for (const line of [UNSIDED, SIDED]) {
    test(`of ${line.length} bytes is incomplete at every cut before its newline`, () => {
      for (let cut = 0; cut < line.length; cut += 1) {
        assert.deepEqual(read(line.slice(0, cut)), { kind: 'incomplete' }, `after ${cut} bytes`);
      }
      assert.equal(read(line).kind, 'relay');
    });
  }
});

describe('a bad line', () => {
  const cases: readonly (readonly [why: string, line: string])[] = [
    ['is empty', '\n'],
    ['has a carriage return after the token', `please relay ${TOKEN}\r\n`],
    ['has a carriage return after the side', `please relay ${TOKEN} for side ${SIDE}\r\n`],
    ['is a lone carriage return', '\r\n'],
    ['has a leading space', ` ${UNSIDED}`],
    ['has a leading newline', `\n${UNSIDED}`],
    ['has a trailing space after the token', `please relay ${TOKEN} \n`],
    ['has a trailing space after the side', `please relay ${TOKEN} for side ${SIDE} \n`],
    ['has two spaces before the token', `please relay  ${TOKEN}\n`],
    ['has a tab instead of a space', `please\trelay ${TOKEN}\n`],
    ['has a token of 63 characters', `please relay ${TOKEN.slice(1)}\n`],
    ['has a token of 65 characters', `please relay ${TOKEN}0\n`],
    ['has a token of 63 characters and a side', `please relay ${TOKEN.slice(1)} for side ${SIDE}\n`],
    ['has a token of 65 characters and a side', `please relay ${TOKEN}0 for side ${SIDE}\n`],
    ['has a side of 15 characters', `please relay ${TOKEN} for side ${SIDE.slice(1)}\n`],
    ['has a side of 17 characters', `please relay ${TOKEN} for side ${SIDE}0\n`],
    ['has an empty side', `please relay ${TOKEN} for side \n`],
    ['ends after "for side"', `please relay ${TOKEN} for side\n`],
    ['ends after "please relay "', 'please relay \n'],
    ['has a hyphen in the token', `please relay -${TOKEN.slice(1)}\n`],
    ['has a hyphen in the side', `please relay ${TOKEN} for side -${SIDE.slice(1)}\n`],
    ['has a space in the token', `please relay ${TOKEN.slice(1)} \n`],
    ['has a zero byte in the token', `please relay \0${TOKEN.slice(1)}\n`],
    ['has a letter that is not ASCII in the token', `please relay \xe9${TOKEN.slice(1)}\n`],
    ['has a letter that is not ASCII in the side', `please relay ${TOKEN} for side \xe9${SIDE.slice(1)}\n`],
    ['is upper case', `PLEASE RELAY ${TOKEN}\n`],
    ['has other words', `kindly relay ${TOKEN}\n`],
    ['has other words of the right length before the side', `please relay ${TOKEN} for sidE ${SIDE}\n`],
    ['is HTTP', 'GET / HTTP/1.1\r\n'],
  ];
  for (const [why, line] of cases) {
    test(`is a line that ${why}`, () => {
      assert.deepEqual(read(line), { kind: 'bad' });
      assert.deepEqual(
        read(`${line}${UNSIDED}`),
        { kind: 'bad' },
        'a valid line after it does not change the result',
      );
    });
  }

  test('is found at every position of the token and the side', () => {
    const neighbours = ['/', ':', '@', '[', '`', '{', '^', '\x7f', '\x80', '\xff'];
    for (let at = 0; at < SIDED.length - 1; at += 1) {
      for (const wrong of neighbours) {
        assert.equal(read(SIDED.slice(0, at) + wrong + SIDED.slice(at + 1)).kind, 'bad', `${wrong} at ${at}`);
      }
    }
  });

  test('is not rejected before its newline', () => {
    assert.deepEqual(read('GET / HTTP/1.1\r'), { kind: 'incomplete' });
  });
});

describe('the length of a line', () => {
  test('may be 1024 bytes: the line is bad, not overlong', () => {
    assert.deepEqual(read(`${'x'.repeat(1024)}\n`), { kind: 'bad' });
    assert.deepEqual(read(`${UNSIDED.slice(0, -1)}${'0'.repeat(1024 - UNSIDED_LINE_BYTES)}\n`), {
      kind: 'bad',
    });
  });

  test('may not be 1025 bytes', () => {
    assert.deepEqual(read(`${'x'.repeat(1025)}\n`), { kind: 'overlong' });
    assert.deepEqual(read(`${'x'.repeat(5000)}\n`), { kind: 'overlong' });
  });

  test('is unknown up to 1024 bytes without a newline', () => {
    assert.deepEqual(read(''), { kind: 'incomplete' });
    assert.deepEqual(read('x'.repeat(1023)), { kind: 'incomplete' });
    assert.deepEqual(read('x'.repeat(1024)), { kind: 'incomplete' });
  });

  test('is too large from 1025 bytes without a newline', () => {
    assert.deepEqual(read('x'.repeat(1025)), { kind: 'overlong' });
    assert.deepEqual(read('x'.repeat(1026)), { kind: 'overlong' });
    assert.deepEqual(read('x'.repeat(100_000)), { kind: 'overlong' });
  });

  test('counts up to the first newline only', () => {
    assert.deepEqual(read(`x\n${'x'.repeat(5000)}`), { kind: 'bad' });
  });
});

describe('any bytes', () => {
  test('are incomplete before the newline of a valid line, and a handshake from there on', () => {
    fc.assert(
      fc.property(
        goodLine,
        fc.uint8Array({ maxLength: 40 }),
        fc.nat({ max: SIDED_LINE_BYTES }),
        (line, after, at) => {
          const cut = Math.min(at, line.length - 1);
          assert.deepEqual(read(line.slice(0, cut)), { kind: 'incomplete' });
          const text = line + Buffer.from(after).toString('latin1');
          const whole = read(text);
          assert.equal(whole.kind, 'relay');
          assert.deepEqual(whole, expected(text));
        },
      ),
    );
  });

  test('never make the parser throw', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 2000, size: 'max' }), (bytes) => {
        parseHandshake(bytes);
        isHandshakePrefix(bytes);
      }),
    );
  });

  test('are accepted if and only if the grammar of wire.md accepts them', () => {
    const edit = fc.record({
      at: fc.nat({ max: SIDED_LINE_BYTES + 1 }),
      removed: fc.nat({ max: 2 }),
      added: fc.string({
        unit: fc.oneof(
          fc.constantFrom('\n', '\r', ' ', '_', '-', 'a', 'Z', '9'),
          fc.nat({ max: 255 }).map((byte) => String.fromCharCode(byte)),
        ),
        maxLength: 2,
      }),
    });
    const nearMiss = fc
      .tuple(goodLine, fc.array(edit, { maxLength: 2 }))
      .map(([line, edits]) =>
        edits.reduce(
          (text, { at, removed, added }) => text.slice(0, at) + added + text.slice(at + removed),
          line,
        ),
      );
    fc.assert(
      fc.property(nearMiss, (text) => assert.deepEqual(read(text), expected(text))),
      { numRuns: 2000 },
    );
  });
});

describe('the beginning of a line', () => {
  test('is a prefix of a valid line at every cut', () => {
    for (let cut = 0; cut < SIDED.length; cut += 1) {
      assert.equal(isHandshakePrefix(Buffer.from(SIDED.slice(0, cut))), true, `after ${cut} bytes`);
    }
  });

  test('is not a prefix if a byte is wrong', () => {
    for (let at = 0; at < SIDED_LINE_BYTES; at += 1) {
      assert.equal(isHandshakePrefix(Buffer.from(`${SIDED.slice(0, at)}-`)), false, `wrong at ${at}`);
    }
  });

  test('is not a prefix if it is longer than a line with a side', () => {
    assert.equal(isHandshakePrefix(Buffer.from(`${SIDED.slice(0, -1)}0`)), false);
  });
});
