import { Socket } from 'node:net';
import type { ByteStream, ByteStreamHandler } from '../../src/transport/byte-stream.ts';

/** A byte stream without a connection: the test supplies received bytes, and sent bytes are discarded. */
export class ScriptedStream implements ByteStream {
  readonly kind = 'tcp';
  readonly remoteAddress = null;
  readonly bufferedBytes: number = 0;
  readonly deliveredBytes: number = 0;
  /** Whether the code has paused it. The test decides all the same when bytes are received. */
  isPaused = false;
  readonly #memory = new Uint8Array(65_536);
  #handler: ByteStreamHandler | null = null;

  /** Receives `text`, always in the same memory. */
  feed(text: string): void {
    const bytes = this.#memory.subarray(0, text.length);
    Buffer.from(text, 'latin1').copy(bytes);
    this.#handler?.onBytes(bytes);
    bytes.fill(0);
  }

  start(handler: ByteStreamHandler): void {
    this.#handler = handler;
  }

  write(_bytes: Uint8Array): boolean {
    return true;
  }

  writeParts(): boolean {
    return true;
  }

  detach(): Socket {
    return new Socket();
  }

  pause(): void {
    this.isPaused = true;
  }

  resume(): void {
    this.isPaused = false;
  }

  limitReadSize(): void {
    // The test decides how many bytes are received.
  }

  detectReset(): void {
    // There is no connection to reset.
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
