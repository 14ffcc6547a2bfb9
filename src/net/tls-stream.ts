import type { Socket } from 'node:net';
import { HandshakeQueue } from '../limits/handshake-queue.ts';
import type { HandshakeStep } from '../limits/handshake-queue.ts';
import { SMALLEST_READ_BYTES } from './read-pool.ts';
import type { ReadPool } from './read-pool.ts';
import { TlsHandle } from './tls-handle.ts';
import type { TlsBindings, TlsCallbacks, TlsOptions } from './tls-handle.ts';
import { NOTHING } from './wire.ts';
import type { Ends, KeepAlive, Wire, WireHandler } from './wire.ts';

/** - `handshake`: no plaintext can be sent yet; - `open`; - `ended`: no more will be sent; - `closed` */
type State = 'handshake' | 'open' | 'ended' | 'closed';

/** Plaintext of one read: it is never more than its ciphertext, and a record that was not whole before. */
const PLAINTEXT_BYTES = 524_288 + 16_384;

/** Hears of the handshake. */
export interface TlsObserver {
  /** Data can be sent from now on. */
  ready(): void;
  /** There will be no connection. `code` is OpenSSL's, such as `ERR_SSL_BAD_RECORD_TYPE`. */
  failed(code: string): void;
}

export interface TlsStreamOptions extends TlsOptions {
  /** What has been read from the connection below already. */
  readonly firstBytes: Uint8Array;
  /** Where the client is; null where that is not known. Its handshake waits for its turn. Undefined: it does not. */
  readonly address?: string | null;
  readonly observer?: TlsObserver;
}

/** A read that brings this many records, with more framing than plaintext, has records of a few bytes. */
const MANY_RECORDS = 128;

/** A full record of ciphertext with its header (RFC 8446, 5.2). */
const LONGEST_RECORD_BYTES = 16_384 + 256 + 5;

/** What all TLS connections of a process share: only one of them decrypts or encrypts at a time. */
export class TlsContext {
  readonly bindings: TlsBindings;
  /** Where the records of one read are joined, so that they are sent on with one write. */
  readonly plaintext = Buffer.allocUnsafeSlow(PLAINTEXT_BYTES);
  /** Where the parts of one write are joined: OpenSSL makes full records of one piece. */
  readonly outgoing = Buffer.allocUnsafeSlow(PLAINTEXT_BYTES);
  readonly handshakes = new HandshakeQueue(
    () => performance.now(),
    (run) => setImmediate(run),
  );
  /** Where reads wait that would make this turn of the event loop too long. */
  readonly backlog: Pick<ReadPool, 'isBusy' | 'defer' | 'hold'>;

  constructor(bindings: TlsBindings, backlog: TlsContext['backlog']) {
    this.bindings = bindings;
    this.backlog = backlog;
  }
}

/**
 * TLS on top of another connection. That one reads when the scheduler allows it, and holds what its receiver does not take, so that
 * TLS connections share both with all others.
 *
 * The records of one read become one piece of plaintext, however small they are: a client that sends a byte in each makes
 * the relay decrypt each, but pass them on once.
 */
export class TlsStream implements Wire, WireHandler, TlsCallbacks, HandshakeStep {
  readonly #below: Wire;
  readonly #context: TlsContext;
  readonly #options: TlsStreamOptions;
  /** Null until the first handshake step: connections that wait for theirs need little memory. */
  #tls: TlsHandle | null = null;
  #handler: WireHandler | null = null;
  #state: State = 'handshake';
  /** Ciphertext of the handshake that has not been looked at. */
  #early: Uint8Array;
  /** A step of the handshake waits for its turn; nothing is read until then. */
  #isQueued = false;
  #isPaused = false;
  /** Its records are small, so that each read takes long for what it brings. */
  #isCostly = false;
  /** Ciphertext that waits for a later turn of the event loop; nothing is read until then. */
  #postponed: Uint8Array | null = null;
  /** Bytes of plaintext that the current read has brought so far. */
  #plaintextBytes = 0;
  /** Records that the current read has brought so far. */
  #records = 0;
  /** Why the client sends nothing more: `close_notify`, or a fault. */
  #verdict: 'closed' | 'failed' | null = null;
  #isReadEnded = false;

  constructor(below: Wire, context: TlsContext, options: TlsStreamOptions) {
    this.#below = below;
    this.#context = context;
    this.#options = options;
    this.#early = Uint8Array.from(options.firstBytes);
  }

  get kind(): Wire['kind'] {
    return this.#below.kind;
  }

  get ends(): Ends | null {
    return this.#below.ends;
  }

  get heldBytes(): number {
    return this.#below.heldBytes;
  }

  get deliveredBytes(): number {
    return this.#below.deliveredBytes;
  }

