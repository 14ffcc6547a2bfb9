import type { Socket } from 'node:net';
import { READ_END, endsOf, socketOf, tryRead, tryWrite, tryWriteParts } from './handle.ts';
import type { Handle, Handles } from './handle.ts';
import { SMALLEST_READ_BYTES } from './read-pool.ts';
import type { PoolReader, ReadPool } from './read-pool.ts';
import { NOTHING } from './wire.ts';
import type { Ends, KeepAlive, Wire, WireHandler } from './wire.ts';

/**
 * - `waiting`: libuv reads when something comes; - `queued`: it has plenty, and the pool reads when it is its turn;
 * - `paused`: it was told to stop; - `ended`: a FIN has come
 */
type Reading = 'waiting' | 'queued' | 'paused' | 'ended';

/** - `open`; - `ending`: a FIN goes out behind what is held; - `ended`: it has gone out; - `closed` */
type Writing = 'open' | 'ending' | 'ended' | 'closed';

/**
 * A connection that reads into the pool's one buffer and writes out of it: no memory of its own, no copy, one read and
 * one write for up to 512 KiB. Only what a receiver does not take at once is copied, and written when it does.
 */
export class DirectWire implements Wire, PoolReader {
  readonly kind: 'tcp' | 'unix';
  readonly #handle: Handle;
  readonly #handles: Handles;
  readonly #pool: ReadPool;
  #handler: WireHandler | null = null;
  #reading: Reading = 'paused';
  #writing: Writing = 'open';
  /** False once its bytes have proved slow to deal with. */
  #mayGrow = true;
  #heldBytes = 0;
  #deliveredBytes = 0;
  step = 0;
  isQueued = false;
  spellBytes = 0;

  constructor(handle: Handle, kind: 'tcp' | 'unix', handles: Handles, pool: ReadPool) {
    this.kind = kind;
    this.#handle = handle;
    this.#handles = handles;
    this.#pool = pool;
    handle.onread = () => this.#read();
    handle.useUserBuffer(pool.bytes(SMALLEST_READ_BYTES));
  }

  get heldBytes(): number {
    return this.#heldBytes;
  }

  get deliveredBytes(): number {
    return this.#deliveredBytes;
  }

