import type { Socket } from 'node:net';
import type {
  AddressPair,
  KeepAlive,
  ByteStream,
  ByteStreamHandler,
} from '../../src/transport/byte-stream.ts';

/** A wire that is in a set until it is closed. */
export class WatchedWire implements ByteStream {
  readonly #wire: ByteStream;
  readonly #open: Set<ByteStream>;
  #isStarted = false;

  constructor(stream: ByteStream, open: Set<ByteStream>) {
    this.#wire = stream;
    this.#open = open;
    open.add(this);
  }

  get kind(): ByteStream['kind'] {
    return this.#wire.kind;
  }

  get bufferedBytes(): number {
    return this.#wire.bufferedBytes;
  }

  get deliveredBytes(): number {
    return this.#wire.deliveredBytes;
  }

  get addresses(): AddressPair | null {
    return this.#wire.addresses;
  }

  start(handler: ByteStreamHandler): void {
    this.#isStarted = true;
    this.#wire.start({
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
    return this.#wire.detach();
  }

  write(bytes: Uint8Array): boolean {
    return this.#wire.write(bytes);
  }

  writeParts(parts: readonly Uint8Array[]): boolean {
    return this.#wire.writeParts(parts);
  }

  pause(): void {
    this.#wire.pause();
  }

  resume(): void {
    this.#wire.resume();
  }

  limitReadSize(): void {
    this.#wire.limitReadSize();
  }

  detectReset(): void {
    this.#wire.detectReset();
  }

  setKeepAlive(settings: KeepAlive): void {
    this.#wire.setKeepAlive(settings);
  }

  end(): void {
    this.#wire.end();
  }

  abort(): void {
    // Nobody would be told.
    if (!this.#isStarted) this.#open.delete(this);
    this.#wire.abort();
  }
}
