/**
 * RESP2, the protocol of Redis and Valkey, as far as the relay uses it:
 * https://redis.io/docs/latest/develop/reference/protocol-spec/. There is no library for it, because the memory of a reply
 * must be bounded: with `@redis/client` 6, a reply of 220 bytes (nested arrays of 33 million elements) used up the memory
 * of the process, and strings had no limit at all.
 */

/** Limit for a reply, in bytes. A renewal of 500 leases that other relays own all of is 175 kB. */
const MAX_REPLY_BYTES = 2 ** 20;

/** Limits for a string and a line, in bytes. A lease has 329 at most. */
const MAX_STRING_BYTES = 65_536;
const MAX_LINE_BYTES = 4096;

/** Limit for elements of an array. A renewal has 1,001. */
const MAX_ELEMENTS = 4096;

const NEWLINE = 0x0a;
const CARRIAGE_RETURN = 0x0d;

/** An error reply of the server. */
export class ErrorReply {
  readonly message: string;

  constructor(message: string) {
    this.message = message;
  }

  /** The first word is the kind of error, like `WRONGPASS`; the rest may quote the command. */
  get code(): string {
    return firstWord(this.message);
  }
}

/** Nil is null. Arrays are not nested. */
export type Reply = Scalar | readonly Scalar[];
type Scalar = string | number | null | ErrorReply;

/** The server sent something that is not a reply, or is too large. */
export class RespError extends Error {
  /** `EPROTO` or `EMSGSIZE`. */
  readonly code: 'EPROTO' | 'EMSGSIZE';

  constructor(code: RespError['code']) {
    super(code === 'EPROTO' ? 'the reply is not RESP2' : 'the reply is too large');
    this.code = code;
  }
}

export function firstWord(message: string): string {
  return /^[A-Z]{2,20}\b/u.exec(message)?.[0] ?? 'ERR';
}

/** A command in RESP2: an array of strings. */
export function encodeCommand(args: readonly string[]): string {
  const strings = args.map((arg) => `$${Buffer.byteLength(arg)}\r\n${arg}\r\n`);
  return `*${args.length}\r\n${strings.join('')}`;
}

interface PartialString {
  readonly bytes: Buffer;
  filled: number;
}

/** Parses replies from bytes in any split. Keeps one reply at most, of up to `MAX_REPLY_BYTES`. */
export class ReplyReader {
  /** The beginning of a line, or all of it. */
  #line = '';
  #isLineComplete = false;
  /** An incomplete string, with the two bytes that end it. */
  #string: PartialString | null = null;
  /** An incomplete array. */
  #array: { readonly elements: Scalar[]; readonly length: number } | null = null;
  /** Bytes of the current reply so far. */
  #replyBytes = 0;

  /**
   * The replies that are complete with these bytes.
   *
   * @throws RespError; the reader cannot be used after it
   */
  *read(bytes: Buffer): Generator<Reply, void> {
    let rest = bytes;
    while (rest.length > 0) {
      const taken: number = this.#string === null ? this.#takeLine(rest) : fill(this.#string, rest);
      rest = rest.subarray(taken);
      this.#replyBytes += taken;
      if (this.#replyBytes > MAX_REPLY_BYTES) throw new RespError('EMSGSIZE');
      const reply = this.#completeReply();
      if (reply === undefined) continue;
      this.#replyBytes = 0;
      yield reply;
    }
  }

  /** Takes bytes of a line, up to its end. */
  #takeLine(bytes: Buffer): number {
    const end = bytes.subarray(0, MAX_LINE_BYTES + 2 - this.#line.length).indexOf(NEWLINE);
    const taken = end < 0 ? bytes.length : end + 1;
    if (this.#line.length + taken > MAX_LINE_BYTES + 2) throw new RespError('EMSGSIZE');
    this.#line += bytes.toString('latin1', 0, taken);
    this.#isLineComplete = end >= 0;
    return taken;
  }

  /** The reply, if it is complete now. */
  #completeReply(): Reply | undefined {
    const scalar = this.#string === null ? this.#completeLine() : this.#completeString(this.#string);
    if (scalar !== undefined && this.#array !== null) this.#array.elements.push(scalar);
    if (this.#array === null) return scalar;
    if (this.#array.elements.length < this.#array.length) return undefined;
    const { elements } = this.#array;
    this.#array = null;
    return elements;
  }

  #completeString({ bytes, filled }: PartialString): string | undefined {
    if (filled < bytes.length) return undefined;
    this.#string = null;
    const length = bytes.length - 2;
    if (bytes[length] !== CARRIAGE_RETURN || bytes[length + 1] !== NEWLINE) throw new RespError('EPROTO');
    return bytes.toString('latin1', 0, length);
  }

  /** The value of a line; undefined if more follows. */
  #completeLine(): Scalar | undefined {
    // A flag, because checking the line itself would copy it for each piece.
    if (!this.#isLineComplete) return undefined;
    this.#isLineComplete = false;
    if (!this.#line.endsWith('\r\n')) throw new RespError('EPROTO');
    const [type = '', text] = [this.#line[0], this.#line.slice(1, -2)];
    this.#line = '';
    if (type === '+') return text;
    if (type === '-') return new ErrorReply(text);
    const number = /^-?\d{1,15}$/u.test(text) ? Number(text) : NaN;
    if (type === ':' && !Number.isNaN(number)) return number;
    const isLength = (type === '$' || type === '*') && number >= -1;
    // No command of the relay returns nested arrays.
    if (!isLength || (type === '*' && this.#array !== null)) throw new RespError('EPROTO');
    if (number > (type === '$' ? MAX_STRING_BYTES : MAX_ELEMENTS)) throw new RespError('EMSGSIZE');
    if (number < 0) return null;
    if (type === '$') this.#string = { bytes: Buffer.allocUnsafe(number + 2), filled: 0 };
    else this.#array = { elements: [], length: number };
    return undefined;
  }
}

/** Returns how many bytes fitted. */
function fill(string: PartialString, bytes: Buffer): number {
  const taken = bytes.copy(string.bytes, string.filled);
  string.filled += taken;
  return taken;
}
