/**
 * What arrives from a WebSocket client, frame by frame (RFC 6455, section 5), without ever assembling a
 * message: payload is unmasked where it lies and moved together, so that what one read brought is handed on
 * as one piece. Memory is the same for a message of 1 byte and one of 4 GiB.
 */

/** Why the connection must be closed, as a close code: protocol error, invalid data, too big. */
export type FrameErrorCode = 1002 | 1007 | 1009;

export interface FrameHandler {
  /**
   * Payload of binary messages, a piece of the stream. `endsMessage` is told while messages are kept apart
   * and means nothing otherwise. The bytes are the handler's until it returns.
   */
  onPayload(bytes: Uint8Array, endsMessage: boolean): void;
  /** The bytes are the handler's until it returns. */
  onPing(payload: Uint8Array): void;
  onPong(): void;
  /** A text message begins. Nothing is told after this. */
  onText(): void;
  /** The close code to answer with: the client's own, or 1005 where it gave none. Nothing is told after this. */
  onCloseFrame(code: number): void;
  /** The client broke the protocol. Nothing is told after this. */
  onProtocolError(error: FrameErrorCode): void;
}

/** Writes `length` unmasked bytes of `source` to `output` at `offset`; the two may overlap if that is to the left. */
export type Unmask = (
  source: Uint8Array,
  key: Uint8Array,
  output: Uint8Array,
  offset: number,
  length: number,
) => void;

const CONTINUATION = 0;
const TEXT = 1;
const BINARY = 2;
const CLOSE = 8;
const PING = 9;
const PONG = 10;

const MAX_HEADER_BYTES = 14;
const MAX_CONTROL_BYTES = 125;

/** Payload that justifies a frame of its own, in bytes: unmasking so much takes longer than reading the frame's header. */
const FRAME_COST_BYTES = 1024;

/** Payload up to this length is unmasked here, since a call of `Unmask` would take longer. Bytes. */
const INLINE_UNMASK_BYTES = 16;

const NOTHING = new Uint8Array(0);

/** - `header`, `payload`, `control`: what comes next; - `over`: whatever comes is thrown away */
type Stage = 'header' | 'payload' | 'control' | 'over';

/** Reads the frames of one client. */
export class FrameDecoder {
  /** True while each message has to be told apart from the next. */
  preserveMessageBoundaries = true;

  readonly #handler: FrameHandler;
  readonly #unmask: Unmask;
  readonly #header = new Uint8Array(MAX_HEADER_BYTES);
  #headerBytes = 0;
  #stage: Stage = 'header';
  #opcode = CONTINUATION;
  #isFinal = false;
  /** Bytes of the frame's payload that are still to come. */
  #remaining = 0;
  /** The mask, turned so that its first byte is for the next byte of payload. */
  readonly #key = new Uint8Array(4);
  #insideMessage = false;
  /** Payload of a control frame that is not complete. Allocated when a client sends any. */
  #control: Uint8Array = NOTHING;
  #controlBytes = 0;

  constructor(handler: FrameHandler, unmask: Unmask) {
    this.#handler = handler;
    this.#unmask = unmask;
  }

