import { READ_END, tryWrite, tryWriteParts } from './handle.ts';
import type { Handle, Handles } from './handle.ts';
import type { PoolReader, ReadPool } from './read-pool.ts';
import { KEEPALIVE_MS, NOTHING } from './wire.ts';
import type { Wire, WireHandler } from './wire.ts';

/** - `on`: it reads; - `parked`: others read first; - `paused`: it was told to stop; - `ended`: a FIN has come */
type Reading = 'on' | 'parked' | 'paused' | 'ended';

/** - `open`; - `ending`: a FIN goes out behind what is held; - `ended`: it has gone out; - `closed` */
type Writing = 'open' | 'ending' | 'ended' | 'closed';

/**
 * A connection that reads into the pool's one buffer and writes out of it: no memory of its own, no copy, one read and
 * one write for up to 1 MiB. Only what a receiver does not take at once is copied, and written when it does.
 */
export class DirectWire implements Wire, PoolReader {
  readonly kind: 'tcp' | 'unix';
  readonly #handle: Handle;
  readonly #handles: Handles;
  readonly #pool: ReadPool;
  #handler: WireHandler | null = null;
  #reading: Reading = 'paused';
  #writing: Writing = 'open';
  #heldBytes = 0;
  #deliveredBytes = 0;
  step = 0;
  turn = 0;
  turnBytes = 0;
  spellBytes = 0;

  constructor(handle: Handle, kind: 'tcp' | 'unix', handles: Handles, pool: ReadPool) {
    this.kind = kind;
    this.#handle = handle;
    this.#handles = handles;
    this.#pool = pool;
    handle.onread = () => this.#read();
    handle.useUserBuffer(pool.view(0));
    handle.setNoDelay?.(true);
    handle.setKeepAlive?.(true, KEEPALIVE_MS / 1000);
  }

  get heldBytes(): number {
    return this.#heldBytes;
  }

  get deliveredBytes(): number {
    return this.#deliveredBytes;
  }

  start(handler: WireHandler): void {
    this.#handler = handler;
    this.resume();
  }

  write(bytes: Uint8Array): boolean {
    if (this.#writing !== 'open') return true;
    const taken = this.#heldBytes > 0 ? 0 : tryWrite(this.#handle, bytes);
    if (taken < 0) return this.#fail();
    this.#deliveredBytes += taken;
    if (taken === bytes.length) return true;
    return this.#hold(Buffer.from(bytes.subarray(taken)));
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
    this.#stop('paused');
    // It has brought more than its receiver takes.
    this.#setStep(Math.max(0, this.step - 1));
  }

  resume(): void {
    if (this.#reading === 'paused') this.#go();
  }

  unpark(): void {
    if (this.#reading === 'parked') this.#go();
  }

  shrinkTo(step: number): void {
    this.#setStep(step);
    if (this.#writing !== 'closed') this.#handle.useUserBuffer(this.#pool.view(step));
  }

  probe(): void {
    if (this.#writing === 'open' && this.#heldBytes === 0 && tryWrite(this.#handle, NOTHING) < 0)
      this.#fail();
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
    this.#pool.forget(this);
    this.#release(this.#heldBytes);
    const done = (): void => this.#handler?.onLost();
    if (!wantsReset || this.#handle.reset?.(done) !== 0) this.#handle.close(done);
  }

  /** Takes what a read has brought, and returns the memory for the next one. */
  #read(): Uint8Array | undefined {
    const count = this.#handles.readResult();
    if (count === 0 || this.#writing === 'closed') return undefined;
    if (count < 0) {
      if (count === READ_END) this.#end();
      else this.destroy();
      return undefined;
    }
    const before = this.step;
    this.#handler?.onBytes(this.#pool.bytes(count));
    // The handler may have paused or closed it.
    if (this.#reading === 'on') {
      const isFilled = count >= this.#pool.view(before).length;
      const step = Math.min(this.#pool.largestStep, isFilled ? before + 1 : before);
      if (step !== this.step) this.#setStep(step);
      if (!this.#pool.spend(this, count)) this.#stop('parked');
    }
    return this.step === before ? undefined : this.#pool.view(this.step);
  }

  #end(): void {
    this.#reading = 'ended';
    this.#handler?.onEnd();
    if (this.#writing === 'ended') this.destroy();
  }

  #go(): void {
    this.#reading = 'on';
    if (this.#writing !== 'closed') this.#handle.readStart();
  }

  #stop(reading: 'parked' | 'paused'): void {
    this.#reading = reading;
    if (this.#writing !== 'closed') this.#handle.readStop();
  }

  #setStep(step: number): void {
    this.step = step;
    this.#pool.noteStep(this);
  }

  /** Keeps bytes until the kernel takes them. True where it has taken them meanwhile: then there is no `onDrain`. */
  #hold(bytes: Uint8Array): boolean {
    this.#heldBytes += bytes.length;
    this.#pool.hold(bytes.length);
    let isReturned = false;
    this.#handles.write(this.#handle, bytes, (worked) => {
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
