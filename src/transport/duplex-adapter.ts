import { Duplex } from 'node:stream';
import type { ByteStream } from './byte-stream.ts';

/**
 * One HTTP request head and its response, as the stream that Node's HTTP server needs. The HTTP parser gets
 * the head and nothing else: the adapter does not read from the connection. Writes go to the connection at
 * once.
 */
export class DuplexAdapter extends Duplex {
  readonly #stream: ByteStream;
  #isDetached = false;
  #hasWritten = false;

  constructor(stream: ByteStream, head: Uint8Array) {
    super();
    this.#stream = stream;
    this.push(head);
  }

  get hasWritten(): boolean {
    return this.#hasWritten;
  }

  /** Lets the HTTP server free its state for this stream. The connection stays open. */
  detach(): void {
    this.#isDetached = true;
    this.destroy();
  }

  override _read(): void {
    // The head is the only data.
  }

  override _write(bytes: Uint8Array, _encoding: BufferEncoding, written: () => void): void {
    if (!this.#isDetached) {
      this.#hasWritten = true;
      // Responses are short: the byte stream buffers what the kernel does not accept at once.
      this.#stream.write(bytes);
    }
    written();
  }

  override _destroy(_error: Error | null, done: (error: Error | null) => void): void {
    // Every error here is caused by the client.
    done(null);
  }
}
