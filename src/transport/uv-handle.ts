import { readSync, writeSync, writevSync } from 'node:fs';
import { Socket, connect, createServer } from 'node:net';
import type { Server } from 'node:net';
import process from 'node:process';
import { TLSSocket } from 'node:tls';
import type { SecureContext, TlsOptions } from 'node:tls';
import { getSystemErrorName } from 'node:util';
import { CLIENT_KEEPALIVE } from './byte-stream.ts';

/**
 * This file, and `tls-engine.ts` for TLS, contain every use of Node's internal interfaces.
 *
 * A connection is a libuv handle, around which Node builds a socket and two streams. The relay uses the bare
 * handle: only the handle can read into memory of our choice, and a waiting connection costs a fraction of a
 * socket. `detectUvHandles` tests all of it at startup. If it does not work, `NodeStream` uses public
 * interfaces instead.
 */
export interface UvHandle {
  /** The file descriptor; -1 once it is closed. */
  readonly fd: number;
  /** Called for each read. */
  onread: () => void;
  readStart(): number;
  readStop(): number;
  useUserBuffer(memory: Uint8Array): void;
  writeBuffer(request: object, bytes: Uint8Array): number;
  shutdown(request: object): number;
  close(done: () => void): void;
  /** TCP handles only, like all members below. */
  reset?(done: () => void): number;
  setNoDelay?(on: boolean): number;
  setKeepAlive?(on: boolean, delaySeconds: number, intervalSeconds: number, probes: number): number;
  /** Writes the address of the other end to `out`. */
  getpeername?(out: { address?: string }): number;
}

const UV_HANDLE_METHODS = [
  'readStart',
  'readStop',
  'useUserBuffer',
  'writeBuffer',
  'shutdown',
  'close',
] as const;

function isUvHandle(value: unknown): value is UvHandle {
  return hasMethods<UvHandle>(value, UV_HANDLE_METHODS) && 'fd' in value;
}

/** Whether this Node.js version has the methods that the relay uses. */
export function hasMethods<T extends object>(value: unknown, names: readonly (keyof T)[]): value is T {
  return isObject(value) && names.every((name) => typeof Reflect.get(value, name) === 'function');
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null;
}

/** The libuv stream functions that do not belong to a particular handle. */
export class UvHandles {
  readonly #binding: StreamBinding;

  constructor(binding: StreamBinding) {
    this.#binding = binding;
  }

  /** Result of the read that caused `onread`: a byte count, 0 for none, `READ_EOF` or `READ_ERROR`. */
  readResult(): number {
    const { streamBaseState, kReadBytesOrError } = this.#binding;
    const result = streamBaseState[kReadBytesOrError] ?? 0;
    if (result >= 0) return result;
    return result === UV_EOF ? READ_EOF : READ_ERROR;
  }

  /**
   * Writes all of `bytes`, which must not change until `done` is called. `done` gets whether the write
   * succeeded, and may be called before this returns.
   */
  write(handle: Pick<UvHandle, 'writeBuffer'>, bytes: Uint8Array, done: (worked: boolean) => void): void {
    const { WriteWrap, streamBaseState, kLastWriteWasAsync } = this.#binding;
    // The request keeps the bytes alive.
    const request = Object.assign(new WriteWrap(), {
      bytes,
      oncomplete: (status: number) => done(status === 0),
    });
    const status = handle.writeBuffer(request, bytes);
    if (status !== 0 || streamBaseState[kLastWriteWasAsync] === 0) done(status === 0);
  }

  /** Sends a FIN. `done` gets whether it succeeded. */
  shutdown(handle: Pick<UvHandle, 'shutdown'>, done: (worked: boolean) => void): void {
    const { ShutdownWrap } = this.#binding;
    const request = Object.assign(new ShutdownWrap(), { oncomplete: (status: number) => done(status === 0) });
    const status = handle.shutdown(request);
    // 1 means that it completed synchronously, and `oncomplete` is not called.
    if (status !== 0) done(status === 1);
  }
}

