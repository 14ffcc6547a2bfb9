import type { CloseCode } from '../protocol/session.ts';
import type { ByteStream, ByteStreamHandler } from './byte-stream.ts';
import type { ClientTransport, ClientTransportHandler, TransportKind } from './client-transport.ts';
import { Linger, lingerTimeoutMs } from './linger.ts';

/** A client connected by TCP or a unix-domain socket: its bytes are the payload. */
export class RawTransport implements ClientTransport, ByteStreamHandler {
  readonly #stream: ByteStream;
  #handler: ClientTransportHandler | null = null;
  #linger: Linger | null = null;

  constructor(stream: ByteStream) {
    this.#stream = stream;
  }

  get kind(): TransportKind {
    return this.#stream.kind;
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
    return this.#stream.write(bytes);
  }

  pause(): void {
    this.#stream.pause();
  }

  resume(): void {
    this.#stream.resume();
  }

  limitReadSize(): void {
    this.#stream.limitReadSize();
  }

  detectReset(): void {
    this.#stream.detectReset();
  }

  closeGracefully(_code: CloseCode, hadPartner: boolean): void {
    if (this.#linger !== null) return;
    this.#linger = new Linger(this.#stream, lingerTimeoutMs(hadPartner));
    this.#stream.end();
  }

  abort(how?: 'reset'): void {
    this.#stream.abort(how);
  }

  onBytes(bytes: Uint8Array): void {
    if (this.#linger === null) this.#handler?.onData(bytes);
    else this.#linger.onDiscarded(bytes.length);
  }

  onWritable(): void {
    this.#handler?.onWritable();
  }

  onEnd(): void {
    this.#handler?.onEnd();
  }

  onClose(): void {
    this.#linger?.cancel();
    this.#handler?.onClose();
  }
}
