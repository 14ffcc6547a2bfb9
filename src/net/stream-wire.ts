import type { Socket } from 'node:net';
import { KEEPALIVE_MS, NOTHING } from './wire.ts';
import type { Wire, WireHandler } from './wire.ts';

/** A connection by way of Node's ordinary streams. Works everywhere, and copies more. */
export class StreamWire implements Wire {
  readonly kind: 'tcp' | 'unix';
  readonly #socket: Socket;

  /** Takes over a socket, which must allow half-open connections. */
  constructor(socket: Socket, kind: 'tcp' | 'unix') {
    this.#socket = socket;
    this.kind = kind;
    if (kind === 'tcp') {
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

  start(handler: WireHandler): void {
    const socket = this.#socket;
    socket.on('data', (bytes) => handler.onBytes(bytes));
    socket.on('drain', () => handler.onDrain());
    socket.on('end', () => handler.onEnd());
    // A reset is an end like any other; what matters is that 'close' follows.
    socket.on('error', () => undefined);
    socket.on('close', () => handler.onLost());
  }

  write(bytes: Uint8Array): boolean {
    // A stream keeps what it is given, and the memory is not ours to give.
    return this.#socket.write(Buffer.from(bytes));
  }

  writeParts(parts: readonly Uint8Array[]): boolean {
    return this.#socket.write(Buffer.concat(parts));
  }

  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  readLess(): void {
    // Streams read 64 KiB at the most anyway.
  }

  probe(): void {
    if (this.#socket.writable && this.#socket.writableLength === 0) this.#socket.write(NOTHING);
  }

  end(): void {
    this.#socket.end();
    this.#socket.resume();
  }

  destroy(): void {
    // With nothing held the client may still be reading what the kernel has for it: no reset then.
    if (this.kind === 'tcp' && this.heldBytes > 0) this.#socket.resetAndDestroy();
    else this.#socket.destroy();
  }
}
