import type { Socket } from 'node:net';
import { TlsHandshakeQueue } from '../limits/tls-handshake-queue.ts';
import type { TlsHandshakeStep } from '../limits/tls-handshake-queue.ts';
import { EMPTY_BYTES } from './byte-stream.ts';
import type { ByteStream, ByteStreamHandler, KeepAlive } from './byte-stream.ts';
import { MAX_READ_BYTES, MIN_READ_BYTES } from './read-scheduler.ts';
import type { ReadScheduler } from './read-scheduler.ts';
import { TlsEngine } from './tls-engine.ts';
import type { TlsBindings, TlsCallbacks, TlsOptions } from './tls-engine.ts';

/** - `handshake`: can't send plaintext yet; - `open`; - `ended`: has sent `close_notify`; - `closed` */
type State = 'handshake' | 'open' | 'ended' | 'closed';

/** Maximum plaintext of one read: as much as its ciphertext, and the rest of an incomplete record. */
const MAX_PLAINTEXT_BYTES = MAX_READ_BYTES + 16_384;

/** Receives the result of a handshake. */
interface TlsHandshakeObserver {
  /** Data can be sent from now on. */
  onReady(): void;
  /** The handshake failed. `code` is from OpenSSL, such as `ERR_SSL_BAD_RECORD_TYPE`. */
  onFailed(code: string): void;
}

export interface TlsStreamOptions extends TlsOptions {
  /** Bytes that were already read from the underlying connection. */
  readonly firstBytes: Uint8Array;
  /**
   * Address of the client, by which its handshake is queued; null if unknown. Undefined: the handshake is not
   * queued.
   */
  readonly address?: string | null;
  readonly observer?: TlsHandshakeObserver;
}

/** A read with this many records and more framing than plaintext consists of records of a few bytes. */
const SMALL_RECORDS_THRESHOLD = 128;

/** Size of a full encrypted record with its header (RFC 8446, 5.2). */
const MAX_RECORD_BYTES = 16_384 + 256 + 5;

/**
 * Buffers and queues shared by all TLS connections of a process: only one of them decrypts or encrypts at a
 * time.
 */
export class SharedTlsState {
  readonly bindings: TlsBindings;
  /** Joins the records of one read, so that they are forwarded with one write. */
  readonly plaintext = Buffer.allocUnsafeSlow(MAX_PLAINTEXT_BYTES);
  readonly handshakes = new TlsHandshakeQueue(
    () => performance.now(),
    (run) => setImmediate(run),
  );
  readonly scheduler: ReadScheduler;

  constructor(bindings: TlsBindings, scheduler: ReadScheduler) {
    this.bindings = bindings;
    this.scheduler = scheduler;
  }
}

/**
 * TLS on top of another byte stream. The underlying stream schedules its reads and buffers its writes, so
 * that TLS connections share the scheduler and the buffer memory with all others.
 *
 * All records of one read are forwarded together, however small they are: if a client sends one byte per
 * record, the relay decrypts each record, but writes once.
 */
export class TlsStream implements ByteStream, ByteStreamHandler, TlsCallbacks, TlsHandshakeStep {
  readonly #underlying: ByteStream;
  readonly #shared: SharedTlsState;
  readonly #options: TlsStreamOptions;
  /** Null until the first handshake step, so that connections that wait for it need little memory. */
  #engine: TlsEngine | null = null;
  #handler: ByteStreamHandler | null = null;
  #state: State = 'handshake';
  /** Handshake ciphertext that was not processed yet. */
  #handshakeBytes: Uint8Array;
  /** A handshake step is queued. Reading is paused until it runs. */
  #isQueued = false;
  #isPaused = false;
  /** Its records are small, so that reads take long for the bytes that they bring. */
  #hasSmallRecords = false;
  /** Ciphertext that waits for a later event loop tick. Reading is paused until then. */
  #deferredCiphertext: Uint8Array | null = null;
  /** Plaintext bytes of the current read so far. */
  #plaintextBytes = 0;
  /** Records of the current read so far. */
  #recordCount = 0;
  /** Why the other end sends nothing more: `close_notify`, or an error. */
  #endReason: 'closed' | 'failed' | null = null;
  #isReadEnded = false;

  constructor(underlying: ByteStream, shared: SharedTlsState, options: TlsStreamOptions) {
    this.#underlying = underlying;
    this.#shared = shared;
    this.#options = options;
    this.#handshakeBytes = Uint8Array.from(options.firstBytes);
  }

  get kind(): ByteStream['kind'] {
    return this.#underlying.kind;
  }

  get remoteAddress(): string | null {
    return this.#underlying.remoteAddress;
  }

  get bufferedBytes(): number {
    return this.#underlying.bufferedBytes;
  }

  get deliveredBytes(): number {
    return this.#underlying.deliveredBytes;
  }

