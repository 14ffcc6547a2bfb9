import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import { CLIENT_KEEPALIVE, EMPTY_BYTES } from './byte-stream.ts';
import type { ByteStream, ByteStreamHandler, KeepAlive } from './byte-stream.ts';

const EVENTS = ['data', 'drain', 'end', 'close'] as const;

/** A connection over Node's standard streams. Works everywhere, also with TLS, but copies more. */
export class NodeStream implements ByteStream {
  readonly kind: 'tcp' | 'unix';
  readonly #socket: Socket;
  readonly #underlying: Socket;
  #handler: ByteStreamHandler | null = null;

  /**
   * Takes over a socket, which must allow half-open connections.
   *
   * @param underlying the TCP socket below a TLS socket
   */
  constructor(socket: Socket, kind: 'tcp' | 'unix', underlying = socket) {
    this.#socket = socket;
    this.#underlying = underlying;
    this.kind = kind;
    // A reset needs no handling of its own: 'close' follows.
    socket.on('error', () => undefined);
    if (kind === 'tcp') socket.setNoDelay(true);
    this.setKeepAlive(CLIENT_KEEPALIVE);
  }

  get bufferedBytes(): number {
    // Destroying a socket drops its buffer.
    return this.#socket.destroyed ? 0 : this.#socket.writableLength;
  }

  get deliveredBytes(): number {
    return this.#socket.bytesWritten - this.#socket.writableLength;
  }

  get remoteAddress(): string | null {
    // The socket remembers it.
    return this.#socket.destroyed ? null : (this.#socket.remoteAddress ?? null);
  }

  /** The TLS handshake is not finished. */
  get #isHandshaking(): boolean {
    return this.#socket instanceof TLSSocket && this.#socket.getPeerFinished() === undefined;
  }

  start(handler: ByteStreamHandler): void {
    const isFirst = this.#handler === null;
    this.#handler = handler;
    if (!isFirst) return;
    const socket = this.#socket;
    socket.on('data', (bytes) => this.#handler?.onBytes(bytes));
    socket.on('drain', () => this.#handler?.onWritable());
    // After `end`, there is no `drain`.
    socket.on('finish', () => this.#handler?.onWritable());
    socket.on('end', () => this.#handler?.onEnd());
    socket.on('close', () => this.#handler?.onClose());
  }

  detach(): Socket {
    this.#socket.pause();
    for (const event of EVENTS) this.#socket.removeAllListeners(event);
    return this.#socket;
  }

  write(bytes: Uint8Array): boolean {
    // The stream keeps a reference to the bytes, and the caller will reuse their memory.
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

  limitReadSize(): void {
    // Streams read at most 64 KiB at a time anyway.
  }

  detectReset(): void {
    // Below TLS, because an empty write is not empty once encrypted.
    if (this.#socket.writable && this.#socket.writableLength === 0) this.#underlying.write(EMPTY_BYTES);
  }

  setKeepAlive({ delaySeconds, intervalSeconds, probes }: KeepAlive): void {
    if (this.kind === 'tcp')
      this.#socket.setKeepAlive(true, 1000 * delaySeconds, 1000 * intervalSeconds, probes);
  }

  end(): void {
    // Buffered bytes would wait for the end of the handshake, which may never come.
    if (this.#isHandshaking) this.#socket.destroy();
    this.#socket.end();
    this.#socket.resume();
  }

  abort(how?: 'reset'): void {
    // With an empty buffer, the client may still be reading bytes from the kernel, which a reset would drop.
    const canReset = this.kind === 'tcp' && !(this.#socket instanceof TLSSocket);
    if (canReset && (how === 'reset' || this.bufferedBytes > 0)) this.#socket.resetAndDestroy();
    else this.#socket.destroy();
  }
}
