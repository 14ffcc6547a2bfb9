/**
 * Decodes the frames of a WebSocket client (RFC 6455, section 5) without assembling messages. Payload is
 * unmasked in place and moved together, so that the payload of one read is forwarded as one piece. A message
 * of 4 GiB needs no more memory than a message of 1 byte.
 */

/** Why the connection must be closed, as a close code: protocol error, invalid data, too big. */
export type FrameErrorCode = 1002 | 1007 | 1009;

export interface FrameHandler {
  /**
   * The next piece of the payload of binary messages. `endsMessage` has a meaning only while message
   * boundaries are preserved. The bytes are valid until the handler returns.
   */
  onPayload(bytes: Uint8Array, endsMessage: boolean): void;
  /** The bytes are valid until the handler returns. */
  onPing(payload: Uint8Array): void;
  onPong(): void;
  /** A text message begins. This is the last call. */
  onText(): void;
  /** The close code for the answer: the client's own, or 1005 if it sent none. This is the last call. */
  onCloseFrame(code: number): void;
  /** The client violated the protocol. This is the last call. */
  onProtocolError(error: FrameErrorCode): void;
}

/**
 * Writes `length` unmasked bytes of `source` to `output` at `offset`. The two may overlap if `output` is to
 * the left.
 */
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

/** Payload that is worth a frame, in bytes: unmasking it takes longer than reading the frame's header. */
const FRAME_COST_BYTES = 1024;

/** Payload up to this length, in bytes, is unmasked here, because a call of `Unmask` would take longer. */
const INLINE_UNMASK_BYTES = 16;

const NOTHING = new Uint8Array(0);

/** `header`, `payload`, `control`: the next part of a frame. `closed`: further bytes are discarded. */
type Stage = 'header' | 'payload' | 'control' | 'closed';

/** Decodes the frames of one client. */
export class FrameDecoder {
  /** Whether the handler needs to know where messages end. */
  preserveMessageBoundaries = true;

  readonly #handler: FrameHandler;
  readonly #unmask: Unmask;
  readonly #header = new Uint8Array(MAX_HEADER_BYTES);
  #headerBytes = 0;
  #stage: Stage = 'header';
  #opcode = CONTINUATION;
  #isFinal = false;
  /** Bytes of the frame's payload that have not arrived. */
  #remaining = 0;
  /** The mask, rotated so that its first byte is for the next byte of payload. */
  readonly #key = new Uint8Array(4);
  #insideMessage = false;
  /** Payload of an incomplete control frame. Allocated when a client sends the first one. */
  #control: Uint8Array = NOTHING;
  #controlBytes = 0;

  constructor(handler: FrameHandler, unmask: Unmask) {
    this.#handler = handler;
    this.#unmask = unmask;
  }

  /**
   * Decodes bytes in place, which overwrites them. Stops after `maxFrames` frames of less than 1 KiB each, so
   * that it takes a bounded time.
   *
   * @returns the number of decoded bytes; the rest has to be pushed again later, before any other bytes
   */
  push(bytes: Uint8Array, maxFrames = Number.POSITIVE_INFINITY): number {
    let frames = 0;
    let at = 0;
    // Payload that is unmasked and not emitted yet is in bytes[from, to).
    let from = 0;
    let to = 0;
    const emitPayload = (endsMessage: boolean): void => {
      if (to > from || endsMessage) this.#handler.onPayload(bytes.subarray(from, to), endsMessage);
      from = to;
    };
    for (;;) {
      if (this.#stage === 'closed') return bytes.length;
      if (this.#stage === 'header') {
        if (at === bytes.length || frames - at / FRAME_COST_BYTES >= maxFrames) break;
        at = this.#readHeader(bytes, at);
        const problem = this.#checkHeader();
        if (problem === 'incomplete') break;
        if (problem !== null) {
          emitPayload(false);
          this.#stage = 'closed';
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
        if (this.#opcode === CLOSE) emitPayload(false);
        this.#handleControl();
        continue;
      }
      // If there is no payload to emit, the new payload stays where it is.
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
      if (this.#isFinal && this.preserveMessageBoundaries) emitPayload(true);
    }
    emitPayload(false);
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

  /** The length of the header, as far as its first bytes determine it. */
  #headerLength(): number {
    if (this.#headerBytes < 2) return 2;
    const [, second = 0] = this.#header;
    const length = second & 0x7f;
    const extended = length === 127 ? 8 : length === 126 ? 2 : 0;
    return 2 + extended + (second & 0x80 ? 4 : 0);
  }

  /** Begins a frame if its header is complete and valid. Otherwise it returns the problem. */
  #checkHeader(): null | 'incomplete' | 'text' | FrameErrorCode {
    // Errors in the first two bytes are reported at once.
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

  /** Null if the highest bit of the length is set, which RFC 6455 forbids. */
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
      this.#stage = 'closed';
      const code = closeCodeOf(payload);
      if (code === 'protocol error') this.#handler.onProtocolError(1002);
      else if (code === 'invalid data') this.#handler.onProtocolError(1007);
      else this.#handler.onCloseFrame(code);
    }
  }
}

/** Returns the code of a close frame, or 1005 if it has none. Source: RFC 6455, sections 5.5.1 and 7.4. */
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

/** The longest message to a client, in bytes. Deployed Go clients fail on longer ones. */
export const MAX_MESSAGE_BYTES = 32_768;

const FULL_MESSAGE_HEADER = binaryHeader(MAX_MESSAGE_BYTES);

/**
 * Encodes payload as binary messages of at most `MAX_MESSAGE_BYTES`. The parts have to be written in order.
 */
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

/** Encodes a close frame, without a code if `code` is 1005. */
export function encodeClose(code: number): Uint8Array {
  return code === 1005
    ? Uint8Array.of(0x80 | CLOSE, 0)
    : Uint8Array.of(0x80 | CLOSE, 2, code >> 8, code & 0xff);
}
