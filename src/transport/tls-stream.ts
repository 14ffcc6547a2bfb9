import type { Socket } from 'node:net';
import { TlsHandshakeQueue } from '../limits/tls-handshake-queue.ts';
import type { TlsHandshakeStep } from '../limits/tls-handshake-queue.ts';
import { EMPTY_BYTES } from './byte-stream.ts';
import type { AddressPair, ByteStream, ByteStreamHandler, KeepAlive } from './byte-stream.ts';
import { MIN_READ_BYTES } from './read-scheduler.ts';
import type { DeferredWork } from './read-scheduler.ts';
import { TlsEngine } from './tls-engine.ts';
import type { TlsBindings, TlsCallbacks, TlsOptions } from './tls-engine.ts';

/** - `handshake`: no plaintext can be sent yet; - `open`; - `ended`: no more will be sent; - `closed` */
type State = 'handshake' | 'open' | 'ended' | 'closed';

/** Plaintext of one read: it is never more than its ciphertext, and a record that was not whole before. */
const MAX_PLAINTEXT_BYTES = 524_288 + 16_384;

/** Hears of the handshake. */
export interface TlsHandshakeObserver {
  /** Data can be sent from now on. */
  onReady(): void;
  /** There will be no connection. `code` is OpenSSL's, such as `ERR_SSL_BAD_RECORD_TYPE`. */
  onFailed(code: string): void;
}

export interface TlsStreamOptions extends TlsOptions {
  /** What has been read from the connection below already. */
  readonly firstBytes: Uint8Array;
  /** Where the client is; null where that is not known. Its handshake waits for its turn. Undefined: it does not. */
  readonly address?: string | null;
  readonly observer?: TlsHandshakeObserver;
}

/** A read that brings this many records, with more framing than plaintext, has records of a few bytes. */
const SMALL_RECORDS_THRESHOLD = 128;

/** A full record of ciphertext with its header (RFC 8446, 5.2). */
const MAX_RECORD_BYTES = 16_384 + 256 + 5;

/** What all TLS connections of a process share: only one of them decrypts or encrypts at a time. */
export class SharedTlsState {
  readonly bindings: TlsBindings;
  /** Where the records of one read are joined, so that they are sent on with one write. */
  readonly plaintext = Buffer.allocUnsafeSlow(MAX_PLAINTEXT_BYTES);
  /** Where the parts of one write are joined: OpenSSL makes full records of one piece. */
  readonly outgoing = Buffer.allocUnsafeSlow(MAX_PLAINTEXT_BYTES);
  readonly handshakes = new TlsHandshakeQueue(
    () => performance.now(),
    (run) => setImmediate(run),
  );
  /** Where reads wait that would make this turn of the event loop too long. */
  readonly deferredWork: DeferredWork;

  constructor(bindings: TlsBindings, deferredWork: SharedTlsState['deferredWork']) {
    this.bindings = bindings;
    this.deferredWork = deferredWork;
  }
}

/**
 * TLS on top of another connection. That one reads when the scheduler allows it, and holds what its receiver does not take, so that
 * TLS connections share both with all others.
 *
 * The records of one read become one piece of plaintext, however small they are: a client that sends a byte in each makes
 * the relay decrypt each, but pass them on once.
 */
export class TlsStream implements ByteStream, ByteStreamHandler, TlsCallbacks, TlsHandshakeStep {
  readonly #underlying: ByteStream;
  readonly #shared: SharedTlsState;
  readonly #options: TlsStreamOptions;
  /** Null until the first handshake step: connections that wait for theirs need little memory. */
  #engine: TlsEngine | null = null;
  #handler: ByteStreamHandler | null = null;
  #state: State = 'handshake';
  /** Ciphertext of the handshake that has not been looked at. */
  #handshakeBytes: Uint8Array;
  /** A step of the handshake waits for its turn; nothing is read until then. */
  #isQueued = false;
  #isPaused = false;
  /** Its records are small, so that each read takes long for what it brings. */
  #hasSmallRecords = false;
  /** Ciphertext that waits for a later turn of the event loop; nothing is read until then. */
  #deferredCiphertext: Uint8Array | null = null;
  /** Bytes of plaintext that the current read has brought so far. */
  #plaintextBytes = 0;
  /** Records that the current read has brought so far. */
  #recordCount = 0;
  /** Why the client sends nothing more: `close_notify`, or a fault. */
  #endReason: 'closed' | 'failed' | null = null;
  #isReadEnded = false;

