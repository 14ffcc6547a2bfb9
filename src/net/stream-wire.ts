import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import { CLIENT_KEEPALIVE, NOTHING } from './wire.ts';
import type { Ends, KeepAlive, Wire, WireHandler } from './wire.ts';

const EVENTS = ['data', 'drain', 'end', 'close'] as const;

/** A connection by way of Node's ordinary streams. Works everywhere, with TLS too, and copies more. */
export class StreamWire implements Wire {
  readonly kind: 'tcp' | 'unix';
  readonly #socket: Socket;
  readonly #below: Socket;
  #handler: WireHandler | null = null;

  /**
   * Takes over a socket, which must allow half-open connections.
   *
   * @param below the one that TLS was put on
   */
  constructor(socket: Socket, kind: 'tcp' | 'unix', below = socket) {
    this.#socket = socket;
    this.#below = below;
    this.kind = kind;
    // A reset is an end like any other; what matters is that 'close' follows.
    socket.on('error', () => undefined);
    if (kind === 'tcp') socket.setNoDelay(true);
    this.keepAlive(CLIENT_KEEPALIVE);
  }

  get heldBytes(): number {
    // What was held is lost then.
    return this.#socket.destroyed ? 0 : this.#socket.writableLength;
  }

  get deliveredBytes(): number {
    return this.#socket.bytesWritten - this.#socket.writableLength;
  }

  get ends(): Ends | null {
    const { remoteAddress, localAddress } = this.#socket;
    if (remoteAddress === undefined || localAddress === undefined) return null;
    return { remote: remoteAddress, local: localAddress };
  }

  /** TLS is not ready yet. */
  get #isShakingHands(): boolean {
    return this.#socket instanceof TLSSocket && this.#socket.getPeerFinished() === undefined;
  }

  start(handler: WireHandler): void {
    const isFirst = this.#handler === null;
    this.#handler = handler;
    if (!isFirst) return;
    const socket = this.#socket;
    socket.on('data', (bytes) => this.#handler?.onBytes(bytes));
    socket.on('drain', () => this.#handler?.onDrain());
    socket.on('end', () => this.#handler?.onEnd());
    socket.on('close', () => this.#handler?.onLost());
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

  readLess(): void {
    // Streams read 64 KiB at the most anyway.
  }

  probe(): void {
    // Below TLS: nothing, encrypted, is something.
    if (this.#socket.writable && this.#socket.writableLength === 0) this.#below.write(NOTHING);
  }

  keepAlive({ delaySeconds, intervalSeconds, probes }: KeepAlive): void {
    if (this.kind === 'tcp')
      this.#socket.setKeepAlive(true, 1000 * delaySeconds, 1000 * intervalSeconds, probes);
  }

  end(): void {
    // What is held would wait for the end of the handshake, which need not come.
    if (this.#isShakingHands) this.#socket.destroy();
    this.#socket.end();
    this.#socket.resume();
  }

  destroy(): void {
    // With nothing held the client may still be reading what the kernel has for it: no reset then.
    const canReset = this.kind === 'tcp' && !(this.#socket instanceof TLSSocket);
    if (canReset && this.heldBytes > 0) this.#socket.resetAndDestroy();
    else this.#socket.destroy();
  }
}
