import { Socket } from 'node:net';
import type { Wire, WireHandler } from '../../src/net/wire.ts';

/** A wire without a connection: a test says what comes, and what is sent is lost. */
export class FedWire implements Wire {
  readonly kind = 'tcp';
  readonly ends = null;
  readonly heldBytes = 0;
  readonly deliveredBytes = 0;
  readonly #memory = new Uint8Array(65_536);
  #handler: WireHandler | null = null;

  /** Bytes come, all of them in the same memory. */
  feed(text: string): void {
    const bytes = this.#memory.subarray(0, text.length);
    Buffer.from(text, 'latin1').copy(bytes);
    this.#handler?.onBytes(bytes);
    bytes.fill(0);
  }

  start(handler: WireHandler): void {
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

  readLess(): void {
    // Whatever is fed is read.
  }

  probe(): void {
    // It can't be reset.
  }

  keepAlive(): void {
    // There is no network.
  }

  end(): void {
    this.#handler?.onEnd();
    this.destroy();
  }

  destroy(): void {
    this.#handler?.onLost();
    this.#handler = null;
  }
}
