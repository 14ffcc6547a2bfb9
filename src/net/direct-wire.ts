import type { Socket } from 'node:net';
import { openSocket, startReading, stopReading, tryWrite, tryWriteParts } from './handle.ts';
import type { Handle } from './handle.ts';
import type { PoolReader, ReadPool } from './read-pool.ts';
import { KEEPALIVE_MS, NOTHING } from './wire.ts';
import type { Wire, WireHandler } from './wire.ts';

/** - `on`: it reads; - `parked`: it has read enough for this turn; - `paused`: it was told to stop */
type Reading = 'on' | 'parked' | 'paused';

/**
 * A connection that reads into the pool's one buffer and writes out of it: no memory of its own, no copy, one read and
 * one write for up to 1 MiB. Only what a receiver does not take at once is copied, and goes by way of the
 * socket's stream.
 */
export class DirectWire implements Wire, PoolReader {
  readonly kind: 'tcp' | 'unix';
  readonly #handle: Handle;
  readonly #socket: Socket;
  readonly #pool: ReadPool;
  #handler: WireHandler | null = null;
  #reading: Reading = 'on';
  #heldBytes = 0;
  #deliveredBytes = 0;
  step = 0;
  turn = 0;
  turnBytes = 0;

  constructor(handle: Handle, kind: 'tcp' | 'unix', pool: ReadPool) {
    this.kind = kind;
    this.#handle = handle;
    this.#pool = pool;
    this.#socket = openSocket(handle, {
      buffer: () => pool.view(this.step),
      callback: (bytesRead) => this.#read(bytesRead),
    });
    if (kind === 'tcp') {
      this.#socket.setNoDelay(true);
      this.#socket.setKeepAlive(true, KEEPALIVE_MS);
    }
  }

  get heldBytes(): number {
    return this.#heldBytes;
  }

  get deliveredBytes(): number {
    return this.#deliveredBytes;
  }

  start(handler: WireHandler): void {
    this.#handler = handler;
    const socket = this.#socket;
    socket.on('end', () => handler.onEnd());
    // A reset is an end like any other; what matters is that 'close' follows.
    socket.on('error', () => undefined);
    socket.on('close', () => {
      this.#pool.forget(this);
      this.#release(this.#heldBytes);
      handler.onLost();
    });
  }

  write(bytes: Uint8Array): boolean {
    const taken = this.#heldBytes > 0 ? 0 : tryWrite(this.#handle, bytes);
    this.#deliveredBytes += taken;
    if (taken === bytes.length) return true;
    this.#hold(Buffer.from(bytes.subarray(taken)));
    return false;
  }

  writeParts(parts: readonly Uint8Array[]): boolean {
    let taken = this.#heldBytes > 0 ? 0 : tryWriteParts(this.#handle, parts);
    this.#deliveredBytes += taken;
    const rest: Uint8Array[] = [];
    for (const part of parts) {
      if (taken < part.length) rest.push(part.subarray(taken));
      taken = Math.max(0, taken - part.length);
    }
    if (rest.length === 0) return true;
    this.#hold(Buffer.concat(rest));
    return false;
  }

  pause(): void {
    this.#reading = 'paused';
    stopReading(this.#handle);
    // It has brought more than its receiver takes.
    this.#setStep(Math.max(0, this.step - 1));
  }

  resume(): void {
    if (this.#reading !== 'paused') return;
    this.#reading = 'on';
    startReading(this.#handle);
  }

  unpark(): void {
    if (this.#reading !== 'parked') return;
    this.#reading = 'on';
    startReading(this.#handle);
  }

  shrinkTo(step: number): void {
    this.#setStep(step);
    this.#handle.useUserBuffer(this.#pool.view(step));
  }

  probe(): void {
    if (this.#socket.writable && this.#heldBytes === 0) this.#socket.write(NOTHING);
  }

  end(): void {
    this.#socket.end();
    this.resume();
  }

  destroy(): void {
    // With nothing held the client may still be reading what the kernel has for it: no reset then.
    if (this.kind === 'tcp' && this.#heldBytes > 0) this.#socket.resetAndDestroy();
    else this.#socket.destroy();
  }

  /** Returns whether to go on reading. */
  #read(bytesRead: number): boolean {
    const filled = bytesRead >= this.#pool.view(this.step).length;
    this.#handler?.onBytes(this.#pool.bytes(bytesRead));
    // The handler may have paused it.
    const reading: Reading = this.#reading;
    if (reading !== 'on') return false;
    const step = Math.min(this.#pool.largestStep, filled ? this.step + 1 : this.step);
    if (step !== this.step) this.#setStep(step);
    if (this.#pool.spend(this, bytesRead)) return true;
    this.#reading = 'parked';
    return false;
  }

  #setStep(step: number): void {
    this.step = step;
    this.#pool.noteStep(this);
  }

  #hold(bytes: Buffer): void {
    this.#heldBytes += bytes.length;
    this.#pool.hold(bytes.length);
    this.#socket.write(bytes, (error) => {
      if (this.#heldBytes === 0) return;
      this.#release(bytes.length);
      if (error !== null && error !== undefined) return;
      this.#deliveredBytes += bytes.length;
      if (this.#heldBytes === 0) this.#handler?.onDrain();
    });
  }

  #release(bytes: number): void {
    this.#heldBytes -= bytes;
    this.#pool.hold(-bytes);
  }
}
