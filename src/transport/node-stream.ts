import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import { CLIENT_KEEPALIVE, EMPTY_BYTES } from './byte-stream.ts';
import type { AddressPair, ByteStream, ByteStreamHandler, KeepAlive } from './byte-stream.ts';

const EVENTS = ['data', 'drain', 'end', 'close'] as const;

/** A connection by way of Node's ordinary streams. Works everywhere, with TLS too, and copies more. */
export class NodeStream implements ByteStream {
  readonly kind: 'tcp' | 'unix';
  readonly #socket: Socket;
  readonly #underlying: Socket;
  #handler: ByteStreamHandler | null = null;

  /**
   * Takes over a socket, which must allow half-open connections.
   *
   * @param below the one that TLS was put on
   */
  constructor(socket: Socket, kind: 'tcp' | 'unix', below = socket) {
    this.#socket = socket;
    this.#underlying = below;
    this.kind = kind;
    // A reset is an end like any other; what matters is that 'close' follows.
    socket.on('error', () => undefined);
    if (kind === 'tcp') socket.setNoDelay(true);
    this.setKeepAlive(CLIENT_KEEPALIVE);
  }

  get bufferedBytes(): number {
    // What was held is lost then.
    return this.#socket.destroyed ? 0 : this.#socket.writableLength;
  }

  get deliveredBytes(): number {
    return this.#socket.bytesWritten - this.#socket.writableLength;
  }

  get addresses(): AddressPair | null {
    const { remoteAddress, localAddress } = this.#socket;
    if (remoteAddress === undefined || localAddress === undefined) return null;
    return { remote: remoteAddress, local: localAddress };
  }

  /** TLS is not ready yet. */
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
    socket.on('end', () => this.#handler?.onEnd());
    socket.on('close', () => this.#handler?.onClose());
  }

  detach(): Socket {
    this.#socket.pause();
    for (const event of EVENTS) this.#socket.removeAllListeners(event);
    return this.#socket;
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

  limitReadSize(): void {
    // Streams read 64 KiB at the most anyway.
  }

  detectReset(): void {
    // Below TLS: nothing, encrypted, is something.
    if (this.#socket.writable && this.#socket.writableLength === 0) this.#underlying.write(EMPTY_BYTES);
  }

  setKeepAlive({ delaySeconds, intervalSeconds, probes }: KeepAlive): void {
    if (this.kind === 'tcp')
      this.#socket.setKeepAlive(true, 1000 * delaySeconds, 1000 * intervalSeconds, probes);
  }

  end(): void {
    // What is held would wait for the end of the handshake, which need not come.
    if (this.#isHandshaking) this.#socket.destroy();
    this.#socket.end();
    this.#socket.resume();
  }

  abort(): void {
    // With nothing held the client may still be reading what the kernel has for it: no reset then.
    const canReset = this.kind === 'tcp' && !(this.#socket instanceof TLSSocket);
    if (canReset && this.bufferedBytes > 0) this.#socket.resetAndDestroy();
    else this.#socket.destroy();
  }
}
