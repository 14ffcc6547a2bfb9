type HeadProgress =
  | { readonly kind: 'incomplete' }
  | { readonly kind: 'too-large' }
  | {
      readonly kind: 'complete';
      /** The request up to the empty line that ends its head. */
      readonly head: Uint8Array;
      /** The bytes after the head, in the caller's memory. */
      readonly rest: Uint8Array;
    };

const INCOMPLETE: HeadProgress = { kind: 'incomplete' };
const TOO_LARGE: HeadProgress = { kind: 'too-large' };

const CR = 0x0d;
const LF = 0x0a;

const NOTHING = new Uint8Array(0);

/**
 * Buffers the head of one HTTP/1.1 request (RFC 9112, section 2.1), so that an HTTP parser gets these bytes
 * and no others. An HTTP parser reads everything that it is given at once, and each further request costs as
 * much as the first.
 *
 * It validates nothing: the parser rejects bad heads. Bare LFs end a head too, so that no parser sees an end
 * before this class does. Empty lines before the request are skipped, as RFC 9112, section 2.2, requires.
 */
export class HttpHeadReader {
  readonly #maxBytes: number;
  #buffered: Uint8Array = NOTHING;

  /** @param maxBytes the limit of a complete head */
  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** True between the first byte of a head and its end. */
  get isStarted(): boolean {
    return this.#buffered.length > 0;
  }

  /** Takes the next bytes and copies those that it keeps. After `complete` it is ready for the next head. */
  push(bytes: Uint8Array): HeadProgress {
    const before = this.#buffered.length;
    const from = before === 0 ? emptyLinesLength(bytes) : 0;
    const all = this.#append(bytes.subarray(from, from + this.#maxBytes + 1 - before));
    const end = findHeadEnd(all, Math.max(0, before - 2));
    if (end === null || end > this.#maxBytes) {
      const isTooLarge = all.length > this.#maxBytes;
      this.#buffered = isTooLarge ? NOTHING : all;
      return isTooLarge ? TOO_LARGE : INCOMPLETE;
    }
    this.#buffered = NOTHING;
    return { kind: 'complete', head: all.subarray(0, end), rest: bytes.subarray(from + end - before) };
  }

  /** Copies the bytes buffered so far and `bytes` to new memory. */
  #append(bytes: Uint8Array): Uint8Array {
    const all = new Uint8Array(this.#buffered.length + bytes.length);
    all.set(this.#buffered);
    all.set(bytes, this.#buffered.length);
    return all;
  }
}

/** An empty chunked body (RFC 9112, section 7.1). */
export const EMPTY_CHUNKED_BODY: Uint8Array = Uint8Array.of(0x30, CR, LF, CR, LF);

/** The header line of a chunked body, unless the next line continues it. */
const CHUNKED = /\ntransfer-encoding:[ \t]*chunked[ \t]*\r?\n(?![ \t])/iu;

const WEBSOCKET_UPGRADE = /\nupgrade:[ \t]*websocket[ \t]*\r?\n/iu;

/**
 * Returns the head of a WebSocket upgrade without the header line of its chunked body. Null if the head has
 * no such line. Parsers answer an upgrade before they read its body, so the caller has to read the body
 * first.
 */
export function stripChunkedEncoding(head: Uint8Array): Uint8Array | null {
  let text = '';
  for (const byte of head) text += String.fromCharCode(byte);
  if (!WEBSOCKET_UPGRADE.test(text)) return null;
  const line = CHUNKED.exec(text);
  if (line === null) return null;
  const [from, to] = [line.index + 1, line.index + line[0].length];
  const rest = new Uint8Array(head.length - (to - from));
  rest.set(head.subarray(0, from));
  rest.set(head.subarray(to), from);
  return rest;
}

function emptyLinesLength(bytes: Uint8Array): number {
  let length = 0;
  while (bytes[length] === CR || bytes[length] === LF) length += 1;
  return length;
}

/** Returns the end of the head, which is after two consecutive line ends. Null: not in these bytes. */
function findHeadEnd(bytes: Uint8Array, from: number): number | null {
  for (let at = bytes.indexOf(LF, from); at >= 0; at = bytes.indexOf(LF, at + 1)) {
    if (bytes[at + 1] === LF) return at + 2;
    if (bytes[at + 1] === CR && bytes[at + 2] === LF) return at + 3;
  }
  return null;
}
