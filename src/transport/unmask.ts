import { endianness } from 'node:os';
import bufferUtil from 'bufferutil';
import slowBufferUtil from 'bufferutil/fallback.js';
import type { Unmask } from '../protocol/websocket-frames.ts';

/** Length in bytes from which the set-up of word-wise unmasking pays off. */
const WORDWISE_MIN_BYTES = 64;

/**
 * In JavaScript, for platforms without a binary of bufferutil: moves the bytes, then unmasks them word by
 * word.
 */
export const unmaskJs: Unmask = (source, key, output, offset, length) => {
  output.set(source, offset);
  unmaskInPlace(output, key, offset, offset + length);
};

function unmaskInPlace(bytes: Uint8Array, key: Uint8Array, start: number, end: number): void {
  let at = start;
  const firstWord = start + ((4 - ((bytes.byteOffset + start) % 4)) % 4);
  if (end - start >= WORDWISE_MIN_BYTES && endianness() === 'LE') {
    for (; at < firstWord; at += 1) bytes[at] = (bytes[at] ?? 0) ^ (key[(at - start) % 4] ?? 0);
    const rotatedKey = Uint8Array.from({ length: 4 }, (_, index) => key[(at - start + index) % 4] ?? 0);
    const [mask = 0] = new Int32Array(rotatedKey.buffer);
    const words = new Int32Array(bytes.buffer, bytes.byteOffset + at, Math.floor((end - at) / 4));
    for (let index = 0; index < words.length; index += 1) words[index] = (words[index] ?? 0) ^ mask;
    at += words.length * 4;
  }
  for (; at < end; at += 1) bytes[at] = (bytes[at] ?? 0) ^ (key[(at - start) % 4] ?? 0);
}

const { mask: nativeMask } = bufferUtil;

/** True if bufferutil has a native binary. Its JavaScript fallback is slower than `unmaskJs`. */
export const hasNativeUnmask = nativeMask !== slowBufferUtil.mask;

/** The fastest implementation on this platform. */
export const unmask: Unmask = hasNativeUnmask ? nativeMask : unmaskJs;
