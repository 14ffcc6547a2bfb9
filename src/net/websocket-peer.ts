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
import { Linger } from './linger.ts';
import type { Peer, PeerHandler } from './peer.ts';
import { unmask } from './unmask.ts';
import type { Wire, WireHandler } from './wire.ts';
import { NOTHING } from './wire.ts';

/** Pings that may stay unanswered before a silent client counts as gone. */
const MAX_MISSED_PINGS = 2;

/**
 * The same for a client that was sent more than `SMALL_BACKLOG_BYTES` since its last sign of life: a ping
 * waits in line behind the payload, and a slow receiver may need minutes to come to it.
 */
const MAX_MISSED_PINGS_BEHIND_PAYLOAD = 20;

/** What any client takes in without reading: less than the smallest default receive buffer. */
const SMALL_BACKLOG_BYTES = 65_536;

/** Frames in one read that keep the event loop for longer than a large read of payload does: about 1 ms. */
const MANY_FRAMES = 1000;

/** Pings of one read that are answered one by one. */
const MAX_PONGS = 16;

/** How long a line that may be whole is given to go on, in milliseconds. */
const SETTLE_MS = 200;

export interface WebSocketPeerOptions {
  /** Time between pings, in milliseconds. */
  readonly pingIntervalMs: number;
}

/** A client that came by WebSocket: binary messages are the payload, and their boundaries mean nothing. */
export class WebSocketPeer implements Peer, WireHandler, FrameHandler {
  readonly transport = 'websocket';
  readonly #wire: Wire;
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
  #missedPings = 0;
  /** Pings of this read, and the last of them where they are too many. */
  #pings = 0;
  #lastPing: Uint8Array | null = null;
  #deliveredAtSign = 0;

  constructor(wire: Wire, options: WebSocketPeerOptions) {
    this.#wire = wire;
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
    this.#wire.resume();
  }

  readLess(): void {
    this.#wire.readLess();
  }

  probe(): void {
    this.#wire.probe();
  }

  finish(code: CloseCode): void {
    this.#close(code);
  }

  destroy(): void {
    this.#wire.destroy();
  }

  onBytes(bytes: Uint8Array): void {
    this.#missedPings = 0;
    this.#deliveredAtSign = this.#wire.deliveredBytes;
    if (this.#decoder.push(bytes) > MANY_FRAMES) this.#wire.readLess();
    this.#linger?.discarded(bytes.length);
    this.#answerLastPing();
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
    // Whoever leaves behind a token alone has said all that an unsided client says.
    this.#settle();
    this.#handler?.onLost();
  }

  onPayload(bytes: Uint8Array, endsMessage: boolean): void {
    if (this.#handshake === null) this.#pass(bytes);
    else this.#readHandshake(this.#handshake, bytes, endsMessage);
  }

  onPing(payload: Uint8Array): void {
    this.#pings += 1;
    if (this.#pings <= MAX_PONGS) this.#pong(payload);
    // It lies in memory that is moved about before the read is over.
    else this.#lastPing = Uint8Array.from(payload);
  }

  onPong(): void {
    // Any bytes are a sign of life, and these were counted already.
  }

  onText(): void {
    this.#handler?.onText();
    // Nothing of it is read any more, not even its goodbye.
    this.#wire.end();
  }

  onClose(code: number): void {
    this.#close(code);
    this.#handler?.onLeft();
    this.#wire.end();
  }

  onFault(fault: FrameFault): void {
    this.onClose(fault);
  }

  /** Of very many pings at once the last one is enough (RFC 6455, 5.5.3): each answer is a system call. */
  #answerLastPing(): void {
    const payload = this.#lastPing;
    this.#pings = 0;
    this.#lastPing = null;
    if (payload !== null) this.#pong(payload);
  }

  #pong(payload: Uint8Array): void {
    // A client that does not take its answers gets no more of them: nothing piles up.
    if (this.#wire.heldBytes === 0 && !this.#saidClose) this.#wire.write(encodePong(payload));
  }

  #readHandshake(handshake: MessageHandshake, bytes: Uint8Array, endsMessage: boolean): void {
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
  #close(code: number): void {
    if (this.#saidClose) return;
    this.#saidClose = true;
    this.#linger = new Linger(this.#wire);
    this.#wire.write(encodeClose(code));
    this.resume();
  }

  #ping(): void {
    if (this.#saidClose) return;
    // Answers of a client that is not read can't be seen, and silence means nothing then.
    if (this.#isPaused) this.#missedPings = 0;
    if (this.#missedPings >= this.#pingsAllowed()) {
      this.destroy();
      return;
    }
    this.#missedPings += 1;
    if (this.#wire.heldBytes === 0) this.#wire.write(PING_FRAME);
  }

  #pingsAllowed(): number {
    const backlog = this.#wire.deliveredBytes + this.#wire.heldBytes - this.#deliveredAtSign;
    return backlog > SMALL_BACKLOG_BYTES ? MAX_MISSED_PINGS_BEHIND_PAYLOAD : MAX_MISSED_PINGS;
  }
}
