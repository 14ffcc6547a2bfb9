import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { hasNativeUnmask, unmask, unmaskJs } from '../../src/transport/unmask.ts';
import type { Unmask } from '../../src/protocol/websocket-frames.ts';
import { randomBytesOf } from '../support/bytes.ts';

const KEY = Uint8Array.of(0x37, 0xfa, 0x21, 0x80);
const LARGE = [4095, 65_536, 1_048_573];

/** Bytes after the output, which detect a write past its end. */
const MARGIN = 8;

const random = randomBytesOf(30, 1_048_573);
const unmasked = random.map((byte, index) => byte ^ (KEY[index % 4] ?? 0));

/** Allocates memory that starts at an address with this alignment. */
function memoryAt(alignment: number, length: number): Buffer {
  return Buffer.from(new ArrayBuffer(alignment + length), alignment);
}

/** Unmasks from memory with one alignment to memory with another. */
function checkCopy(implementation: Unmask, from: number, to: number, length: number): void {
  const source = memoryAt(from, length);
  random.copy(source, 0, 0, length);
  const output = memoryAt(0, to + length + MARGIN);
  implementation(source, KEY, output, to, length);
  const message = `${length} bytes from ${from} to ${to}`;
  assert.ok(output.subarray(to, to + length).equals(unmasked.subarray(0, length)), message);
  assert.ok(source.equals(random.subarray(0, length)), `${message}: the source has changed`);
  assert.ok(
    output.subarray(0, to).every((byte) => byte === 0) && !output.subarray(-MARGIN).some(Boolean),
    message,
  );
}

/** Unmasks within one buffer that starts at `alignment`, to a position `distance` bytes to the left. */
function checkMove(implementation: Unmask, alignment: number, distance: number, length: number): void {
  const memory = memoryAt(alignment, distance + length + MARGIN);
  random.copy(memory, distance, 0, length);
  implementation(memory.subarray(distance, distance + length), KEY, memory, 0, length);
  const message = `${length} bytes at ${alignment}, ${distance} to the left`;
  assert.ok(memory.subarray(0, length).equals(unmasked.subarray(0, length)), message);
  assert.ok(!memory.subarray(-MARGIN).some(Boolean), message);
}

const IMPLEMENTATIONS: readonly (readonly [string, Unmask])[] = [
  ['native code', unmask],
  ['JavaScript', unmaskJs],
];

for (const [name, implementation] of IMPLEMENTATIONS) {
  describe(`unmasking in ${name}`, { skip: implementation === unmask && !hasNativeUnmask }, () => {
    test('gives the result of a loop over the bytes, for every alignment', () => {
      for (let from = 0; from < 16; from += 1) {
        for (let to = 0; to < 16; to += 1) {
          for (let length = 0; length <= 200; length += 1) checkCopy(implementation, from, to, length);
        }
      }
      for (const length of LARGE) {
        for (let from = 0; from < 4; from += 1) {
          for (let to = 0; to < 4; to += 1) checkCopy(implementation, from, to, length);
        }
      }
    });

    test('works in place with overlapping memory', () => {
      for (let alignment = 0; alignment < 16; alignment += 1) {
        for (let distance = 0; distance <= 20; distance += 1) {
          for (let length = 0; length <= 200; length += 1)
            checkMove(implementation, alignment, distance, length);
        }
      }
      for (const length of LARGE) {
        for (const distance of [0, 1, 2, 4, 6, 8, 14, 1000]) checkMove(implementation, 3, distance, length);
      }
    });
  });
}
