import { Socket } from 'node:net';
import { TLSSocket, createSecureContext } from 'node:tls';
import type { SecureContext } from 'node:tls';
import { errorCode } from '../process/errors.ts';
import { hasMethods, loadBinding } from './uv-handle.ts';
import type { UvHandles } from './uv-handle.ts';

/**
 * OpenSSL without a socket: converts ciphertext to plaintext and back. Like `uv-handle.ts`, this file uses
 * internal interfaces of Node: the `TLSWrap` below every `TLSSocket`, on top of a `JSStream`, which passes
 * the ciphertext to this program instead of to a socket.
 *
 * `TLSWrap` allows one write at a time (a second one aborts the process), and no `destroySSL` from within its
 * own callbacks. `TlsEngine` observes both rules.
 */

/** Largest plaintext that OpenSSL returns at once: one record (RFC 8446, 5.1). */
const MAX_RECORD_PLAINTEXT_BYTES = 16_384;

/**
 * Plaintext of one write to `TLSWrap`, in bytes. Until the connection closes, `TLSWrap` keeps buffers as
 * large as its largest writes: with 512 KiB, a stalled connection needs 350 KiB more. Smaller writes cost CPU
 * time: 10 percent with 32 KiB.
 */
const MAX_WRITE_BYTES = 65_536;

/** A key that both ends have (RFC 8446, 4.2.11), and its public name. */
interface PreSharedKey {
  readonly identity: string;
  readonly key: Uint8Array;
}

export interface TlsOptions {
  readonly role: 'server' | 'client';
  readonly context: SecureContext;
  /** Null: the server uses a certificate. */
  readonly preSharedKey: PreSharedKey | null;
  /** The only application protocol that a server accepts (RFC 7301). Undefined: it ignores them. */
  readonly applicationProtocol?: string;
}

export interface TlsCallbacks {
  /** Plaintext of at most one record. The next record reuses its memory. */
  onPlaintext(bytes: Uint8Array): void;
  /** The other end has closed its direction (`close_notify`). */
  onCloseNotify(): void;
  onHandshakeDone(): void;
  /** OpenSSL failed, with a code such as `ERR_SSL_BAD_RECORD_TYPE`. `onCiphertext` has received the alert. */
  onError(code: string): void;
  /** Ciphertext for the other end. The memory is freed when this returns. */
  onCiphertext(parts: readonly Uint8Array[]): void;
}

/** One end of a TLS connection. */
export class TlsEngine {
  readonly #bindings: TlsBindings;
  readonly #stream: JsStream;
  readonly #wrap: TlsWrap;
  #isOpen = true;
  /** A write of ciphertext whose completion was not reported to `TLSWrap` yet. */
  #pendingWrite: object | null = null;
  #isWriting = false;
  /** Ciphertext of the current write, to be sent together. Null: ciphertext is sent at once. */
  #corkedParts: Uint8Array[] | null = null;
  readonly #callbacks: TlsCallbacks;

  constructor(bindings: TlsBindings, options: TlsOptions, callbacks: TlsCallbacks) {
    this.#bindings = bindings;
    this.#callbacks = callbacks;
    const stream = bindings.createStream();
    // Ciphertext is accepted at once: the byte stream buffers what it can't send.
    stream.onwrite = (request, parts) => {
      if (this.#corkedParts === null) this.#emitCiphertext(parts);
      else this.#corkedParts.push(...parts);
      this.#pendingWrite = request;
      return 0;
    };
    stream.onshutdown = (request) => {
      stream.finishShutdown(request, 0);
      return 0;
    };
    stream.onreadstart = stream.onreadstop = () => 0;
    const wrap = bindings.wrap(stream, options.context, options.role === 'server');
    Object.assign(wrap, {
      onread: () => {
        const { record } = bindings;
        const count = bindings.uv.readResult();
        // Bulk data comes in full records. A view for each would cost 3 percent of the CPU time of a transfer.
        if (count > 0) callbacks.onPlaintext(count === record.length ? record : record.subarray(0, count));
        else if (count < 0) callbacks.onCloseNotify();
      },
      onhandshakestart: () => undefined,
      onhandshakedone: () => {
        // Otherwise a server with a certificate and without the key would be accepted.
        const isAuthenticated = options.preSharedKey === null || wrap.isSessionReused();
        if (isAuthenticated) callbacks.onHandshakeDone();
        else callbacks.onError('ERR_TLS_KEY_NOT_SHARED');
      },
      onerror: (error: unknown) => callbacks.onError(errorCode(error)),
    });
    wrap.useUserBuffer(bindings.record);
    if (options.preSharedKey !== null) bindings.setPreSharedKey(wrap, options.preSharedKey, options.role);
    if (options.applicationProtocol !== undefined) {
      const name = Buffer.from(options.applicationProtocol, 'latin1');
      wrap.setALPNProtocols(Buffer.concat([Buffer.from([name.length]), name]));
    }
    this.#stream = stream;
    this.#wrap = wrap;
  }

  /** Sends the ClientHello. Clients only. */
  start(): void {
    this.#wrap.start();
    this.#completeWrites();
  }

  /** Processes ciphertext from the other end. All resulting callbacks are called before this returns. */
  receive(ciphertext: Uint8Array): void {
    if (!this.#isOpen) return;
    this.#wrap.receive(ciphertext);
    this.#completeWrites();
  }

  /**
   * Encrypts all of `plaintext`, after the handshake. Small parts are joined, so that OpenSSL creates full
   * records. When this returns, `onCiphertext` has received the ciphertext, and the caller may reuse the memory.
   * Returns false if OpenSSL failed; the connection is then unusable.
   */
  write(plaintext: readonly Uint8Array[]): boolean {
    const ciphertext: Uint8Array[] = [];
    this.#corkedParts = ciphertext;
    const [first, ...others] = plaintext;
    if (first !== undefined && others.length === 0) this.#encryptAll(first);
    else this.#encryptJoined(plaintext);
    this.#corkedParts = null;
    if (ciphertext.length > 0) this.#emitCiphertext(ciphertext);
    return !this.#isWriting;
  }

  #encryptAll(plaintext: Uint8Array): void {
    for (let at = 0; at < plaintext.length; at += MAX_WRITE_BYTES)
      this.#encrypt(plaintext.subarray(at, at + MAX_WRITE_BYTES));
  }

  /** Joins as much as one write takes at a time: it is then still in the processor's cache. */
  #encryptJoined(parts: readonly Uint8Array[]): void {
    const { joined } = this.#bindings;
    let length = 0;
    for (const part of parts) {
      for (let at = 0; at < part.length;) {
        const piece = part.subarray(at, at + joined.length - length);
        joined.set(piece, length);
        at += piece.length;
        length += piece.length;
        if (length < joined.length) continue;
        this.#encrypt(joined);
        length = 0;
      }
    }
    if (length > 0) this.#encrypt(joined.subarray(0, length));
  }

