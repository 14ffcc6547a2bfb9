import { SIDED_LINE_BYTES, UNSIDED_LINE_BYTES, isHandshakePrefix, parseHandshake } from './handshake.ts';
import { NEWLINE } from './messages.ts';

/**
 * - `line`: the handshake line is incomplete
 * - `after-token`: a message ended exactly after the token; a side, a newline or payload may follow
 * - `newline`: a complete line arrived without its newline, which may still follow in its own message
 * - `payload`: everything from here on is payload
 */
type Stage = 'line' | 'after-token' | 'newline' | 'payload';

const NOTHING = new Uint8Array(0);
const LINE_END = Uint8Array.of(NEWLINE);
const SPACE = 0x20;

/**
 * Converts the messages of a WebSocket client to the byte stream that a raw client would have sent.
 *
 * WebSocket clients send the handshake with or without its newline, and may split the line over any number of
 * messages. This class adds the missing newline, so that all other code has one grammar. A line that cannot
 * become valid is ended at once, because its newline may never come.
 *
 * One case is ambiguous: a message of exactly one newline after a complete line without one. It is taken as
 * part of the line, because real payload never begins like that.
 */
export class MessageHandshake {
  #stage: Stage = 'line';
  #buffered: Uint8Array = NOTHING;

  /**
   * True while the line ends after its token: complete for a client without a side, half a line for a client
   * with a side that splits its messages there. The caller calls `flush` if nothing follows for a moment.
   */
  get isAmbiguous(): boolean {
    return this.#stage === 'after-token';
  }

  /** True if further messages need no conversion. */
  get isDone(): boolean {
    return this.#stage === 'payload';
  }

  /** Takes one message. Returns the bytes of the stream that are now certain; may be empty. */
  push(message: Uint8Array): Uint8Array {
    if (this.#stage === 'payload' || message.length === 0) return message;
    if (this.#stage === 'newline') {
      this.#stage = 'payload';
      return message.length === 1 && message[0] === NEWLINE ? NOTHING : message;
    }
    if (this.#stage === 'after-token' && message[0] !== SPACE && message[0] !== NEWLINE) {
      return concat(this.flush(), message);
    }
    return this.#extend(message);
  }

  /** Ends an ambiguous line as it is. Without one, it does nothing and returns no bytes. */
  flush(): Uint8Array {
    if (this.#stage !== 'after-token') return NOTHING;
    return this.#emit('payload', LINE_END);
  }

  #extend(message: Uint8Array): Uint8Array {
    this.#buffered = concat(this.#buffered, message);
    this.#stage = 'line';
    if (parseHandshake(this.#buffered).kind !== 'incomplete') return this.#emit('payload', NOTHING);
    if (!isHandshakePrefix(this.#buffered)) return this.#emit('payload', LINE_END);
    if (this.#buffered.length === SIDED_LINE_BYTES) return this.#emit('newline', LINE_END);
    if (this.#buffered.length === UNSIDED_LINE_BYTES) this.#stage = 'after-token';
    return NOTHING;
  }

  #emit(next: Stage, end: Uint8Array): Uint8Array {
    const bytes = concat(this.#buffered, end);
    this.#stage = next;
    this.#buffered = NOTHING;
    return bytes;
  }
}

function concat(first: Uint8Array, second: Uint8Array): Uint8Array {
  if (first.length === 0) return second;
  if (second.length === 0) return first;
  const joined = new Uint8Array(first.length + second.length);
  joined.set(first);
  joined.set(second, first.length);
  return joined;
}
