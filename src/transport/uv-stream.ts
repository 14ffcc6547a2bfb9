import type { Socket } from 'node:net';
import { EMPTY_BYTES } from './byte-stream.ts';
import type { AddressPair, ByteStream, ByteStreamHandler, KeepAlive } from './byte-stream.ts';
import { MIN_READ_BYTES } from './read-scheduler.ts';
import type { ReadFlow, ReadScheduler } from './read-scheduler.ts';
import { READ_EOF, addressesOf, socketFromHandle, tryRead, tryWrite, tryWriteParts } from './uv-handle.ts';
import type { UvHandle, UvHandles } from './uv-handle.ts';

/**
 * - `waiting`: libuv reads when something comes; - `queued`: it has plenty, and the pool reads when it is its turn;
 * - `paused`: it was told to stop; - `ended`: a FIN has come
 */
type ReadState = 'waiting' | 'queued' | 'paused' | 'ended';

/** - `open`; - `ending`: a FIN goes out behind what is held; - `ended`: it has gone out; - `closed` */
type WriteState = 'open' | 'ending' | 'ended' | 'closed';

/**
 * A connection that reads into the pool's one buffer and writes out of it: no memory of its own, no copy, one read and
 * one write for up to 512 KiB. Only what a receiver does not take at once is copied, and written when it does.
 */
export class UvStream implements ByteStream, ReadFlow {
  readonly kind: 'tcp' | 'unix';
  readonly #handle: UvHandle;
  readonly #uv: UvHandles;
  readonly #scheduler: ReadScheduler;
  #handler: ByteStreamHandler | null = null;
  #readState: ReadState = 'paused';
  #writeState: WriteState = 'open';
  /** False once its bytes have proved slow to deal with. */
  #hasAdaptiveReads = true;
  #bufferedBytes = 0;
  #deliveredBytes = 0;
  sizeClass = 0;
  isQueued = false;
  servedBytes = 0;

  constructor(handle: UvHandle, kind: 'tcp' | 'unix', handles: UvHandles, pool: ReadScheduler) {
    this.kind = kind;
    this.#handle = handle;
    this.#uv = handles;
    this.#scheduler = pool;
    handle.onread = () => this.#onRead();
    handle.useUserBuffer(pool.bufferView(MIN_READ_BYTES));
  }

  get bufferedBytes(): number {
    return this.#bufferedBytes;
  }

  get deliveredBytes(): number {
    return this.#deliveredBytes;
  }

