import type { Socket } from 'node:net';
import type { WebSocket } from 'ws';
import { MessageHandshake } from '../protocol/message-handshake.ts';
import type { CloseCode } from '../protocol/session.ts';
import { Linger } from './linger.ts';
import { KEEPALIVE_MS } from './peer.ts';
import type { Peer, PeerHandler } from './peer.ts';

/** The longest message a client is sent, in bytes: deployed Go clients fail on longer ones. */
export const MAX_MESSAGE_BYTES = 32_768;

/** Pings that may stay unanswered before a silent client counts as gone. */
const MAX_MISSED_PINGS = 2;

/**
 * The same for a client that was sent more than `SMALL_BACKLOG_BYTES` since its last sign of life: a ping
 * waits in line behind the payload, and a slow receiver may need minutes to come to it.
 */
const MAX_MISSED_PINGS_BEHIND_PAYLOAD = 20;

/** What any client takes in without reading: less than the smallest default receive buffer. */
const SMALL_BACKLOG_BYTES = 65_536;

/** How long a line that may be whole is given to go on, in milliseconds. */
const SETTLE_MS = 200;

export interface WebSocketPeerOptions {
  /** Time between pings, in milliseconds. */
  readonly pingIntervalMs: number;
}

/** A client that came by WebSocket: binary messages are the payload, and their boundaries mean nothing. */
export class WebSocketPeer implements Peer {
  readonly transport = 'websocket';
  readonly #ws: WebSocket;
  readonly #socket: Socket;
  readonly #pingTimer: NodeJS.Timeout;
  readonly #handshake = new MessageHandshake();
  #settleTimer: NodeJS.Timeout | undefined;
  #linger: Linger | null = null;
  #missedPings = 0;
  #writtenAtSign = 0;
  #handler: PeerHandler | null = null;

  /** @param socket the socket below `ws`, which alone can tell when it has drained. */
  constructor(ws: WebSocket, socket: Socket, options: WebSocketPeerOptions) {
    this.#ws = ws;
    this.#socket = socket;
    socket.setNoDelay(true);
    socket.setKeepAlive(true, KEEPALIVE_MS);
    this.#pingTimer = setInterval(() => this.#ping(), options.pingIntervalMs);
  }

  get heldBytes(): number {
    return this.#socket.writableLength;
  }

  get deliveredBytes(): number {
    return this.#socket.bytesWritten - this.#socket.writableLength;
  }

  start(handler: PeerHandler): void {
    const ws = this.#ws;
    this.#handler = handler;
    // binaryType "nodebuffer" is the default: one Buffer a message.
    ws.on('message', (data: Buffer, isBinary: boolean) => {
      this.#alive();
      if (isBinary) this.#receive(data);
      else handler.onText();
    });
    ws.on('pong', () => this.#alive());
    // Frames that break the protocol: ws answers with the right close code and reads no further.
    ws.on('error', () => handler.onLeft());
    ws.on('close', () => this.#lost());
    this.#socket.on('drain', () => handler.onDrain());
  }

  send(bytes: Uint8Array): boolean {
    for (let at = 0; at < bytes.length; at += MAX_MESSAGE_BYTES) {
      this.#ws.send(bytes.subarray(at, at + MAX_MESSAGE_BYTES), { binary: true });
    }
    return !this.#socket.writableNeedDrain;
  }

  pause(): void {
    this.#ws.pause();
  }

  resume(): void {
    this.#ws.resume();
  }

  probe(): void {
    if (this.#ws.readyState === this.#ws.OPEN && this.#socket.writableLength === 0) this.#ws.ping();
  }

  finish(code: CloseCode): void {
    if (this.#linger !== null || this.#ws.readyState === this.#ws.CLOSED) return;
    this.#linger = new Linger(
      () => this.deliveredBytes,
      () => this.destroy(),
    );
    this.#ws.resume();
    this.#ws.close(code);
  }

  destroy(): void {
    this.#ws.terminate();
  }

  #receive(message: Uint8Array): void {
    if (this.#handshake.done) {
      this.#pass(message);
      return;
    }
    clearTimeout(this.#settleTimer);
    this.#pass(this.#handshake.push(message));
    if (this.#handshake.undecided) {
      this.#settleTimer = setTimeout(() => this.#pass(this.#handshake.settle()), SETTLE_MS);
    }
  }

  #pass(bytes: Uint8Array): void {
    if (bytes.length > 0) this.#handler?.onData(bytes);
  }

  #lost(): void {
    clearInterval(this.#pingTimer);
    clearTimeout(this.#settleTimer);
    this.#linger?.cancel();
    // Whoever leaves behind a token alone has said all that an unsided client says.
    this.#pass(this.#handshake.settle());
    this.#handler?.onLost();
  }

  #alive(): void {
    this.#missedPings = 0;
    this.#writtenAtSign = this.#socket.bytesWritten;
  }

  #ping(): void {
    if (this.#ws.readyState !== this.#ws.OPEN) return;
    // Answers of a client that is not read can't be seen, and silence means nothing then.
    if (this.#ws.isPaused) {
      this.#alive();
    } else if (this.#missedPings >= this.#pingsAllowed()) {
      this.destroy();
      return;
    }
    this.#missedPings += 1;
    if (this.#socket.writableLength === 0) this.#ws.ping();
  }

  #pingsAllowed(): number {
    const backlog = this.#socket.bytesWritten - this.#writtenAtSign;
    return backlog > SMALL_BACKLOG_BYTES ? MAX_MISSED_PINGS_BEHIND_PAYLOAD : MAX_MISSED_PINGS;
  }
}