  /** At most `MAX_WRITE_BYTES`. Does nothing after OpenSSL has failed. */
  #encrypt(plaintext: Uint8Array): void {
    if (this.#isWriting) return;
    this.#isWriting = true;
    this.#bindings.uv.write(this.#wrap, plaintext, (worked) => {
      this.#isWriting = !worked;
    });
    this.#completeWrites();
  }

  /** Sends `close_notify` (RFC 8446, 6.1). */
  shutdown(): void {
    this.#bindings.uv.shutdown(this.#wrap, () => undefined);
    this.#completeWrites();
  }

  /** Frees OpenSSL's memory. No callback follows. */
  close(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    // OpenSSL may be calling this.
    setImmediate(() => this.#wrap.destroySSL());
  }

  /**
   * Reports to `TLSWrap` that its ciphertext was sent. `TLSWrap` emits 160 KiB at a time, and calls back when
   * all is done. Within `onwrite` the report would be too early: `TLSWrap` would wait for the next event loop
   * tick.
   */
  #completeWrites(): void {
    while (this.#pendingWrite !== null) {
      const request = this.#pendingWrite;
      this.#pendingWrite = null;
      this.#stream.finishWrite(request, 0);
    }
  }

  #emitCiphertext(parts: readonly Uint8Array[]): void {
    if (this.#isOpen) this.#callbacks.onCiphertext(parts);
    for (const part of parts) free(part);
  }
}

/**
 * Frees memory at once. `JSStream` allocates memory for each write. Leaving it to the garbage collector costs
 * a third of the CPU time of a transfer, because V8 starts a full collection for every few dozen MiB.
 */
function free({ buffer, byteLength }: Uint8Array): void {
  // A part of a larger buffer is not freed, because other code may use the rest.
  if (buffer instanceof ArrayBuffer && buffer.byteLength === byteLength) buffer.transfer(0);
}

interface JsStream {
  onwrite: (request: object, parts: readonly Uint8Array[]) => number;
  onshutdown: (request: object) => number;
  onreadstart: () => number;
  onreadstop: () => number;
  finishWrite(request: object, status: number): void;
  finishShutdown(request: object, status: number): void;
}

interface TlsWrap {
  start(): void;
  receive(bytes: Uint8Array): void;
  useUserBuffer(memory: Uint8Array): void;
  writeBuffer(request: object, bytes: Uint8Array): number;
  shutdown(request: object): number;
  enablePskCallback(): void;
  /** @param list names, each after a byte with its length */
  setALPNProtocols(list: Uint8Array): void;
  /** Whether the keys are derived from a pre-shared key. */
  isSessionReused(): boolean;
  destroySSL(): void;
}

const STREAM_METHODS = ['finishWrite', 'finishShutdown'] as const;
const WRAP_METHODS: readonly (keyof TlsWrap)[] = [
  'start',
  'receive',
  'useUserBuffer',
  'writeBuffer',
  'shutdown',
  'enablePskCallback',
  'setALPNProtocols',
  'isSessionReused',
  'destroySSL',
];

type WrapFunction = (stream: object, context: unknown, isServer: boolean, hasActiveWrite: boolean) => unknown;