  start(handler: WireHandler): void {
    const isFirst = this.#handler === null;
    this.#handler = handler;
    if (!isFirst) return;
    this.#below.start(this);
    if (this.#options.role === 'client') this.#open().start();
    this.#enterQueue();
  }

  detach(): Socket {
    throw new Error('a TLS connection has no socket to give away');
  }

  write(bytes: Uint8Array): boolean {
    if (this.#state !== 'open') return true;
    if (this.#tls?.write(bytes) !== true) this.destroy();
    return this.#below.heldBytes === 0;
  }

  writeParts(parts: readonly Uint8Array[]): boolean {
    return this.write(this.#join(parts));
  }

  pause(): void {
    this.#isPaused = true;
    this.#below.pause();
  }

  resume(): void {
    this.#isPaused = false;
    if (this.#postponed === null) this.#below.resume();
    else this.#receiveLater();
  }

  readLess(): void {
    this.#below.readLess();
  }

  probe(): void {
    this.#below.probe();
  }

  keepAlive(settings: KeepAlive): void {
    this.#below.keepAlive(settings);
  }

  end(): void {
    if (this.#state === 'handshake') {
      this.destroy();
      return;
    }
    if (this.#state !== 'open') return;
    this.#state = 'ended';
    this.#tls?.shutdown();
    this.#below.end();
  }

  destroy(): void {
    this.#below.destroy();
  }

  // What comes from the connection below.

  onBytes(ciphertext: Uint8Array): void {
    if (this.#state === 'handshake') {
      // The read buffer is not ours to keep.
      this.#early = Buffer.concat([this.#early, ciphertext]);
      this.#enterQueue();
    } else if (ciphertext.length <= SMALLEST_READ_BYTES && (this.#isCostly || this.#context.backlog.isBusy)) {
      this.#postpone(ciphertext);
    } else {
      this.#receive(ciphertext);
    }
  }

  onDrain(): void {
    this.#handler?.onDrain();
  }

  onEnd(): void {
    if (this.#isReadEnded) return;
    this.#isReadEnded = true;
    this.#handler?.onEnd();
  }

  onLost(): void {
    if (this.#isQueued) this.#context.handshakes.cancel(this.#options.address ?? null, this);
    this.#state = 'closed';
    this.#forgetPostponed();
    this.#tls?.close();
    this.#handler?.onLost();
  }

  // What comes from the handshake queue.

  run(): void {
    if (this.#state === 'closed') return;
    const ciphertext = this.#early;
    this.#early = NOTHING;
    this.#isQueued = false;
    this.#open();
    this.#below.resume();
    this.#receive(ciphertext);
  }

  reject(): void {
    this.destroy();
  }

  // What comes from OpenSSL, while it receives or writes.

  onPlaintext(bytes: Uint8Array): void {
    this.#context.plaintext.set(bytes, this.#plaintextBytes);
    this.#plaintextBytes += bytes.length;
    this.#records += 1;
  }

  onClosed(): void {
    this.#verdict ??= 'closed';
  }

  onHandshakeDone(): void {
    if (this.#state === 'handshake') this.#state = 'open';
  }

  onError(code: string): void {
    this.#verdict = 'failed';
    this.#options.observer?.failed(code);
  }

  onCiphertext(parts: readonly Uint8Array[]): void {
    this.#below.writeParts(parts);
  }

  #enterQueue(): void {
    if (this.#early.length === 0 || this.#isQueued) return;
    this.#isQueued = true;
    this.#below.pause();
    if (this.#options.address === undefined) this.run();
    else this.#context.handshakes.enter(this.#options.address, this);
  }

  #open(): TlsHandle {
    this.#tls ??= new TlsHandle(this.#context.bindings, this.#options, this);
    return this.#tls;
  }

  #receive(ciphertext: Uint8Array): void {
    if (this.#state === 'closed' || this.#verdict === 'failed') return;
    const before = this.#state;
    this.#plaintextBytes = 0;
    this.#records = 0;
    this.#tls?.receive(ciphertext);
    if (this.#state !== before) this.#options.observer?.ready();
    const bytes = this.#plaintextBytes;
    // Of a full record that the read ended in there is no plaintext yet: that is not costly.
    const isSmall = this.#records >= MANY_RECORDS && bytes < ciphertext.length / 2;
    if (isSmall || bytes < (ciphertext.length - LONGEST_RECORD_BYTES) / 2) this.#foundCostly();
    if (bytes > 0) this.#handler?.onBytes(this.#context.plaintext.subarray(0, bytes));
    this.#conclude();
  }

  /** Keeps turns of the event loop short: its next reads wait for their turn, and so do those of others in this one. */
  #foundCostly(): void {
    if (!this.#isCostly) this.#below.readLess();
    this.#isCostly = true;
    this.#context.backlog.defer(() => undefined);
  }

  #postpone(ciphertext: Uint8Array): void {
    // The read buffer is not ours to keep.
    this.#postponed = Buffer.concat([this.#postponed ?? NOTHING, ciphertext]);
    this.#context.backlog.hold(ciphertext.length);
    this.#below.pause();
    this.#receiveLater();
  }

  #receiveLater(): void {
    this.#context.backlog.defer(() => {
      const ciphertext = this.#postponed;
      if (ciphertext === null || this.#isPaused) return;
      this.#forgetPostponed();
      this.#below.resume();
      this.#receive(ciphertext);
    });
  }

  #forgetPostponed(): void {
    this.#context.backlog.hold(-(this.#postponed?.length ?? 0));
    this.#postponed = null;
  }

  /** What OpenSSL said while it received, after the plaintext that came before. */
  #conclude(): void {
    if (this.#verdict === 'failed') this.destroy();
    else if (this.#verdict === 'closed') this.onEnd();
  }

  #join(parts: readonly Uint8Array[]): Uint8Array {
    const { outgoing } = this.#context;
    let length = 0;
    for (const part of parts) {
      if (length + part.length > outgoing.length) return Buffer.concat(parts);
      outgoing.set(part, length);
      length += part.length;
    }
    return outgoing.subarray(0, length);
  }
}
