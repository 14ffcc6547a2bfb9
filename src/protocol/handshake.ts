import { MAX_LINE_BYTES, NEWLINE, SIDE_LENGTH, TOKEN_LENGTH } from './messages.ts';
import type { Side, Token } from './messages.ts';

/** The result for the bytes so far. `rest` are the bytes after the line. */
export type Handshake =
  | { readonly kind: 'incomplete' }
  | { readonly kind: 'overlong' }
  | { readonly kind: 'bad' }
  | {
      readonly kind: 'relay';
      readonly token: Token;
      readonly side: Side | null;
      readonly rest: Uint8Array;
    };

const INCOMPLETE: Handshake = { kind: 'incomplete' };
const OVERLONG: Handshake = { kind: 'overlong' };
const BAD: Handshake = { kind: 'bad' };

const PREFIX = 'please relay ';
const SIDE_PREFIX = ' for side ';

/** Length of a line without a side, in bytes and without its newline. */
export const UNSIDED_LINE_BYTES = PREFIX.length + TOKEN_LENGTH;

/** Length of a line with a side, in bytes and without its newline. */
export const SIDED_LINE_BYTES = UNSIDED_LINE_BYTES + SIDE_PREFIX.length + SIDE_LENGTH;

/** Twelve times as fast as `String.fromCharCode` with a spread array. Its input is known to be ASCII. */
const ASCII = new TextDecoder('latin1');

/**
 * Parses the handshake from everything that a connection has sent so far.
 *
 * A line is checked only when its newline has arrived: a client that sends garbage and waits gets no reply,
 * as with the reference. `rest` shares memory with `bytes`.
 */
export function parseHandshake(bytes: Uint8Array): Handshake {
  const end = bytes.subarray(0, MAX_LINE_BYTES + 1).indexOf(NEWLINE);
  if (end < 0) return bytes.length > MAX_LINE_BYTES ? OVERLONG : INCOMPLETE;
  if (end !== UNSIDED_LINE_BYTES && end !== SIDED_LINE_BYTES) return BAD;
  if (!isHandshakePrefix(bytes.subarray(0, end))) return BAD;
  const line = ASCII.decode(bytes.subarray(PREFIX.length, end));
  const token = line.slice(0, TOKEN_LENGTH);
  const side = end === SIDED_LINE_BYTES ? line.slice(-SIDE_LENGTH) : null;
  if (!isToken(token) || (side !== null && !isSide(side))) return BAD;
  return { kind: 'relay', token, side, rest: bytes.subarray(end + 1) };
}

/** The line of a client, with its newline. */
export function formatHandshake(token: Token, side: Side | null): Uint8Array {
  const line = `${PREFIX}${token}${side === null ? '' : `${SIDE_PREFIX}${side}`}\n`;
  return Uint8Array.from(line, (letter) => letter.charCodeAt(0));
}

/** True if `bytes`, which contain no newline, are a valid line or the beginning of one. */
export function isHandshakePrefix(bytes: Uint8Array): boolean {
  if (bytes.length > SIDED_LINE_BYTES) return false;
  for (let at = 0; at < bytes.length; at += 1) {
    const byte = bytes[at] ?? 0;
    const fixed = expectedByteAt(at);
    if (fixed === null ? !isWordByte(byte) : byte !== fixed) return false;
  }
  return true;
}

/** The byte that every valid line has at this position; null where any word character is valid. */
function expectedByteAt(at: number): number | null {
  if (at < PREFIX.length) return PREFIX.charCodeAt(at);
  const afterToken = at - UNSIDED_LINE_BYTES;
  if (afterToken >= 0 && afterToken < SIDE_PREFIX.length) return SIDE_PREFIX.charCodeAt(afterToken);
  return null;
}

function isWordByte(byte: number): boolean {
  return (
    (byte >= 0x30 && byte <= 0x39) ||
    (byte >= 0x41 && byte <= 0x5a) ||
    (byte >= 0x61 && byte <= 0x7a) ||
    byte === 0x5f
  );
}

function isToken(text: string): text is Token {
  return text.length === TOKEN_LENGTH;
}

function isSide(text: string): text is Side {
  return text.length === SIDE_LENGTH;
}