  /**
   * Takes what came. `bytes` are overwritten. Stops after `maxFrames` frames that bring less than 1 KiB each, so that the time
   * it takes is bounded.
   *
   * @returns the number of bytes that were taken; the rest has to be pushed later, before anything else
   */
  push(bytes: Uint8Array, maxFrames = Number.POSITIVE_INFINITY): number {
    let frames = 0;
    let at = 0;
    // Payload that is unmasked and not told yet lies in bytes[from, to).
    let from = 0;
    let to = 0;
    const tell = (endsMessage: boolean): void => {
      if (to > from || endsMessage) this.#handler.onPayload(bytes.subarray(from, to), endsMessage);
      from = to;
    };
    for (;;) {
      if (this.#stage === 'over') return bytes.length;
      if (this.#stage === 'header') {
        if (at === bytes.length || frames - at / FRAME_COST_BYTES >= maxFrames) break;
        at = this.#readHeader(bytes, at);
        const problem = this.#checkHeader();
        if (problem === 'incomplete') break;
        if (problem !== null) {
          tell(false);
          this.#stage = 'over';
          if (problem === 'text') this.#handler.onText();
          else this.#handler.onProtocolError(problem);
          return bytes.length;
        }
        frames += 1;
      }
      const length = Math.min(this.#remaining, bytes.length - at);
      const start = at;
      at += length;
      this.#remaining -= length;
      if (this.#stage === 'control') {
        if (length > 0) this.#bufferControl(bytes, start, length);
        if (this.#remaining > 0) break;
        if (this.#opcode === CLOSE) tell(false);
        this.#handleControl();
        continue;
      }
      // Where nothing waits to be told, what comes may as well stay where it lies.
      if (to === from) {
        to = at - length;
        from = to;
      }
      this.#unmaskPart(bytes, start, bytes, to, length);
      to += length;
      if (this.#remaining > 0) {
        this.#rotateKey(length);
        break;
      }
      this.#stage = 'header';
      this.#insideMessage = !this.#isFinal;
      if (this.#isFinal && this.preserveMessageBoundaries) tell(true);
    }
    tell(false);
    return at;
  }

  #unmaskPart(source: Uint8Array, start: number, output: Uint8Array, offset: number, length: number): void {
    if (length > INLINE_UNMASK_BYTES) {
      this.#unmask(source.subarray(start, start + length), this.#key, output, offset, length);
      return;
    }
    for (let index = 0; index < length; index += 1)
      output[offset + index] = (source[start + index] ?? 0) ^ (this.#key[index & 3] ?? 0);
  }

  #readHeader(bytes: Uint8Array, start: number): number {
    let at = start;
    while (at < bytes.length && this.#headerBytes < this.#headerLength()) {
      this.#header[this.#headerBytes] = bytes[at] ?? 0;
      this.#headerBytes += 1;
      at += 1;
    }
    return at;
  }

  /** Bytes of the header, as far as what is there tells. */
  #headerLength(): number {
    if (this.#headerBytes < 2) return 2;
    const [, second = 0] = this.#header;
    const length = second & 0x7f;
    const extended = length === 127 ? 8 : length === 126 ? 2 : 0;
    return 2 + extended + (second & 0x80 ? 4 : 0);
  }

  /** Begins the frame whose header is whole, or says what is wrong with it. */
  #checkHeader(): null | 'incomplete' | 'text' | FrameErrorCode {
    // What can be told from the first two bytes is told at once.
    if (this.#headerBytes < 2) return 'incomplete';
    const [first = 0, second = 0] = this.#header;
    const opcode = first & 0x0f;
    const isControl = opcode >= CLOSE;
    const isFinal = (first & 0x80) !== 0;
    if ((first & 0x70) !== 0 || (second & 0x80) === 0) return 1002;
    if (opcode > PONG || (opcode > BINARY && !isControl)) return 1002;
    if (isControl && (!isFinal || (second & 0x7f) > MAX_CONTROL_BYTES)) return 1002;
    if (!isControl && (opcode === CONTINUATION) !== this.#insideMessage) return 1002;
    if (opcode === TEXT) return 'text';
    const headerLength = this.#headerLength();
    if (this.#headerBytes < headerLength) return 'incomplete';
    const length = this.#payloadLength();
    if (length === null) return 1002;
    if (length > Number.MAX_SAFE_INTEGER) return 1009;
    this.#opcode = opcode;
    this.#isFinal = isFinal;
    this.#remaining = length;
    for (let index = 0; index < 4; index += 1) this.#key[index] = this.#header[headerLength - 4 + index] ?? 0;
    this.#headerBytes = 0;
    this.#stage = isControl ? 'control' : 'payload';
    return null;
  }

  /** Null for a length with its highest bit set, which RFC 6455 forbids. */
  #payloadLength(): number | null {
    const length = (this.#header[1] ?? 0) & 0x7f;
    if (length < 126) return length;
    const view = new DataView(this.#header.buffer);
    if (length === 126) return view.getUint16(2);
    if ((view.getUint8(2) & 0x80) !== 0) return null;
    return view.getUint32(2) * 2 ** 32 + view.getUint32(6);
  }

  #rotateKey(length: number): void {
    const turn = length % 4;
    if (turn === 0) return;
    const [a = 0, b = 0, c = 0, d = 0] = this.#key;
    const turned = [a, b, c, d, a, b, c].slice(turn, turn + 4);
    this.#key.set(turned);
  }

  #bufferControl(bytes: Uint8Array, start: number, length: number): void {
    if (this.#control.length === 0) this.#control = new Uint8Array(MAX_CONTROL_BYTES);
    this.#unmaskPart(bytes, start, this.#control, this.#controlBytes, length);
    this.#rotateKey(length);
    this.#controlBytes += length;
  }

  #handleControl(): void {
    const payload = this.#controlBytes === 0 ? NOTHING : this.#control.subarray(0, this.#controlBytes);
    this.#controlBytes = 0;
    this.#stage = 'header';
    if (this.#opcode === PING) this.#handler.onPing(payload);
    else if (this.#opcode === PONG) this.#handler.onPong();
    else {
      this.#stage = 'over';
      const code = closeCodeOf(payload);
      if (code === 'protocol error') this.#handler.onProtocolError(1002);
      else if (code === 'invalid data') this.#handler.onProtocolError(1007);
      else this.#handler.onCloseFrame(code);
    }
  }
}

/** The code in a close frame; 1005 stands for none. Source: RFC 6455, sections 5.5.1 and 7.4. */
function closeCodeOf(payload: Uint8Array): number | 'protocol error' | 'invalid data' {
  if (payload.length === 0) return 1005;
  const [high = 0, low] = payload;
  if (low === undefined) return 'protocol error';
  const code = high * 256 + low;
  const isDefined = code >= 1000 && code <= 1014 && ![1004, 1005, 1006].includes(code);
  if (!isDefined && (code < 3000 || code > 4999)) return 'protocol error';
  try {
    new TextDecoder('utf-8', { fatal: true }).decode(payload.subarray(2));
  } catch {
    return 'invalid data';
  }
  return code;
}

/** The longest message a client is sent, in bytes: deployed Go clients fail on longer ones. */
export const MAX_MESSAGE_BYTES = 32_768;

const FULL_MESSAGE_HEADER = binaryHeader(MAX_MESSAGE_BYTES);

/** Payload as binary messages of at most `MAX_MESSAGE_BYTES`, in parts to be written one behind the other. */
export function encodePayload(bytes: Uint8Array): Uint8Array[] {
  const parts: Uint8Array[] = [];
  let at = 0;
  for (; bytes.length - at >= MAX_MESSAGE_BYTES; at += MAX_MESSAGE_BYTES) {
    parts.push(FULL_MESSAGE_HEADER, bytes.subarray(at, at + MAX_MESSAGE_BYTES));
  }
  if (at < bytes.length) parts.push(binaryHeader(bytes.length - at), bytes.subarray(at));
  return parts;
}

function binaryHeader(length: number): Uint8Array {
  if (length < 126) return Uint8Array.of(0x80 | BINARY, length);
  return Uint8Array.of(0x80 | BINARY, 126, length >> 8, length & 0xff);
}

/** A ping without payload. */
export const PING_FRAME: Uint8Array = Uint8Array.of(0x80 | PING, 0);

export function encodePong(payload: Uint8Array): Uint8Array {
  const frame = new Uint8Array(2 + payload.length);
  frame.set([0x80 | PONG, payload.length]);
  frame.set(payload, 2);
  return frame;
}

/** A close frame. 1005 makes one without a code. */
export function encodeClose(code: number): Uint8Array {
  return code === 1005
    ? Uint8Array.of(0x80 | CLOSE, 0)
    : Uint8Array.of(0x80 | CLOSE, 2, code >> 8, code & 0xff);
}
