import { Socket } from 'node:net';
import type { ByteStream, ByteStreamHandler } from '../../src/transport/byte-stream.ts';

/** A wire without a connection: a test says what comes, and what is sent is lost. */
export class ScriptedStream implements ByteStream {
  readonly kind = 'tcp';
  readonly addresses = null;
  readonly bufferedBytes = 0;
  readonly deliveredBytes = 0;
  readonly #memory = new Uint8Array(65_536);
  #handler: ByteStreamHandler | null = null;

  /** Bytes come, all of them in the same memory. */
  feed(text: string): void {
    const bytes = this.#memory.subarray(0, text.length);
    Buffer.from(text, 'latin1').copy(bytes);
    this.#handler?.onBytes(bytes);
    bytes.fill(0);
  }

  start(handler: ByteStreamHandler): void {
    this.#handler = handler;
  }

  write(): boolean {
    return true;
  }

  writeParts(): boolean {
    return true;
  }

  detach(): Socket {
    return new Socket();
  }

  pause(): void {
    // Whoever feeds it knows when.
  }

  resume(): void {
    // Nothing was kept back.
  }

  limitReadSize(): void {
    // Whatever is fed is read.
  }

  detectReset(): void {
    // It can't be reset.
  }

  setKeepAlive(): void {
    // There is no network.
  }

  end(): void {
    this.#handler?.onEnd();
    this.abort();
  }

  abort(): void {
    this.#handler?.onClose();
    this.#handler = null;
  }
}
