import { Duplex } from 'node:stream';
import type { ByteStream } from './byte-stream.ts';

/**
 * One HTTP request head and its answer, as the stream that Node's HTTP server wants. It reads nothing from the wire: the head
 * is all that the parser gets. What is written goes to the wire at once.
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

  /** Lets the HTTP server release what it holds for this stream. The wire stays as it is. */
  detach(): void {
    this.#isDetached = true;
    this.destroy();
  }

  override _read(): void {
    // There is nothing but the head.
  }

  override _write(bytes: Uint8Array, _encoding: BufferEncoding, written: () => void): void {
    if (!this.#isDetached) {
      this.#hasWritten = true;
      // Answers are short: where the kernel does not take one at once, the wire holds it.
      this.#stream.write(bytes);
    }
    written();
  }

  override _destroy(_error: Error | null, done: (error: Error | null) => void): void {
    // Every error here is caused by the client.
    done(null);
  }
}