  get ends(): Ends | null {
    return endsOf(this.#handle);
  }

  start(handler: WireHandler): void {
    const isFirst = this.#handler === null;
    this.#handler = handler;
    if (isFirst) this.resume();
  }

  detach(): Socket {
    if (this.#reading === 'waiting') this.#handle.readStop();
    this.#reading = 'ended';
    this.#writing = 'closed';
    this.#handler = null;
    return socketOf(this.#handle);
  }

  write(bytes: Uint8Array): boolean {
    if (this.#writing !== 'open') return true;
    const taken = this.#heldBytes > 0 ? 0 : tryWrite(this.#handle, bytes);
    if (taken < 0) return this.#fail();
    this.#deliveredBytes += taken;
    if (taken === bytes.length) return true;
    return this.#hold(this.#pool.held.copy(bytes.subarray(taken)));
  }

  writeParts(parts: readonly Uint8Array[]): boolean {
    if (this.#writing !== 'open') return true;
    let taken = this.#heldBytes > 0 ? 0 : tryWriteParts(this.#handle, parts);
    if (taken < 0) return this.#fail();
    this.#deliveredBytes += taken;
    const rest: Uint8Array[] = [];
    for (const part of parts) {
      if (taken < part.length) rest.push(part.subarray(taken));
      taken = Math.max(0, taken - part.length);
    }
    if (rest.length === 0) return true;
    return this.#hold(Buffer.concat(rest));
  }

  pause(): void {
    if (this.#reading === 'ended') return;
    if (this.#reading === 'waiting') this.#handle.readStop();
    this.#reading = 'paused';
    // It has brought more than its receiver takes.
    this.step = Math.max(0, this.step - 1);
  }

  resume(): void {
    if (this.#reading !== 'paused') return;
    if (this.step > 0) this.#queue();
    else this.#wait();
  }

  readLess(): void {
    this.#mayGrow = false;
    this.step = 0;
  }

  serve(memory: Uint8Array): number {
    if (this.#reading !== 'queued') return 0;
    const count = tryRead(this.#handle, memory);
    if (count < 0) this.#endReading(count === READ_END);
    if (count <= 0) return 0;
    this.#handler?.onBytes(memory.subarray(0, count));
    // The handler may have paused or closed it.
    const reading: Reading = this.#reading;
    if (reading !== 'queued') return 0;
    if (count === memory.length) this.#grow();
    return count;
  }

  leftQueue(): void {
    if (this.#reading === 'queued') this.#wait();
  }

  probe(): void {
    if (this.#writing === 'open' && this.#heldBytes === 0 && tryWrite(this.#handle, NOTHING) < 0)
      this.#fail();
  }

  keepAlive({ delaySeconds, intervalSeconds, probes }: KeepAlive): void {
    this.#handle.setKeepAlive?.(true, delaySeconds, intervalSeconds, probes);
  }

  end(): void {
    if (this.#writing !== 'open') return;
    this.#writing = 'ending';
    if (this.#heldBytes === 0) this.#sendFin();
    this.resume();
  }

  destroy(): void {
    if (this.#writing === 'closed') return;
    // With nothing held the client may still be reading what the kernel has for it: no reset then.
    const wantsReset = this.#heldBytes > 0;
    this.#writing = 'closed';
    this.#reading = 'ended';
    this.#release(this.#heldBytes);
    const done = (): void => this.#handler?.onLost();
    if (!wantsReset || this.#handle.reset?.(done) !== 0) this.#handle.close(done);
  }

  /** Takes what libuv has read. */
  #read(): void {
    const count = this.#handles.readResult();
    if (count === 0 || this.#writing === 'closed') return;
    if (count < 0) {
      this.#endReading(count === READ_END);
      return;
    }
    if (count < SMALLEST_READ_BYTES) {
      this.#handler?.onBytes(this.#pool.bytes(count));
      return;
    }
    this.#handler?.onBytes(this.#pool.bytes(this.#readMore()));
    // There may be more where this came from, unless the handler has paused or closed it.
    if (this.#reading !== 'waiting') return;
    this.#handle.readStop();
    this.#queue();
  }

  /**
   * libuv's small read is full: reads on behind it, as far as a read may go now. Returns the bytes of both. An end is left
   * to libuv, which will see it too.
   */
  #readMore(): number {
    const memory = this.#pool.bytes(this.#pool.readBytes(this.step));
    const rest = memory.subarray(SMALLEST_READ_BYTES);
    const more = rest.length === 0 ? 0 : Math.max(0, tryRead(this.#handle, rest));
    if (more === rest.length) this.#grow();
    return SMALLEST_READ_BYTES + more;
  }

  #grow(): void {
    if (this.#mayGrow) this.step = this.#pool.stepAbove(this.step);
  }

  #endReading(isFin: boolean): void {
    this.#reading = 'ended';
    // Thousands may end in the same moment.
    this.#pool.run(() => {
      if (this.#writing === 'closed') return;
      if (isFin) this.#handler?.onEnd();
      if (!isFin || this.#writing === 'ended') this.destroy();
    });
  }

  #wait(): void {
    this.#reading = 'waiting';
    if (this.#writing !== 'closed') this.#handle.readStart();
  }

  #queue(): void {
    this.#reading = 'queued';
    this.#pool.join(this);
  }

  /** Keeps bytes until the kernel takes them. True where it has taken them meanwhile: then there is no `onDrain`. */
  #hold(bytes: Uint8Array): boolean {
    this.#heldBytes += bytes.length;
    this.#pool.hold(bytes.length);
    let isReturned = false;
    this.#handles.write(this.#handle, bytes, (worked) => {
      this.#pool.held.giveBack(bytes);
      if (this.#writing === 'closed') return;
      this.#release(bytes.length);
      if (!worked) {
        this.destroy();
        return;
      }
      this.#deliveredBytes += bytes.length;
      if (this.#heldBytes > 0 || !isReturned) return;
      if (this.#writing === 'ending') this.#sendFin();
      else this.#handler?.onDrain();
    });
    isReturned = true;
    return this.#heldBytes === 0;
  }

  #sendFin(): void {
    this.#handles.shutdown(this.#handle, (worked) => {
      if (this.#writing === 'closed') return;
      this.#writing = 'ended';
      // Where it did not work the client is gone already.
      if (!worked || this.#reading === 'ended') this.destroy();
    });
  }

  #release(bytes: number): void {
    this.#heldBytes -= bytes;
    this.#pool.hold(-bytes);
  }

  /** The client is gone. What `write` returns then does not matter. */
  #fail(): true {
    this.destroy();
    return true;
  }
}