  constructor(below: ByteStream, context: SharedTlsState, options: TlsStreamOptions) {
    this.#underlying = below;
    this.#shared = context;
    this.#options = options;
    this.#handshakeBytes = Uint8Array.from(options.firstBytes);
  }

  get kind(): ByteStream['kind'] {
    return this.#underlying.kind;
  }

  get addresses(): AddressPair | null {
    return this.#underlying.addresses;
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
    throw new Error('a TLS connection has no socket to give away');
  }

  write(bytes: Uint8Array): boolean {
    if (this.#state !== 'open') return true;
    if (this.#engine?.write(bytes) !== true) this.abort();
    return this.#underlying.bufferedBytes === 0;
  }

  writeParts(parts: readonly Uint8Array[]): boolean {
    return this.write(this.#joinParts(parts));
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

  abort(): void {
    this.#underlying.abort();
  }

  // What comes from the connection below.

  onBytes(ciphertext: Uint8Array): void {
    if (this.#state === 'handshake') {
      // The read buffer is not ours to keep.
      this.#handshakeBytes = Buffer.concat([this.#handshakeBytes, ciphertext]);
      this.#enqueueHandshakeStep();
    } else if (
      ciphertext.length <= MIN_READ_BYTES &&
      (this.#hasSmallRecords || this.#shared.deferredWork.isBusy)
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

  // What comes from the handshake queue.

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

  // What comes from OpenSSL, while it receives or writes.

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
    // Of a full record that the read ended in there is no plaintext yet: that is not costly.
    const isSmall = this.#recordCount >= SMALL_RECORDS_THRESHOLD && bytes < ciphertext.length / 2;
    if (isSmall || bytes < (ciphertext.length - MAX_RECORD_BYTES) / 2) this.#markSmallRecords();
    if (bytes > 0) this.#handler?.onBytes(this.#shared.plaintext.subarray(0, bytes));
    this.#applyEndReason();
  }

  /** Keeps turns of the event loop short: its next reads wait for their turn, and so do those of others in this one. */
  #markSmallRecords(): void {
    if (!this.#hasSmallRecords) this.#underlying.limitReadSize();
    this.#hasSmallRecords = true;
    this.#shared.deferredWork.defer(() => undefined);
  }

  #deferReceive(ciphertext: Uint8Array): void {
    // The read buffer is not ours to keep.
    this.#deferredCiphertext = Buffer.concat([this.#deferredCiphertext ?? EMPTY_BYTES, ciphertext]);
    this.#shared.deferredWork.addBufferedBytes(ciphertext.length);
    this.#underlying.pause();
    this.#scheduleReceive();
  }

  #scheduleReceive(): void {
    this.#shared.deferredWork.defer(() => {
      const ciphertext = this.#deferredCiphertext;
      if (ciphertext === null || this.#isPaused) return;
      this.#dropDeferred();
      this.#underlying.resume();
      this.#receive(ciphertext);
    });
  }

  #dropDeferred(): void {
    this.#shared.deferredWork.addBufferedBytes(-(this.#deferredCiphertext?.length ?? 0));
    this.#deferredCiphertext = null;
  }

  /** What OpenSSL said while it received, after the plaintext that came before. */
  #applyEndReason(): void {
    if (this.#endReason === 'failed') this.abort();
    else if (this.#endReason === 'closed') this.onEnd();
  }

  #joinParts(parts: readonly Uint8Array[]): Uint8Array {
    const { outgoing } = this.#shared;
    let length = 0;
    for (const part of parts) {
      if (length + part.length > outgoing.length) return Buffer.concat(parts);
      outgoing.set(part, length);
      length += part.length;
    }
    return outgoing.subarray(0, length);
  }
}