/** Results of a read without bytes. */
export const READ_EOF = -1;
const READ_ERROR = -2;

/** libuv's error number for the end of a stream. */
const UV_EOF = -4095;

interface StreamBinding {
  readonly WriteWrap: new () => object;
  readonly ShutdownWrap: new () => object;
  readonly streamBaseState: Int32Array;
  readonly kReadBytesOrError: number;
  readonly kLastWriteWasAsync: number;
}

function isStreamBinding(value: unknown): value is StreamBinding {
  return (
    hasMethods<StreamBinding>(value, ['WriteWrap', 'ShutdownWrap']) &&
    ['kReadBytesOrError', 'kLastWriteWasAsync'].every(
      (name) => typeof Reflect.get(value, name) === 'number',
    ) &&
    Reflect.get(value, 'streamBaseState') instanceof Int32Array
  );
}

/** One of Node's internal bindings. Null if this Node.js version does not have it. */
export function loadBinding(name: string): object | null {
  try {
    const load: unknown = Reflect.get(process, 'binding');
    const binding: unknown = typeof load === 'function' ? Reflect.apply(load, process, [name]) : null;
    return isObject(binding) ? binding : null;
  } catch {
    return null;
  }
}

/**
 * Sets the socket options of a client connection, or of a listening socket, whose connections inherit them.
 */
export function setClientSocketOptions(handle: Pick<UvHandle, 'setNoDelay' | 'setKeepAlive'>): void {
  const { delaySeconds, intervalSeconds, probes } = CLIENT_KEEPALIVE;
  handle.setNoDelay?.(true);
  handle.setKeepAlive?.(true, delaySeconds, intervalSeconds, probes);
}

/**
 * Calls `accept` with the handle of each new connection of a listening server, before Node creates a socket
 * for it. Returns false and changes nothing if the server has no such hook.
 *
 * Connections have the options of `setClientSocketOptions`: Linux copies them from the listening socket,
 * which saves five system calls per connection.
 */
export function acceptHandles(server: Server, accept: (handle: UvHandle) => void): boolean {
  const listener: unknown = Reflect.get(server, '_handle');
  if (!isObject(listener) || typeof Reflect.get(listener, 'onconnection') !== 'function') return false;
  setClientSocketOptions(listener);
  Reflect.set(listener, 'onconnection', (status: number, handle: unknown) => {
    if (isUvHandle(handle)) accept(handle);
    else server.emit('error', Object.assign(new Error('accept'), { code: getSystemErrorName(status) }));
  });
  return true;
}

/** Takes the handle out of a socket, which becomes unusable. Null if that would lose buffered bytes. */
export function detachHandle(socket: Socket): UvHandle | null {
  const handle: unknown = Reflect.get(socket, '_handle');
  if (!isUvHandle(handle) || socket.destroyed || socket.writableLength > 0 || socket.readableLength > 0)
    return null;
  handle.readStop();
  Reflect.set(socket, '_handle', null);
  // The handle refers to its socket by a symbol, which would keep the socket in memory.
  for (const symbol of Object.getOwnPropertySymbols(handle)) {
    if (Reflect.get(handle, symbol) === socket) Reflect.set(handle, symbol, undefined);
  }
  socket.destroy();
  return handle;
}

/**
 * Creates a socket from a handle on which `useUserBuffer` was called. The socket itself can't be read. TLS on
 * top of it can, because TLS reads from the handle.
 */
export function socketFromHandle(handle: UvHandle): Socket {
  const socket: unknown = Reflect.construct(Socket, [{ handle, allowHalfOpen: true, manualStart: true }]);
  if (socket instanceof Socket) return socket;
  throw new TypeError('Socket constructor returned no socket');
}

