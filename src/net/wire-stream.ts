import { Duplex } from 'node:stream';
import type { Arrival, ArrivalOwner } from './arrival.ts';
import { Linger } from './linger.ts';
import type { Wire, WireHandler } from './wire.ts';

const encoder = new TextEncoder();

/** A wire as a stream, for as long as an HTTP server needs one. */
export class WireStream extends Duplex implements WireHandler, ArrivalOwner {
  readonly arrival: Arrival;
  readonly #wire: Wire;
  readonly #gone: (arrival: Arrival) => void;
  #written: (() => void) | null = null;
  #linger: Linger | null = null;
  #isReleased = false;

  /**
   * @param firstBytes what has been read already
   * @param gone told when the connection is closed, unless it was released before
   */
  constructor(wire: Wire, arrival: Arrival, firstBytes: Uint8Array, gone: (arrival: Arrival) => void) {
    super({ allowHalfOpen: true });
    this.#wire = wire;
    this.#gone = gone;
    this.arrival = arrival;
    arrival.owner = this;
    wire.start(this);
    this.push(Uint8Array.from(firstBytes));
  }

  /** Where the connection comes from. Null for a unix-domain socket, and where it is gone. */
  get remoteAddress(): string | null {
    return this.#wire.ends?.remote ?? null;
  }

  get isUnix(): boolean {
    return this.#wire.kind === 'unix';
  }

  /** Ends the stream and gives the wire back, to be started anew. What was read and not used is the caller's. */
  release(): { readonly wire: Wire; readonly unread: Uint8Array } {
    const chunks: Uint8Array[] = [];
    for (let chunk: unknown = this.read(); chunk instanceof Uint8Array; chunk = this.read())
      chunks.push(chunk);
    this.#isReleased = true;
    this.destroy();
    this.#wire.resume();
    return { wire: this.#wire, unread: Buffer.concat(chunks) };
  }

  tooLate(): void {
    this.#dismiss('408 Request Timeout');
  }

  shutdown(): void {
    this.#dismiss('503 Service Unavailable');
  }

  cut(): void {
    this.#wire.destroy();
  }

  onBytes(bytes: Uint8Array): void {
    if (this.#linger !== null) {
      this.#linger.discarded(bytes.length);
      return;
    }
    // The read buffer is not ours to keep.
    if (!this.push(Uint8Array.from(bytes))) this.#wire.pause();
  }

  onDrain(): void {
    this.#goOn();
  }

  onEnd(): void {
    this.push(null);
  }

  onLost(): void {
    this.#linger?.cancel();
    this.#gone(this.arrival);
    this.#isReleased = true;
    this.destroy();
  }

  override _read(): void {
    if (!this.#isReleased) this.#wire.resume();
  }

  override _write(bytes: Uint8Array, _encoding: BufferEncoding, written: () => void): void {
    if (this.#wire.write(bytes)) written();
    else this.#written = written;
  }

  override _final(done: () => void): void {
    this.#linger = new Linger(this.#wire);
    this.#wire.end();
    done();
  }

  override _destroy(_error: Error | null, done: (error: Error | null) => void): void {
    this.#goOn();
    if (!this.#isReleased) this.#wire.destroy();
    // Whatever was wrong with it was the client's doing.
    done(null);
  }

  #dismiss(status: string): void {
    this.#wire.write(encoder.encode(`HTTP/1.1 ${status}\r\nconnection: close\r\n\r\n`));
    this.#wire.destroy();
  }

  #goOn(): void {
    const written = this.#written;
    this.#written = null;
    written?.();
  }
}
