import type { Socket } from 'node:net';
import type { CloseCode } from '../protocol/session.ts';
import { Linger } from './linger.ts';
import { KEEPALIVE_MS } from './peer.ts';
import type { Peer, PeerHandler } from './peer.ts';

const NOTHING = new Uint8Array(0);

/** A client that came by TCP or by a unix-domain socket: the stream is the payload. */
export class SocketPeer implements Peer {
  readonly transport: 'tcp' | 'unix';
  readonly #socket: Socket;
  #linger: Linger | null = null;

  /** Takes over an accepted socket, which must allow half-open connections. */
  constructor(socket: Socket, transport: 'tcp' | 'unix') {
    this.#socket = socket;
    this.transport = transport;
    if (transport === 'tcp') {
      socket.setNoDelay(true);
      socket.setKeepAlive(true, KEEPALIVE_MS);
    }
  }

  get heldBytes(): number {
    return this.#socket.writableLength;
  }

  get deliveredBytes(): number {
    return this.#socket.bytesWritten - this.#socket.writableLength;
  }

  start(handler: PeerHandler): void {
    const socket = this.#socket;
    socket.on('data', (bytes) => handler.onData(bytes));
    socket.on('drain', () => handler.onDrain());
    socket.on('end', () => handler.onLeft());
    // A reset is an end like any other; what matters is that 'close' follows.
    socket.on('error', () => undefined);
    socket.on('close', () => {
      this.#linger?.cancel();
      handler.onLost();
    });
  }

  send(bytes: Uint8Array): boolean {
    return this.#socket.write(bytes);
  }

  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  probe(): void {
    // A write of nothing puts nothing on the wire, but the kernel reports a pending reset for it.
    if (this.#socket.writable && this.#socket.writableLength === 0) this.#socket.write(NOTHING);
  }

  finish(_code: CloseCode): void {
    if (this.#linger !== null || this.#socket.destroyed) return;
    this.#linger = new Linger(
      () => this.deliveredBytes,
      () => this.destroy(),
    );
    this.#socket.end();
    this.#socket.resume();
  }

  destroy(): void {
    // With nothing held the client may still be reading what the kernel has for it: no reset then.
    if (this.transport === 'tcp' && this.heldBytes > 0) this.#socket.resetAndDestroy();
    else this.#socket.destroy();
  }
}
