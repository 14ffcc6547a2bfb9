import { SIDED_LINE_BYTES, UNSIDED_LINE_BYTES, parseHandshake, isHandshakePrefix } from './handshake.ts';
import { NEWLINE } from './messages.ts';

/**
 * - `line`: the handshake line is not whole yet
 * - `unsided`: a message ended exactly behind a token; a side, a newline or payload may follow
 * - `newline`: a whole line came without its newline, which may still follow in a message of its own
 * - `payload`: everything is payload from here on
 */
type Stage = 'line' | 'unsided' | 'newline' | 'payload';

const NOTHING = new Uint8Array(0);
const LINE_END = Uint8Array.of(NEWLINE);
const SPACE = 0x20;

/**
 * Turns the messages of a WebSocket client into the byte stream that a raw client would have sent.
 *
 * WebSocket clients leave the newline of the handshake out or send it, and may split the line over any
 * number of messages. The missing newline is put in here, so that behind this file there is one grammar.
 * A line that can't become a good one any more is ended at once: no newline may ever come.
 *
 * One choice is not decided by the bytes: a message of exactly one newline behind a line that was whole
 * without it belongs to the line. Real payload never begins like that.
 */
export class MessageHandshake {
  #stage: Stage = 'line';
  #buffered: Uint8Array = NOTHING;

  /**
   * True while the line ends behind its token: whole for an unsided client, half a line for a sided one
   * that splits its messages there. The owner calls `settle` when nothing has followed for a moment.
   */
  get isAmbiguous(): boolean {
    return this.#stage === 'unsided';
  }

  /** True when messages need not pass through here any more. */
  get isDone(): boolean {
    return this.#stage === 'payload';
  }

  /** Takes one message and returns the bytes of the stream that are now certain; may be empty. */
  push(message: Uint8Array): Uint8Array {
    if (this.#stage === 'payload' || message.length === 0) return message;
    if (this.#stage === 'newline') {
      this.#stage = 'payload';
      return message.length === 1 && message[0] === NEWLINE ? NOTHING : message;
    }
    if (this.#stage === 'unsided' && message[0] !== SPACE && message[0] !== NEWLINE) {
      return concat(this.flush(), message);
    }
    return this.#extend(message);
  }

  /** Ends an undecided line as it stands. Without one, nothing happens and nothing is returned. */
  flush(): Uint8Array {
    if (this.#stage !== 'unsided') return NOTHING;
    return this.#emit('payload', LINE_END);
  }

  #extend(message: Uint8Array): Uint8Array {
    this.#buffered = concat(this.#buffered, message);
    this.#stage = 'line';
    if (parseHandshake(this.#buffered).kind !== 'incomplete') return this.#emit('payload', NOTHING);
    if (!isHandshakePrefix(this.#buffered)) return this.#emit('payload', LINE_END);
    if (this.#buffered.length === SIDED_LINE_BYTES) return this.#emit('newline', LINE_END);
    if (this.#buffered.length === UNSIDED_LINE_BYTES) this.#stage = 'unsided';
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