  get addresses(): AddressPair | null {
    return addressesOf(this.#handle);
  }

  start(handler: ByteStreamHandler): void {
    const isFirst = this.#handler === null;
    this.#handler = handler;
    if (isFirst) this.resume();
  }

  detach(): Socket {
    if (this.#readState === 'waiting') this.#handle.readStop();
    this.#readState = 'ended';
    this.#writeState = 'closed';
    this.#handler = null;
    return socketFromHandle(this.#handle);
  }

  write(bytes: Uint8Array): boolean {
    if (this.#writeState !== 'open') return true;
    const taken = this.#bufferedBytes > 0 ? 0 : tryWrite(this.#handle, bytes);
    if (taken < 0) return this.#abortWrite();
    this.#deliveredBytes += taken;
    if (taken === bytes.length) return true;
    return this.#bufferWrite(this.#scheduler.buffers.copy(bytes.subarray(taken)));
  }

  writeParts(parts: readonly Uint8Array[]): boolean {
    if (this.#writeState !== 'open') return true;
    let taken = this.#bufferedBytes > 0 ? 0 : tryWriteParts(this.#handle, parts);
    if (taken < 0) return this.#abortWrite();
    this.#deliveredBytes += taken;
    const rest: Uint8Array[] = [];
    for (const part of parts) {
      if (taken < part.length) rest.push(part.subarray(taken));
      taken = Math.max(0, taken - part.length);
    }
    if (rest.length === 0) return true;
    return this.#bufferWrite(Buffer.concat(rest));
  }

  pause(): void {
    if (this.#readState === 'ended') return;
    if (this.#readState === 'waiting') this.#handle.readStop();
    this.#readState = 'paused';
    // It has brought more than its receiver takes.
    this.sizeClass = Math.max(0, this.sizeClass - 1);
  }

  resume(): void {
    if (this.#readState !== 'paused') return;
    if (this.sizeClass > 0) this.#enqueue();
    else this.#pollForData();
  }

  limitReadSize(): void {
    this.#hasAdaptiveReads = false;
    this.sizeClass = 0;
  }

  serve(memory: Uint8Array): number {
    if (this.#readState !== 'queued') return 0;
    const count = tryRead(this.#handle, memory);
    if (count < 0) this.#endReading(count === READ_EOF);
    if (count <= 0) return 0;
    this.#handler?.onBytes(memory.subarray(0, count));
    // The handler may have paused or closed it.
    const reading: ReadState = this.#readState;
    if (reading !== 'queued') return 0;
    if (count === memory.length) this.#growReads();
    return count;
  }

  onDequeued(): void {
    if (this.#readState === 'queued') this.#pollForData();
  }

  detectReset(): void {
    if (this.#writeState === 'open' && this.#bufferedBytes === 0 && tryWrite(this.#handle, EMPTY_BYTES) < 0)
      this.#abortWrite();
  }

  setKeepAlive({ delaySeconds, intervalSeconds, probes }: KeepAlive): void {
    this.#handle.setKeepAlive?.(true, delaySeconds, intervalSeconds, probes);
  }

  end(): void {
    if (this.#writeState !== 'open') return;
    this.#writeState = 'ending';
    if (this.#bufferedBytes === 0) this.#sendFin();
    this.resume();
  }

  abort(): void {
    if (this.#writeState === 'closed') return;
    // With nothing held the client may still be reading what the kernel has for it: no reset then.
    const wantsReset = this.#bufferedBytes > 0;
    this.#writeState = 'closed';
    this.#readState = 'ended';
    this.#releaseBuffered(this.#bufferedBytes);
    const done = (): void => this.#handler?.onClose();
    if (!wantsReset || this.#handle.reset?.(done) !== 0) this.#handle.close(done);
  }

  /** Takes what libuv has read. */
  #onRead(): void {
    const count = this.#uv.readResult();
    if (count === 0 || this.#writeState === 'closed') return;
    if (count < 0) {
      this.#endReading(count === READ_EOF);
      return;
    }
    if (count < MIN_READ_BYTES) {
      this.#handler?.onBytes(this.#scheduler.bufferView(count));
      return;
    }
    this.#handler?.onBytes(this.#scheduler.bufferView(this.#fillBuffer()));
    // There may be more where this came from, unless the handler has paused or closed it.
    if (this.#readState !== 'waiting') return;
    this.#handle.readStop();
    this.#enqueue();
  }

  /**
   * libuv's small read is full: reads on behind it, as far as a read may go now. Returns the bytes of both. An end is left
   * to libuv, which will see it too.
   */
  #fillBuffer(): number {
    const memory = this.#scheduler.bufferView(this.#scheduler.readSizeBytes(this.sizeClass));
    const rest = memory.subarray(MIN_READ_BYTES);
    const more = rest.length === 0 ? 0 : Math.max(0, tryRead(this.#handle, rest));
    if (more === rest.length) this.#growReads();
    return MIN_READ_BYTES + more;
  }

  #growReads(): void {
    if (this.#hasAdaptiveReads) this.sizeClass = this.#scheduler.nextSizeClass(this.sizeClass);
  }

  #endReading(isFin: boolean): void {
    this.#readState = 'ended';
    // Thousands may end in the same moment.
    this.#scheduler.runOrDefer(() => {
      if (this.#writeState === 'closed') return;
      if (isFin) this.#handler?.onEnd();
      if (!isFin || this.#writeState === 'ended') this.abort();
    });
  }

  #pollForData(): void {
    this.#readState = 'waiting';
    if (this.#writeState !== 'closed') this.#handle.readStart();
  }

  #enqueue(): void {
    this.#readState = 'queued';
    this.#scheduler.enqueue(this);
  }

  /** Keeps bytes until the kernel takes them. True where it has taken them meanwhile: then there is no `onDrain`. */
  #bufferWrite(bytes: Uint8Array): boolean {
    this.#bufferedBytes += bytes.length;
    this.#scheduler.addBufferedBytes(bytes.length);
    let isReturned = false;
    this.#uv.write(this.#handle, bytes, (worked) => {
      this.#scheduler.buffers.release(bytes);
      if (this.#writeState === 'closed') return;
      this.#releaseBuffered(bytes.length);
      if (!worked) {
        this.abort();
        return;
      }
      this.#deliveredBytes += bytes.length;
      if (this.#bufferedBytes > 0 || !isReturned) return;
      if (this.#writeState === 'ending') this.#sendFin();
      else this.#handler?.onWritable();
    });
    isReturned = true;
    return this.#bufferedBytes === 0;
  }

  #sendFin(): void {
    this.#uv.shutdown(this.#handle, (worked) => {
      if (this.#writeState === 'closed') return;
      this.#writeState = 'ended';
      // Where it did not work the client is gone already.
      if (!worked || this.#readState === 'ended') this.abort();
    });
  }

  #releaseBuffered(bytes: number): void {
    this.#bufferedBytes -= bytes;
    this.#scheduler.addBufferedBytes(-bytes);
  }

  /** The client is gone. What `write` returns then does not matter. */
  #abortWrite(): true {
    this.abort();
    return true;
  }
}