/** The internal interfaces of Node that TLS needs, as found by `detectTlsBindings`. */
export class TlsBindings {
  readonly uv: UvHandles;
  /** OpenSSL writes each record's plaintext here. */
  readonly record = Buffer.allocUnsafeSlow(MAX_RECORD_PLAINTEXT_BYTES);
  /** Small parts of plaintext are joined here. */
  readonly joined = Buffer.allocUnsafeSlow(MAX_WRITE_BYTES);
  readonly #newStream: new () => unknown;
  readonly #wrap: WrapFunction;
  readonly #pskSymbol: symbol;

  constructor(uv: UvHandles, newStream: new () => unknown, wrap: WrapFunction, pskSymbol: symbol) {
    this.uv = uv;
    this.#newStream = newStream;
    this.#wrap = wrap;
    this.#pskSymbol = pskSymbol;
  }

  createStream(): JsStream {
    const stream = new this.#newStream();
    if (hasMethods<JsStream>(stream, STREAM_METHODS)) return stream;
    throw new TypeError('unexpected JSStream');
  }

  wrap(stream: JsStream, context: SecureContext, isServer: boolean): TlsWrap {
    const wrap = this.#wrap(stream, Reflect.get(context, 'context'), isServer, false);
    // `TLSWrap` refers to the stream by a raw pointer. The property protects the stream from the garbage
    // collector.
    if (hasMethods<TlsWrap>(wrap, WRAP_METHODS)) return Object.assign(wrap, { parent: stream });
    throw new TypeError('unexpected TLSWrap');
  }

  /**
   * Node calls the function with the client's identity on a server, and with the server's hint on a client.
   */
  setPreSharedKey(wrap: TlsWrap, { identity, key }: PreSharedKey, role: TlsOptions['role']): void {
    const callback =
      role === 'server'
        ? (asked: unknown) => (asked === identity ? key : undefined)
        : () => ({ psk: key, identity });
    Reflect.set(wrap, this.#pskSymbol, callback);
    wrap.enablePskCallback();
  }
}

/**
 * Finds the interfaces that TLS needs and tests them with a connection in memory. Null if this Node.js
 * version differs.
 */
export function detectTlsBindings(uv: UvHandles): TlsBindings | null {
  try {
    const newStream: unknown = Reflect.get(loadBinding('js_stream') ?? {}, 'JSStream');
    const wrap: unknown = Reflect.get(loadBinding('tls_wrap') ?? {}, 'wrap');
    const pskSymbol = findPskSymbol();
    if (!isConstructor(newStream) || !isWrapFunction(wrap) || pskSymbol === null) return null;
    const bindings = new TlsBindings(uv, newStream, wrap, pskSymbol);
    return canExchangeData(bindings) ? bindings : null;
  } catch {
    return null;
  }
}

/** Node.js stores the callback for pre-shared keys under a private symbol. */
function findPskSymbol(): symbol | null {
  const pskCallback = (): null => null;
  const options = { isServer: true, secureContext: createSecureContext(), pskCallback };
  const socket = new TLSSocket(new Socket(), options);
  const handle: unknown = Reflect.get(socket, '_handle');
  socket.destroy();
  if (typeof handle !== 'object' || handle === null) return null;
  return (
    Object.getOwnPropertySymbols(handle).find(({ description }) => description === 'onpskexchange') ?? null
  );
}

/**
 * Tests a handshake with a pre-shared key, "ping" in one direction, and "pong" and `close_notify` in the
 * other.
 */
function canExchangeData(bindings: TlsBindings): boolean {
  const context = createSecureContext({ minVersion: 'TLSv1.3', ciphers: 'TLS_AES_128_GCM_SHA256' });
  const preSharedKey = { identity: 'feature-detection', key: Buffer.alloc(32, 1) };
  const log: string[] = [];
  const toServer: Uint8Array[] = [];
  const toClient: Uint8Array[] = [];
  const end = (role: 'server' | 'client', out: Uint8Array[]): TlsEngine =>
    new TlsEngine(
      bindings,
      { role, context, preSharedKey },
      {
        onPlaintext: (bytes) => log.push(Buffer.from(bytes).toString('latin1')),
        onCloseNotify: () => log.push(`${role} closed`),
        onHandshakeDone: () => log.push(`${role} ready`),
        onError: () => log.push(`${role} failed`),
        onCiphertext: (parts) => out.push(...parts.map((part) => Uint8Array.from(part))),
      },
    );
  const server = end('server', toClient);
  const client = end('client', toServer);
  const deliver = (): void => {
    while (toServer.length + toClient.length > 0) {
      for (const bytes of toServer.splice(0)) server.receive(bytes);
      for (const bytes of toClient.splice(0)) client.receive(bytes);
    }
  };
  client.start();
  deliver();
  client.write([Buffer.from('ping')]);
  deliver();
  server.write([Buffer.from('po'), Buffer.from('ng')]);
  server.shutdown();
  deliver();
  client.close();
  server.close();
  return log.join() === 'client ready,server ready,ping,pong,client closed';
}

function isConstructor(value: unknown): value is new () => unknown {
  return typeof value === 'function';
}

function isWrapFunction(value: unknown): value is WrapFunction {
  return typeof value === 'function' && value.length <= 4;
}
