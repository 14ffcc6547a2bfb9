import { createCipheriv } from 'node:crypto';

/** Pseudo-random bytes, the same for the same seed. */
export function randomBytesOf(seed: number, length: number): Buffer {
  const key = Buffer.alloc(16);
  key.writeUInt32LE(seed);
  return createCipheriv('aes-128-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(length));
}

let tokens = 0;

/** A token that is unique in this process. */
export function newToken(): string {
  tokens += 1;
  return tokens.toString(16).padStart(64, '0');
}

export const SIDE_A = 'aaaaaaaaaaaaaaaa';
export const SIDE_B = 'bbbbbbbbbbbbbbbb';
export const SIDE_C = 'cccccccccccccccc';

/** A handshake line with its newline. */
export function handshake(token: string, side: string | null = null): string {
  return side === null ? `please relay ${token}\n` : `please relay ${token} for side ${side}\n`;
}