/**
 * Starts TLS on a socket. Because no TLS server of Node's created the socket, Node reports errors after the
 * handshake only by `_tlsError`: a damaged record, or a client that started too many handshakes.
 */
export function startNodeTls(
  socket: Socket,
  options: { readonly secureContext: SecureContext } & Pick<TlsOptions, 'pskCallback'>,
): TLSSocket {
  const secured = new TLSSocket(socket, { ...options, isServer: true });
  secured.on('_tlsError', () => secured.destroy());
  return secured;
}

/** Reads without blocking. Returns a byte count, 0 for none, `READ_EOF` or `READ_ERROR`. */
export function tryRead(handle: UvHandle, memory: Uint8Array): number {
  try {
    const count = readSync(handle.fd, memory, 0, memory.length, null);
    return count === 0 ? READ_EOF : count;
  } catch (error) {
    return isWouldBlock(error) ? 0 : READ_ERROR;
  }
}

/**
 * Writes as much as the kernel accepts at once. Returns the byte count, or -1 if the connection is closed.
 */
export function tryWrite(handle: UvHandle, bytes: Uint8Array): number {
  try {
    return writeSync(handle.fd, bytes, 0, bytes.length, null);
  } catch (error) {
    return isWouldBlock(error) ? 0 : -1;
  }
}

/** The same for at most 1024 consecutive parts (IOV_MAX). */
export function tryWriteParts(handle: UvHandle, parts: readonly Uint8Array[]): number {
  try {
    return writevSync(handle.fd, parts);
  } catch (error) {
    return isWouldBlock(error) ? 0 : -1;
  }
}

function isWouldBlock(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'EAGAIN';
}

const FEATURE_DETECTION_TIMEOUT_MS = 2000;

/** Tests all of the above over a loopback connection, in both directions. Null if any of it does not work. */
export async function detectUvHandles(): Promise<UvHandles | null> {
  const binding = loadBinding('stream_wrap');
  if (!isStreamBinding(binding)) return null;
  const uv = new UvHandles(binding);
  const result = Promise.withResolvers<boolean>();
  const fail = (): void => result.resolve(false);
  const timer = setTimeout(fail, FEATURE_DETECTION_TIMEOUT_MS);
  // 'connection' is emitted only if the hook does not work.
  const server = createServer(fail).on('error', fail);
  server.listen(0, '127.0.0.1', () => {
    const address = server.address();
    const hooked = acceptHandles(server, (handle) => echoOnce(uv, handle, result.resolve));
    if (!hooked || address === null || typeof address === 'string') {
      fail();
      return;
    }
    let echo = '';
    const client = connect({ port: address.port, host: '127.0.0.1', allowHalfOpen: true });
    client.on('error', fail);
    client.on('data', (bytes) => {
      echo += bytes.toString();
    });
    client.on('end', () => {
      if (echo === 'ping') client.end();
      else fail();
    });
    client.write('ping');
    void result.promise.then(() => client.destroy());
  });
  const worked = await result.promise;
  clearTimeout(timer);
  server.close();
  return worked ? uv : null;
}

/** Echoes the first bytes, followed by a FIN, and succeeds when the other end closes too. */
function echoOnce(uv: UvHandles, handle: UvHandle, done: (worked: boolean) => void): void {
  const memory = Buffer.alloc(16);
  let isAnswered = false;
  handle.onread = () => {
    const result = uv.readResult();
    if (result > 0 && !isAnswered) {
      isAnswered = true;
      const taken = tryWriteParts(handle, [memory.subarray(0, 1), memory.subarray(1, 2)]);
      uv.write(handle, Uint8Array.from(memory.subarray(taken, result)), () => {
        uv.shutdown(handle, (worked) => {
          if (!worked) done(false);
        });
      });
    } else if (result !== 0) {
      handle.close(() => done(isAnswered && result === READ_EOF));
    }
  };
  handle.useUserBuffer(memory);
  handle.readStart();
}
