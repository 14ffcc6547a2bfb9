import type { Socket } from 'node:net';
import type { ByteStream, ByteStreamHandler, KeepAlive } from '../../src/transport/byte-stream.ts';

/** A byte stream that is in the set `open` until it is closed. */
export class TrackedStream implements ByteStream {
  readonly #stream: ByteStream;
  readonly #open: Set<ByteStream>;
  #isStarted = false;

  constructor(stream: ByteStream, open: Set<ByteStream>) {
    this.#stream = stream;
    this.#open = open;
    open.add(this);
  }

  get kind(): ByteStream['kind'] {
    return this.#stream.kind;
  }

  get bufferedBytes(): number {
    return this.#stream.bufferedBytes;
  }

  get deliveredBytes(): number {
    return this.#stream.deliveredBytes;
  }

  get remoteAddress(): string | null {
    return this.#stream.remoteAddress;
  }

  start(handler: ByteStreamHandler): void {
    this.#isStarted = true;
    this.#stream.start({
      onBytes: (bytes) => handler.onBytes(bytes),
      onWritable: () => handler.onWritable(),
      onEnd: () => handler.onEnd(),
      onClose: () => {
        this.#open.delete(this);
        handler.onClose();
      },
    });
  }

  detach(): Socket {
    return this.#stream.detach();
  }

  write(bytes: Uint8Array): boolean {
    return this.#stream.write(bytes);
  }

  writeParts(parts: readonly Uint8Array[]): boolean {
    return this.#stream.writeParts(parts);
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

  setKeepAlive(settings: KeepAlive): void {
    this.#stream.setKeepAlive(settings);
  }

  end(): void {
    this.#stream.end();
  }

  abort(): void {
    // Without a handler, the end is not reported.
    if (!this.#isStarted) this.#open.delete(this);
    this.#stream.abort();
  }
}
