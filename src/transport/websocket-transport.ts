import { endianness } from 'node:os';
import bufferUtil from 'bufferutil';
import slowBufferUtil from 'bufferutil/fallback.js';
import { MessageHandshake } from '../protocol/message-handshake.ts';
import { MAX_LINE_BYTES } from '../protocol/messages.ts';
import {
  FrameDecoder,
  PING_FRAME,
  encodeClose,
  encodePayload,
  encodePong,
} from '../protocol/websocket-frames.ts';
import type { FrameErrorCode, FrameHandler, Unmask } from '../protocol/websocket-frames.ts';
import { EMPTY_BYTES } from './byte-stream.ts';
import type { ByteStream, ByteStreamHandler } from './byte-stream.ts';
import type { ClientTransport, ClientTransportHandler } from './client-transport.ts';
import { Linger, lingerTimeoutMs } from './linger.ts';
import type { ReadScheduler } from './read-scheduler.ts';

/**
 * Unanswered pings after which a silent client is closed: five minutes. After a network outage of two
 * minutes, the kernel may retransmit a ping only three and a half minutes after the outage began.
 *
 * A client that has never answered a ping is not closed for its silence, which does not mean that it is dead.
 * The kernel closes a dead connection when its retransmissions of pings time out.
 */
const MAX_MISSED_PINGS = 10;

/**
 * Bytes that the kernel of any client accepts while the client does not read: less than the smallest default
 * receive buffer. A client that was sent more since its last byte is not closed for its silence: pings are
 * queued behind the payload, and a slow receiver may take long to reach them.
 */
const MIN_RECEIVE_BUFFER_BYTES = 65_536;

/** Frames of one client that are read at once, not counting frames of 1 KiB and more: 50 to 100 µs. */
const MAX_FRAMES_PER_READ = 256;

/** The same while frames of other clients are queued. A small message is still forwarded at once. */
const MAX_FRAMES_WHILE_BUSY = 16;

/** How long to wait for the rest of a handshake line that may be complete, in milliseconds. */
const LINE_CONTINUATION_TIMEOUT_MS = 200;

/** A client connected by WebSocket. Binary messages are the payload; their boundaries have no meaning. */
export class WebSocketTransport implements ClientTransport, ByteStreamHandler, FrameHandler {
  readonly kind = 'websocket';
  readonly #stream: ByteStream;
  readonly #scheduler: ReadScheduler;
  readonly #decoder = new FrameDecoder(this, unmask);
  readonly #pingTimer: NodeJS.Timeout;
  #handler: ClientTransportHandler | null = null;
  /** Null once all messages are payload. */
  #handshake: MessageHandshake | null = new MessageHandshake();
  /** An incomplete message of the handshake. */
  #partialMessage: Uint8Array = EMPTY_BYTES;
  #lineTimer: NodeJS.Timeout | undefined;
  /** Null until the relay has sent its close frame. */
  #linger: Linger | null = null;
  #isPaused = false;
  #hasAnsweredPing = false;
  #missedPings = 0;
  #deliveredAtLastReceive = 0;
  /** Received frames that were not read yet. The stream is paused while there are any. */
  #unread: Uint8Array = EMPTY_BYTES;
  #isQueued = false;
  /** The most recent unanswered ping. */
  #lastPing: Uint8Array | null = null;
  /** The client keeps sending small frames although the relay has closed. */
  #isIgnoringFrames = false;

  /** @param pingIntervalMs time between pings, in milliseconds */
  constructor(stream: ByteStream, scheduler: ReadScheduler, pingIntervalMs: number) {
    this.#stream = stream;
    this.#scheduler = scheduler;
    this.#pingTimer = setInterval(() => this.#ping(), pingIntervalMs);
  }

  get bufferedBytes(): number {
    return this.#stream.bufferedBytes;
  }

  get deliveredBytes(): number {
    return this.#stream.deliveredBytes;
  }

  start(handler: ClientTransportHandler): void {
    this.#handler = handler;
    this.#stream.start(this);
  }

  send(bytes: Uint8Array): boolean {
    return this.#stream.writeParts(encodePayload(bytes));
  }

  pause(): void {
    this.#isPaused = true;
    this.#stream.pause();
  }

