import { Duplex } from 'node:stream';
import type { Wire } from './wire.ts';

/**
 * One HTTP request head and its answer, as the stream that Node's HTTP server wants. It reads nothing from the wire: the head
 * is all that the parser gets. What is written goes to the wire at once.
 */
export class WireStream extends Duplex {
  readonly #wire: Wire;
  #isDetached = false;
  #hasWritten = false;

  constructor(wire: Wire, head: Uint8Array) {
    super();
    this.#wire = wire;
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
      this.#wire.write(bytes);
    }
    written();
  }

  override _destroy(_error: Error | null, done: (error: Error | null) => void): void {
    // Every error here is caused by the client.
    done(null);
  }
}
