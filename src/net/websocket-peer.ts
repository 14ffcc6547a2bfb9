import { MessageHandshake } from '../protocol/message-handshake.ts';
import type { CloseCode } from '../protocol/session.ts';
import {
  FrameDecoder,
  PING_FRAME,
  encodeClose,
  encodePayload,
  encodePong,
} from '../protocol/websocket-frames.ts';
import type { FrameFault, FrameHandler } from '../protocol/websocket-frames.ts';
import { MAX_LINE_BYTES } from '../protocol/wire.ts';
import { Linger, lingerMsFor } from './linger.ts';
import type { Peer, PeerHandler } from './peer.ts';
import { unmask } from './unmask.ts';
import type { Wire, WireHandler } from './wire.ts';
import { NOTHING } from './wire.ts';

/**
 * Pings without an answer before a silent client is closed: five minutes. After a network outage of two minutes the kernel
 * may send a ping again only three and a half minutes after the beginning of the outage.
 *
 * A client that has never answered a ping is not closed for its silence: that is no sign of its death, and the kernel closes
 * a dead connection when it gives up sending pings.
 */
const MAX_MISSED_PINGS = 10;

/**
 * What any client takes in without reading: less than the smallest default receive buffer. A client that was sent more since its
 * last byte is not closed for its silence: a ping waits in line behind the payload, and a slow receiver may take long to come to it.
 */
const SMALL_BACKLOG_BYTES = 65_536;

/** Frames of one client that are read without a pause, apart from frames of 1 KiB and more: 50 to 100 µs. */
const FRAMES_AT_ONCE = 256;

/** The same while frames of other clients are queued. An ordinary message still gets through at once. */
const FRAMES_WHILE_BUSY = 16;

/** How long a line that may be whole is given to go on, in milliseconds. */
const SETTLE_MS = 200;

/** Where clients queue whose frames take too long to be read at once. */
export interface FrameBacklog {
  /** Clients are queued. */
  readonly isBusy: boolean;
  /** Runs `task` in its turn. */
  defer(task: () => void): void;
  /** So many more bytes are in memory, or fewer (a negative number). */
  hold(bytes: number): void;
}

export interface WebSocketPeerOptions {
  /** Time between pings, in milliseconds. */
  readonly pingIntervalMs: number;
  readonly backlog: FrameBacklog;
}

/** A client that came by WebSocket: binary messages are the payload, and their boundaries mean nothing. */
export class WebSocketPeer implements Peer, WireHandler, FrameHandler {
  readonly transport = 'websocket';
  readonly #wire: Wire;
  readonly #backlog: FrameBacklog;
  readonly #decoder = new FrameDecoder(this, unmask);
  readonly #pingTimer: NodeJS.Timeout;
  #handler: PeerHandler | null = null;
  /** Null once everything is payload. */
  #handshake: MessageHandshake | null = new MessageHandshake();
  /** A message of the handshake that has not come whole. */
  #message: Uint8Array = NOTHING;
  #settleTimer: NodeJS.Timeout | undefined;
  #linger: Linger | null = null;
  #isPaused = false;
  #saidClose = false;
  #answersPings = false;
  #missedPings = 0;
  #deliveredAtSign = 0;
  /** Frames that were received and have not been read yet. The wire is paused as long as there are any. */
  #unread: Uint8Array = NOTHING;
  #isQueued = false;
  /** The most recent ping that has no answer yet. */
  #lastPing: Uint8Array | null = null;
  /** It goes on sending small frames although the relay has closed. */
  #ignoresFrames = false;

  constructor(wire: Wire, options: WebSocketPeerOptions) {
    this.#wire = wire;
    this.#backlog = options.backlog;
    this.#pingTimer = setInterval(() => this.#ping(), options.pingIntervalMs);
  }

  get heldBytes(): number {
    return this.#wire.heldBytes;
  }

  get deliveredBytes(): number {
    return this.#wire.deliveredBytes;
  }

  start(handler: PeerHandler): void {
    this.#handler = handler;
    this.#wire.start(this);
  }

  send(bytes: Uint8Array): boolean {
    return this.#wire.writeParts(encodePayload(bytes));
  }

  pause(): void {
    this.#isPaused = true;
    this.#wire.pause();
  }