  start(handler: ByteStreamHandler): void {
    const isFirst = this.#handler === null;
    this.#handler = handler;
    if (!isFirst) return;
    this.#underlying.start(this);
    if (this.#options.role === 'client') this.#ensureEngine().start();
    this.#enqueueHandshakeStep();
  }

  detach(): Socket {
    throw new Error('a TLS stream has no socket to detach');
  }

  write(bytes: Uint8Array): boolean {
    return this.writeParts([bytes]);
  }

  writeParts(parts: readonly Uint8Array[]): boolean {
    if (this.#state !== 'open') return true;
    if (this.#engine?.write(parts) !== true) this.abort();
    return this.#underlying.bufferedBytes === 0;
  }

  pause(): void {
    this.#isPaused = true;
    this.#underlying.pause();
  }

  resume(): void {
    this.#isPaused = false;
    if (this.#deferredCiphertext === null) this.#underlying.resume();
    else this.#scheduleReceive();
  }

  limitReadSize(): void {
    this.#underlying.limitReadSize();
  }

  detectReset(): void {
    this.#underlying.detectReset();
  }

  setKeepAlive(settings: KeepAlive): void {
    this.#underlying.setKeepAlive(settings);
  }

  end(): void {
    if (this.#state === 'handshake') {
      this.abort();
      return;
    }
    if (this.#state !== 'open') return;
    this.#state = 'ended';
    this.#engine?.shutdown();
    this.#underlying.end();
  }

  abort(how?: 'reset'): void {
    this.#underlying.abort(how);
  }

  // Events of the underlying connection.

  onBytes(ciphertext: Uint8Array): void {
    if (this.#state === 'handshake') {
      // The next read reuses the memory of `ciphertext`.
      this.#handshakeBytes = Buffer.concat([this.#handshakeBytes, ciphertext]);
      this.#enqueueHandshakeStep();
    } else if (
      ciphertext.length <= MIN_READ_BYTES &&
      (this.#hasSmallRecords || this.#shared.scheduler.tasks.isBusy)
    ) {
      this.#deferReceive(ciphertext);
    } else {
      this.#receive(ciphertext);
    }
  }

  onWritable(): void {
    this.#handler?.onWritable();
  }

  onEnd(): void {
    if (this.#isReadEnded) return;
    this.#isReadEnded = true;
    this.#handler?.onEnd();
  }

  onClose(): void {
    if (this.#isQueued) this.#shared.handshakes.cancel(this.#options.address ?? null, this);
    this.#state = 'closed';
    this.#dropDeferred();
    this.#engine?.close();
    this.#handler?.onClose();
  }

  // Called by the handshake queue.

  run(): void {
    if (this.#state === 'closed') return;
    const ciphertext = this.#handshakeBytes;
    this.#handshakeBytes = EMPTY_BYTES;
    this.#isQueued = false;
    this.#ensureEngine();
    this.#underlying.resume();
    this.#receive(ciphertext);
  }

  reject(): void {
    this.abort();
  }

  // Called by OpenSSL during `receive` and `write`.

  onPlaintext(bytes: Uint8Array): void {
    this.#shared.plaintext.set(bytes, this.#plaintextBytes);
    this.#plaintextBytes += bytes.length;
    this.#recordCount += 1;
  }

  onCloseNotify(): void {
    this.#endReason ??= 'closed';
  }

  onHandshakeDone(): void {
    if (this.#state === 'handshake') this.#state = 'open';
  }

  onError(code: string): void {
    this.#endReason = 'failed';
    this.#options.observer?.onFailed(code);
  }

  onCiphertext(parts: readonly Uint8Array[]): void {
    this.#underlying.writeParts(parts);
  }

  #enqueueHandshakeStep(): void {
    if (this.#handshakeBytes.length === 0 || this.#isQueued) return;
    this.#isQueued = true;
    this.#underlying.pause();
    if (this.#options.address === undefined) this.run();
    else this.#shared.handshakes.enqueue(this.#options.address, this);
  }

  #ensureEngine(): TlsEngine {
    this.#engine ??= new TlsEngine(this.#shared.bindings, this.#options, this);
    return this.#engine;
  }

  #receive(ciphertext: Uint8Array): void {
    if (this.#state === 'closed' || this.#endReason === 'failed') return;
    const before = this.#state;
    this.#plaintextBytes = 0;
    this.#recordCount = 0;
    this.#engine?.receive(ciphertext);
    if (this.#state !== before) this.#options.observer?.onReady();
    const bytes = this.#plaintextBytes;
    // An incomplete record at the end of the read has no plaintext yet. It does not count as small.
    const isSmall = this.#recordCount >= SMALL_RECORDS_THRESHOLD && bytes < ciphertext.length / 2;
    if (isSmall || bytes < (ciphertext.length - MAX_RECORD_BYTES) / 2) this.#markSmallRecords();
    if (bytes > 0) this.#handler?.onBytes(this.#shared.plaintext.subarray(0, bytes));
    this.#applyEndReason();
  }

  /** Keeps event loop ticks short: defers the next reads of this stream, and those of others in this tick. */
  #markSmallRecords(): void {
    if (!this.#hasSmallRecords) this.#underlying.limitReadSize();
    this.#hasSmallRecords = true;
    this.#shared.scheduler.tasks.defer(() => undefined);
  }

  #deferReceive(ciphertext: Uint8Array): void {
    // The next read reuses the memory of `ciphertext`.
    this.#deferredCiphertext = Buffer.concat([this.#deferredCiphertext ?? EMPTY_BYTES, ciphertext]);
    this.#shared.scheduler.bufferedBytes += ciphertext.length;
    this.#underlying.pause();
    this.#scheduleReceive();
  }

  #scheduleReceive(): void {
    this.#shared.scheduler.tasks.defer(() => {
      const ciphertext = this.#deferredCiphertext;
      if (ciphertext === null || this.#isPaused) return;
      this.#dropDeferred();
      this.#underlying.resume();
      this.#receive(ciphertext);
    });
  }

  #dropDeferred(): void {
    this.#shared.scheduler.bufferedBytes -= this.#deferredCiphertext?.length ?? 0;
    this.#deferredCiphertext = null;
  }

  /** Applies what OpenSSL reported during `receive`, after the plaintext was passed on. */
  #applyEndReason(): void {
    if (this.#endReason === 'failed') this.abort();
    else if (this.#endReason === 'closed') this.onEnd();
  }
}
