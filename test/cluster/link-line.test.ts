import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { LinkLineReader, MAX_LINK_LINE_BYTES } from '../../src/cluster/link-auth.ts';
import { Dice } from '../support/dice.ts';

const bytesOf = (text: string): Buffer => Buffer.from(text, 'latin1');

/** The first line and what is behind it, fed in pieces that end at these places. */
function readCut(bytes: Uint8Array, places: readonly number[]): { line: string | null; rest: string } {
  const reader = new LinkLineReader();
  // Like the shared buffer: the next piece lies where the last one lay.
  const memory = Buffer.alloc(bytes.length);
  for (const [index, end] of [...places, bytes.length].entries()) {
    const start = places[index - 1] ?? 0;
    memory.fill(0x2e);
    memory.set(bytes.subarray(start, end));
    const read = reader.read(memory.subarray(0, end - start));
    if (read.kind === 'overlong') return { line: null, rest: '' };
    if (read.kind === 'line') {
      const rest = Buffer.concat([read.rest, bytes.subarray(end)]).toString('latin1');
      return { line: read.text, rest };
    }
  }
  return { line: null, rest: '' };
}

describe('a line of a greeting', () => {
  test('is the same in every split, with what is behind it', () => {
    const bytes = bytesOf('a line of some length\nbehind it\nand more');
    const whole = { line: 'a line of some length', rest: 'behind it\nand more' };
    for (let first = 0; first <= bytes.length; first += 1) {
      for (let second = first; second <= bytes.length; second += 1) {
        assert.deepEqual(readCut(bytes, [first, second]), whole, `cut at ${first} and ${second}`);
      }
    }
    const every = Array.from(bytes, (_, index) => index);
    assert.deepEqual(readCut(bytes, every), whole);
  });

  test('may have as many bytes as are allowed, and not one more, in any split', () => {
    const dice = new Dice(7);
    for (let round = 0; round < 300; round += 1) {
      const longest = 'x'.repeat(MAX_LINK_LINE_BYTES);
      const places = [dice.between(0, 150), dice.between(150, MAX_LINK_LINE_BYTES)];
      assert.deepEqual(readCut(bytesOf(`${longest}\n`), places), { line: longest, rest: '' });
      assert.deepEqual(readCut(bytesOf(`${longest}x\n`), places), { line: null, rest: '' });
    }
  });

  test('is given up as soon as it is too long, however much comes at once, and no more of it is looked at', () => {
    const reader = new LinkLineReader();
    assert.equal(reader.read(bytesOf('x'.repeat(MAX_LINK_LINE_BYTES))).kind, 'incomplete');
    const read = reader.read(Buffer.alloc(1_000_000, 'y'));
    assert.equal(read.kind, 'overlong');
    assert.equal(read.kind === 'overlong' && read.text.length, MAX_LINK_LINE_BYTES + 1);
  });

  test('has one character for each byte, whatever byte it is', () => {
    const bytes = Uint8Array.from({ length: 150 }, (_, index) => index + 106);
    const read = new LinkLineReader().read(Buffer.concat([bytes, bytesOf('\n')]));
    assert.equal(read.kind === 'line' && read.text, String.fromCharCode(...bytes));
  });

  test('is followed by the next one', () => {
    const reader = new LinkLineReader();
    assert.equal(reader.read(bytesOf('fir')).kind, 'incomplete');
    const first = reader.read(bytesOf('st\nsecond\n'));
    assert.equal(first.kind === 'line' && first.text, 'first');
    const second = reader.read(first.kind === 'line' ? first.rest : new Uint8Array());
    assert.equal(second.kind === 'line' && second.text, 'second');
  });
});
