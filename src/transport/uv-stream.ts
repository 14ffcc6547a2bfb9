import type { Socket } from 'node:net';
import { EMPTY_BYTES } from './byte-stream.ts';
import type { ByteStream, ByteStreamHandler, KeepAlive } from './byte-stream.ts';
import { MIN_READ_BYTES } from './read-scheduler.ts';
import type { ReadFlow, ReadScheduler } from './read-scheduler.ts';
import { READ_EOF, socketFromHandle, tryRead, tryWrite, tryWriteParts } from './uv-handle.ts';
import type { UvHandle, UvHandles } from './uv-handle.ts';

/**
 * - `waiting`: libuv reads when bytes arrive
 * - `queued`: bulk data; the scheduler reads
 * - `paused`: not reading
 * - `ended`: a FIN was received
 */
type ReadState = 'waiting' | 'queued' | 'paused' | 'ended';

/** - `open`; - `ending`: a FIN will follow the buffered bytes; - `ended`: the FIN was sent; - `closed` */
type WriteState = 'open' | 'ending' | 'ended' | 'closed';

/**
 * A connection that reads into the scheduler's shared buffer and writes directly from it. It has no memory of
 * its own, and moves up to 512 KiB with one read and one write, without a copy. Only bytes that the receiver
 * does not accept at once are copied, and written when it does.
 */
export class UvStream implements ByteStream, ReadFlow {
  readonly kind: 'tcp' | 'unix';
  readonly #handle: UvHandle;
  readonly #uv: UvHandles;
  readonly #scheduler: ReadScheduler;
  #handler: ByteStreamHandler | null = null;
  #readState: ReadState = 'paused';
  #writeState: WriteState = 'open';
  /** False once its bytes have turned out to be slow to process. */
  #hasAdaptiveReads = true;
  #bufferedBytes = 0;
  #deliveredBytes = 0;
  sizeClass = 0;
  isQueued = false;
  servedBytes = 0;

  constructor(handle: UvHandle, kind: 'tcp' | 'unix', uv: UvHandles, scheduler: ReadScheduler) {
    this.kind = kind;
    this.#handle = handle;
    this.#uv = uv;
    this.#scheduler = scheduler;
    handle.onread = () => this.#onRead();
    handle.useUserBuffer(scheduler.bufferView(MIN_READ_BYTES));
  }

  get bufferedBytes(): number {
    return this.#bufferedBytes;
  }

  get deliveredBytes(): number {
    return this.#deliveredBytes;
  }

  get remoteAddress(): string | null {
    const peer: { address?: string } = {};
    return this.#handle.getpeername?.(peer) === 0 ? (peer.address ?? null) : null;
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
    // It sent more than its receiver accepts.
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
    const state: ReadState = this.#readState;
    if (state !== 'queued') return 0;
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

  abort(how?: 'reset'): void {
    if (this.#writeState === 'closed') return;
    // With an empty buffer, the client may still be reading bytes from the kernel, which a reset would drop.
    const wantsReset = how === 'reset' || this.#bufferedBytes > 0;
    this.#writeState = 'closed';
    this.#readState = 'ended';
    this.#releaseBuffered(this.#bufferedBytes);
    const done = (): void => this.#handler?.onClose();
    if (!wantsReset || this.#handle.reset?.(done) !== 0) this.#handle.close(done);
  }

  /** Handles a read of libuv. */
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
    // More bytes may be available, unless the handler has paused or closed the connection.
    if (this.#readState !== 'waiting') return;
    this.#handle.readStop();
    this.#enqueue();
  }

  /**
   * Called when libuv's small read was full: reads more after it, up to the current read size. Returns the
   * bytes of both reads. Ignores a FIN or an error, because libuv will report it too.
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
    // Thousands of connections may end at the same moment.
    this.#scheduler.tasks.runOrDefer(() => {
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

  /**
   * Buffers bytes until the kernel accepts them. Returns true, and no `onWritable` follows, if it already
   * has.
   */
  #bufferWrite(bytes: Uint8Array): boolean {
    this.#bufferedBytes += bytes.length;
    this.#scheduler.bufferedBytes += bytes.length;
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
      this.#handler?.onWritable();
    });
    isReturned = true;
    return this.#bufferedBytes === 0;
  }

  #sendFin(): void {
    if (this.#readState === 'ended') {
      // Closing the connection sends the FIN too, with one system call less.
      this.abort();
      return;
    }
    this.#uv.shutdown(this.#handle, (worked) => {
      if (this.#writeState === 'closed') return;
      this.#writeState = 'ended';
      // If it failed, the client has already closed the connection.
      if (!worked || this.#readState === 'ended') this.abort();
    });
  }

  #releaseBuffered(bytes: number): void {
    this.#bufferedBytes -= bytes;
    this.#scheduler.bufferedBytes -= bytes;
  }

  /** The connection is closed, so the result of `write` does not matter. */
  #abortWrite(): true {
    this.abort();
    return true;
  }
}
