import { NEWLINE } from '../protocol/wire.ts';

/** The longest line of a greeting, in bytes and without its newline. One of version 1 has 153 at the most; others get some room. */
export const MAX_LINK_LINE_BYTES = 200;

/** What the bytes so far amount to. `rest` is what came behind the line, and shares memory with what was fed. */
export type LinkLine =
  | { readonly kind: 'incomplete'; readonly text: string }
  | { readonly kind: 'overlong'; readonly text: string }
  | { readonly kind: 'line'; readonly text: string; readonly rest: Uint8Array };

/** Gathers lines out of bytes in any split. Keeps no more than `MAX_LINK_LINE_BYTES`, whatever it is fed. */
export class LinkLineReader {
  #head = '';

  /** Begins anew once it has returned a line. */
  read(bytes: Uint8Array): LinkLine {
    // With the newline of the longest line, and no further: the rest may be very much.
    const piece = bytes.subarray(0, MAX_LINK_LINE_BYTES + 1 - this.#head.length);
    const end = piece.indexOf(NEWLINE);
    const text = this.#head + latin(end < 0 ? piece : piece.subarray(0, end));
    if (end >= 0) {
      this.#head = '';
      return { kind: 'line', text, rest: bytes.subarray(end + 1) };
    }
    if (text.length > MAX_LINK_LINE_BYTES) return { kind: 'overlong', text };
    this.#head = text;
    return { kind: 'incomplete', text };
  }
}

/** One character a byte, so that lengths are the same and no byte is an error. */
function latin(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1');
}