  resume(): void {
    this.#isPaused = false;
    if (this.#unread.length > 0) this.#queue();
    else this.#wire.resume();
  }

  readLess(): void {
    this.#wire.readLess();
  }

  probe(): void {
    this.#wire.probe();
  }

  finish(code: CloseCode, hadPartner: boolean): void {
    this.#close(code, hadPartner);
  }

  destroy(): void {
    this.#wire.destroy();
  }

  onBytes(bytes: Uint8Array): void {
    this.#missedPings = 0;
    this.#deliveredAtSign = this.#wire.deliveredBytes;
    this.#linger?.discarded(bytes.length);
    if (this.#ignoresFrames) return;
    if (this.#unread.length > 0) {
      this.#keepUnread(Buffer.concat([this.#unread, bytes]));
      return;
    }
    const { isBusy } = this.#backlog;
    const taken = this.#readFrames(bytes, isBusy ? FRAMES_WHILE_BUSY : FRAMES_AT_ONCE);
    if (taken < bytes.length) this.#postpone(bytes.subarray(taken), isBusy);
  }

  onDrain(): void {
    this.#handler?.onDrain();
  }

  onEnd(): void {
    // Without a close frame before it. There is nothing to wait for.
    this.#handler?.onLeft();
    this.#wire.end();
  }

  onLost(): void {
    clearInterval(this.#pingTimer);
    clearTimeout(this.#settleTimer);
    this.#linger?.cancel();
    this.#keepUnread(NOTHING);
    // Whoever leaves behind a token alone has said all that an unsided client says.
    this.#settle();
    this.#handler?.onLost();
  }

  onPayload(bytes: Uint8Array, endsMessage: boolean): void {
    if (this.#handshake === null) this.#pass(bytes);
    else this.#readHandshake(this.#handshake, bytes, endsMessage);
  }

  onPing(payload: Uint8Array): void {
    // Its memory is used again before the read is over.
    this.#lastPing = payload.length === 0 ? NOTHING : Uint8Array.from(payload);
  }

  onPong(): void {
    // Any bytes are a sign of life, and these were counted already.
    this.#answersPings = true;
  }

  onText(): void {
    this.#handler?.onText();
    // Nothing of it is read any more, not even its goodbye.
    this.#wire.end();
  }

  onClose(code: number): void {
    this.#close(code, false);
    this.#handler?.onLeft();
    this.#wire.end();
  }

  onFault(fault: FrameFault): void {
    this.onClose(fault);
  }

  /** Keeps frames for later. Nothing more is read until then. */
  #postpone(bytes: Uint8Array, isBusy: boolean): void {
    if (this.#linger !== null) {
      // None of them matters any more.
      this.#ignoresFrames = true;
      return;
    }
    // The read buffer is not ours to keep.
    this.#keepUnread(Uint8Array.from(bytes));
    if (!isBusy) this.#wire.readLess();
    this.#wire.pause();
    this.#queue();
  }

  /** Reads some frames, and returns how many bytes they were. */
  #readFrames(bytes: Uint8Array, maxFrames: number): number {
    const taken = this.#decoder.push(bytes, maxFrames);
    // A pong for the most recent ping is enough (RFC 6455, 5.5.3), and each one is a system call.
    const ping = this.#lastPing;
    this.#lastPing = null;
    // A client that does not take its answers gets no more of them: nothing piles up.
    if (ping !== null && this.#wire.heldBytes === 0 && !this.#saidClose) this.#wire.write(encodePong(ping));
    return taken;
  }

  #queue(): void {
    if (this.#isQueued) return;
    this.#isQueued = true;
    this.#backlog.defer(() => {
      this.#isQueued = false;
      this.#readOn();
    });
  }

  /** Reads the next few of the unread frames. */
  #readOn(): void {
    const bytes = this.#unread;
    if (bytes.length === 0 || this.#isPaused) return;
    const taken = this.#readFrames(bytes, FRAMES_AT_ONCE);
    // The handler may have closed the connection.
    if (this.#unread.length === 0) return;
    this.#keepUnread(bytes.subarray(taken));
    if (this.#unread.length > 0) this.#queue();
    else if (!this.#isPaused) this.#wire.resume();
  }

  #keepUnread(bytes: Uint8Array): void {
    this.#backlog.hold(bytes.length - this.#unread.length);
    this.#unread = bytes;
  }

  #readHandshake(handshake: MessageHandshake, bytes: Uint8Array, endsMessage: boolean): void {
    // An empty message says nothing, and a client may send thousands of them.
    if (bytes.length === 0 && this.#message.length === 0) return;
    clearTimeout(this.#settleTimer);
    this.#message = Buffer.concat([this.#message, bytes]);
    // Longer than any line: whatever it is, it need not be whole to be judged.
    if (!endsMessage && this.#message.length <= MAX_LINE_BYTES) return;
    const stream = handshake.push(this.#message);
    this.#message = NOTHING;
    if (handshake.done) {
      this.#handshake = null;
      this.#decoder.keepMessagesApart = false;
    } else if (handshake.undecided) {
      this.#settleTimer = setTimeout(() => this.#settle(), SETTLE_MS);
    }
    this.#pass(stream);
  }

  #settle(): void {
    const handshake = this.#handshake;
    if (handshake !== null) this.#pass(handshake.settle());
  }

  #pass(bytes: Uint8Array): void {
    if (bytes.length > 0) this.#handler?.onData(bytes);
  }

  /** Says goodbye behind whatever was sent, and waits for the client to do so too. */
  #close(code: number, hadPartner: boolean): void {
    if (this.#saidClose) return;
    this.#saidClose = true;
    this.#linger = new Linger(this.#wire, lingerMsFor(hadPartner));
    this.#wire.write(encodeClose(code));
    this.resume();
  }

  #ping(): void {
    if (this.#saidClose) return;
    if (!this.#countsSilence) this.#missedPings = 0;
    if (this.#missedPings >= MAX_MISSED_PINGS) {
      this.destroy();
      return;
    }
    this.#missedPings += 1;
    if (this.#wire.heldBytes === 0) this.#wire.write(PING_FRAME);
  }

  /** An answer to the last ping would have been seen by now. */
  get #countsSilence(): boolean {
    if (this.#isPaused || !this.#answersPings) return false;
    const { heldBytes, deliveredBytes } = this.#wire;
    return heldBytes === 0 && deliveredBytes - this.#deliveredAtSign <= SMALL_BACKLOG_BYTES;
  }
}