  resume(): void {
    this.#isPaused = false;
    if (this.#unread.length > 0) this.#enqueue();
    else this.#stream.resume();
  }

  limitReadSize(): void {
    this.#stream.limitReadSize();
  }

  detectReset(): void {
    this.#stream.detectReset();
  }

  closeGracefully(code: number, hadPartner: boolean): void {
    if (this.#linger !== null) return;
    this.#linger = new Linger(this.#stream, lingerTimeoutMs(hadPartner));
    this.#stream.write(encodeClose(code));
    this.resume();
  }

  abort(how?: 'reset'): void {
    this.#stream.abort(how);
  }

  onBytes(bytes: Uint8Array): void {
    this.#missedPings = 0;
    this.#deliveredAtLastReceive = this.#stream.deliveredBytes;
    this.#linger?.onDiscarded(bytes.length);
    if (this.#isIgnoringFrames) return;
    if (this.#unread.length > 0) {
      this.#setUnread(Buffer.concat([this.#unread, bytes]));
      return;
    }
    const { isBusy } = this.#scheduler.tasks;
    const taken = this.#readFrames(bytes, isBusy ? MAX_FRAMES_WHILE_BUSY : MAX_FRAMES_PER_READ);
    if (taken < bytes.length) this.#deferFrames(bytes.subarray(taken), isBusy);
  }

  onWritable(): void {
    this.#handler?.onWritable();
  }

  onEnd(): void {
    // No close frame came before it, so there is nothing to wait for.
    this.#handler?.onEnd();
    this.#stream.end();
  }

  onClose(): void {
    clearInterval(this.#pingTimer);
    clearTimeout(this.#lineTimer);
    this.#linger?.cancel();
    this.#setUnread(EMPTY_BYTES);
    // A token alone is the complete handshake of a client without a side.
    this.#finishHandshakeLine();
    this.#handler?.onClose();
  }

  onPayload(bytes: Uint8Array, endsMessage: boolean): void {
    if (this.#handshake === null) this.#emitData(bytes);
    else this.#readHandshake(this.#handshake, bytes, endsMessage);
  }

  onPing(payload: Uint8Array): void {
    // The memory of `payload` is reused before the read is over.
    this.#lastPing = payload.length === 0 ? EMPTY_BYTES : Uint8Array.from(payload);
  }

  onPong(): void {
    // `onBytes` has already reset the missed pings.
    this.#hasAnsweredPing = true;
  }

  onText(): void {
    this.#handler?.onText();
    // Nothing more is read from this client, not even its close frame.
    this.#stream.end();
  }

  onCloseFrame(code: number): void {
    this.closeGracefully(code, false);
    this.#handler?.onEnd();
    this.#stream.end();
  }

  onProtocolError(error: FrameErrorCode): void {
    this.onCloseFrame(error);
  }

  /** Defers frames. Nothing more is read until they have been processed. */
  #deferFrames(bytes: Uint8Array, isBusy: boolean): void {
    if (this.#linger !== null) {
      // The relay has closed, so frames no longer matter.
      this.#isIgnoringFrames = true;
      return;
    }
    // The next read reuses the memory of `bytes`.
    this.#setUnread(Uint8Array.from(bytes));
    if (!isBusy) this.#stream.limitReadSize();
    this.#stream.pause();
    this.#enqueue();
  }

  /** Reads at most `maxFrames` frames, and returns how many bytes they had. */
  #readFrames(bytes: Uint8Array, maxFrames: number): number {
    const taken = this.#decoder.push(bytes, maxFrames);
    // A pong for the most recent ping is enough (RFC 6455, 5.5.3), and each one is a system call.
    const ping = this.#lastPing;
    this.#lastPing = null;
    // A client that does not receive its pongs gets no more of them, so they do not accumulate.
    if (ping !== null && this.#stream.bufferedBytes === 0 && this.#linger === null)
      this.#stream.write(encodePong(ping));
    return taken;
  }

  #enqueue(): void {
    if (this.#isQueued) return;
    this.#isQueued = true;
    this.#scheduler.tasks.defer(() => {
      this.#isQueued = false;
      this.#readDeferredFrames();
    });
  }

  /** Reads the next few of the unread frames. */
  #readDeferredFrames(): void {
    const bytes = this.#unread;
    if (bytes.length === 0 || this.#isPaused) return;
    const taken = this.#readFrames(bytes, MAX_FRAMES_PER_READ);
    // The handler may have closed the connection.
    if (this.#unread.length === 0) return;
    this.#setUnread(bytes.subarray(taken));
    if (this.#unread.length > 0) this.#enqueue();
    else if (!this.#isPaused) this.#stream.resume();
  }

  #setUnread(bytes: Uint8Array): void {
    this.#scheduler.bufferedBytes += bytes.length - this.#unread.length;
    this.#unread = bytes;
  }

  #readHandshake(handshake: MessageHandshake, bytes: Uint8Array, endsMessage: boolean): void {
    // An empty message has no meaning, and a client may send thousands of them.
    if (bytes.length === 0 && this.#partialMessage.length === 0) return;
    clearTimeout(this.#lineTimer);
    this.#partialMessage = Buffer.concat([this.#partialMessage, bytes]);
    // A message longer than any line is invalid even if it is incomplete.
    if (!endsMessage && this.#partialMessage.length <= MAX_LINE_BYTES) return;
    const payload = handshake.push(this.#partialMessage);
    this.#partialMessage = EMPTY_BYTES;
    if (handshake.isDone) {
      this.#handshake = null;
      this.#decoder.preserveMessageBoundaries = false;
    } else if (handshake.isAmbiguous) {
      this.#lineTimer = setTimeout(() => this.#finishHandshakeLine(), LINE_CONTINUATION_TIMEOUT_MS);
    }
    this.#emitData(payload);
  }

  #finishHandshakeLine(): void {
    const handshake = this.#handshake;
    if (handshake !== null) this.#emitData(handshake.flush());
  }

  #emitData(bytes: Uint8Array): void {
    if (bytes.length > 0) this.#handler?.onData(bytes);
  }

  #ping(): void {
    if (this.#linger !== null) return;
    if (!this.#isPongExpected) this.#missedPings = 0;
    if (this.#missedPings >= MAX_MISSED_PINGS) {
      this.abort();
      return;
    }
    this.#missedPings += 1;
    if (this.#stream.bufferedBytes === 0) this.#stream.write(PING_FRAME);
  }

  /** Whether an answer to the last ping should have arrived by now. */
  get #isPongExpected(): boolean {
    if (this.#isPaused || !this.#hasAnsweredPing) return false;
    const { bufferedBytes, deliveredBytes } = this.#stream;
    return bufferedBytes === 0 && deliveredBytes - this.#deliveredAtLastReceive <= MIN_RECEIVE_BUFFER_BYTES;
  }
}

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
