import { readSync, writeSync, writevSync } from 'node:fs';
import { Socket, connect, createServer } from 'node:net';
import type { Server } from 'node:net';
import process from 'node:process';
import { TLSSocket } from 'node:tls';
import type { SecureContext, TlsOptions } from 'node:tls';
import { getSystemErrorName } from 'node:util';
import { CLIENT_KEEPALIVE } from './byte-stream.ts';
import type { AddressPair } from './byte-stream.ts';

/**
 * Everything that is not Node's public interface is in this file, and for TLS in `tls-handle.ts`.
 *
 * A connection is a handle of libuv's, and Node builds a socket and two streams around it. The relay uses the bare
 * handle: it alone can be told to read into memory of ours, and a connection that only waits costs a fraction of what a
 * socket does. `openHandles` tries all of it out at the start; where it does not work, `StreamWire` does, with what is public.
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
  /** Of TCP handles alone, as is all that follows. */
  reset?(done: () => void): number;
  setNoDelay?(on: boolean): number;
  setKeepAlive?(on: boolean, delaySeconds: number, intervalSeconds: number, probes: number): number;
  /** These two put the address of an end into `out`. */
  getpeername?(out: { address?: string }): number;
  getsockname?(out: { address?: string }): number;
}

const UV_HANDLE_METHODS = ['readStart', 'readStop', 'useUserBuffer', 'writeBuffer', 'shutdown', 'close'];

function isUvHandle(value: unknown): value is UvHandle {
  return (
    isObject(value) &&
    'fd' in value &&
    UV_HANDLE_METHODS.every((method) => typeof Reflect.get(value, method) === 'function')
  );
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null;
}

/** What belongs to libuv's streams and to no handle in particular. */
export class UvHandles {
  readonly #binding: StreamBinding;

  constructor(binding: StreamBinding) {
    this.#binding = binding;
  }

  /** What the read brought that `onread` is called for: bytes, 0 for none, `READ_END` or `READ_LOST`. */
  readResult(): number {
    const { streamBaseState, kReadBytesOrError } = this.#binding;
    const result = streamBaseState[kReadBytesOrError] ?? 0;
    if (result >= 0) return result;
    return result === UV_EOF ? READ_EOF : READ_ERROR;
  }

  /**
   * Writes all of `bytes`, which must stay as they are until `done` is called with whether it worked. That may
   * happen before this returns.
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

  /** Sends a FIN. `done` is called with whether it worked. */
  shutdown(handle: Pick<UvHandle, 'shutdown'>, done: (worked: boolean) => void): void {
    const { ShutdownWrap } = this.#binding;
    const request = Object.assign(new ShutdownWrap(), { oncomplete: (status: number) => done(status === 0) });
    const status = handle.shutdown(request);
    // 1 says that it was done at once, and that nobody will be told.
    if (status !== 0) done(status === 1);
  }
}

/** Results of a read that brought no bytes. */
export const READ_EOF = -1;
export const READ_ERROR = -2;

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
    isObject(value) &&
    ['WriteWrap', 'ShutdownWrap'].every((name) => typeof Reflect.get(value, name) === 'function') &&
    ['kReadBytesOrError', 'kLastWriteWasAsync'].every(
      (name) => typeof Reflect.get(value, name) === 'number',
    ) &&
    Reflect.get(value, 'streamBaseState') instanceof Int32Array
  );
}

function loadStreamBinding(): StreamBinding | null {
  try {
    const load: unknown = Reflect.get(process, 'binding');
    const binding: unknown =
      typeof load === 'function' ? Reflect.apply(load, process, ['stream_wrap']) : null;
    return isStreamBinding(binding) ? binding : null;
  } catch {
    return null;
  }
}

/** Sets the options of a client's connection, or of the listening socket that connections inherit them from. */
export function setClientSocketOptions(handle: Pick<UvHandle, 'setNoDelay' | 'setKeepAlive'>): void {
  const { delaySeconds, intervalSeconds, probes } = CLIENT_KEEPALIVE;
  handle.setNoDelay?.(true);
  handle.setKeepAlive?.(true, delaySeconds, intervalSeconds, probes);
}

/**
 * Has `accept` called with the handle of each new connection of a listening server, before any socket is made of it.
 * Returns false, and changes nothing, where the server has no such hook.
 *
 * Connections have the options of `setClientOptions`: Linux copies those of the listening socket, which saves five system
 * calls for each.
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

/** Takes the handle out of a socket, which is of no use then. Null where that would lose something. */
export function detachHandle(socket: Socket): UvHandle | null {
  const handle: unknown = Reflect.get(socket, '_handle');
  if (!isUvHandle(handle) || socket.destroyed || socket.writableLength > 0 || socket.readableLength > 0)
    return null;
  handle.readStop();
  Reflect.set(socket, '_handle', null);
  // The handle knows its socket by a symbol, and would keep it for as long as it lives.
  for (const symbol of Object.getOwnPropertySymbols(handle)) {
    if (Reflect.get(handle, symbol) === socket) Reflect.set(handle, symbol, undefined);
  }
  socket.destroy();
  return handle;
}

/**
 * Makes a socket of a handle that `useUserBuffer` was called on. It can't be read as it is; TLS can be put on it, which reads
 * by itself.
 */
export function socketFromHandle(handle: UvHandle): Socket {
  const socket: unknown = Reflect.construct(Socket, [{ handle, allowHalfOpen: true, manualStart: true }]);
  if (socket instanceof Socket) return socket;
  throw new TypeError('a socket that is none');
}

/**
 * Puts TLS on a socket. Node tells of what goes wrong behind the handshake by `_tlsError` alone, where no server of
 * its own has made the socket: a damaged record, or a client that has begun too many handshakes.
 *
 * @param ready is called when the handshake is done
 */
export function startNodeTls(
  socket: Socket,
  options: { readonly secureContext: SecureContext } & Pick<TlsOptions, 'pskCallback'>,
  ready: () => void = () => undefined,
): TLSSocket {
  const secured = new TLSSocket(socket, { ...options, isServer: true });
  secured.once('secure', ready);
  secured.on('_tlsError', () => secured.destroy());
  return secured;
}

/** Both ends of a TCP connection. Null for a unix-domain socket, and where the connection is gone. */
export function addressesOf(handle: UvHandle): AddressPair | null {
  const remote: { address?: string } = {};
  const local: { address?: string } = {};
  if (handle.getpeername?.(remote) !== 0 || handle.getsockname?.(local) !== 0) return null;
  if (remote.address === undefined || local.address === undefined) return null;
  return { remote: remote.address, local: local.address };
}

/** Reads what has come, without waiting. Returns bytes, 0 for none, `READ_END` or `READ_LOST`. */
export function tryRead(handle: UvHandle, memory: Uint8Array): number {
  try {
    const count = readSync(handle.fd, memory, 0, memory.length, null);
    return count === 0 ? READ_EOF : count;
  } catch (error) {
    return isWouldBlock(error) ? 0 : READ_ERROR;
  }
}

/**
 * Gives the kernel as much as it takes at once. Returns how many bytes that were, or -1 when the connection is gone.
 */
export function tryWrite(handle: UvHandle, bytes: Uint8Array): number {
  try {
    return writeSync(handle.fd, bytes, 0, bytes.length, null);
  } catch (error) {
    return isWouldBlock(error) ? 0 : -1;
  }
}

/** The same for parts one behind the other; at most 1024 of them (IOV_MAX). */
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

/** Tries out all of the above over a connection of its own, there and back. Null where it does not work. */
export async function detectUvHandles(): Promise<UvHandles | null> {
  const binding = loadStreamBinding();
  if (binding === null) return null;
  const handles = new UvHandles(binding);
  const server = createServer();
  const trial = Promise.withResolvers<boolean>();
  const timer = setTimeout(() => trial.resolve(false), FEATURE_DETECTION_TIMEOUT_MS);
  // Only reached where the hook is not.
  server.on('connection', () => trial.resolve(false));
  await new Promise<void>((resolve) => {
    server.once('error', () => resolve());
    server.listen(0, '127.0.0.1', resolve);
  });
  const address = server.address();
  const hooked = acceptHandles(server, (handle) =>
    echoOnce(handles, handle, (worked) => trial.resolve(worked)),
  );
  if (!hooked || address === null || typeof address === 'string') trial.resolve(false);
  else {
    let echo = '';
    const client = connect({ port: address.port, host: '127.0.0.1', allowHalfOpen: true });
    client.on('error', () => trial.resolve(false));
    client.on('data', (bytes) => {
      echo += bytes.toString();
    });
    client.on('end', () => {
      if (echo === 'ping') client.end();
      else trial.resolve(false);
    });
    client.write('ping');
    void trial.promise.then(() => client.destroy());
  }
  const worked = await trial.promise;
  clearTimeout(timer);
  server.close();
  return worked ? handles : null;
}

/** Sends back what comes, with a FIN behind it, and is content when the other end closes too. */
function echoOnce(handles: UvHandles, handle: UvHandle, done: (worked: boolean) => void): void {
  const memory = Buffer.alloc(16);
  let isAnswered = false;
  handle.onread = () => {
    const result = handles.readResult();
    if (result > 0 && !isAnswered) {
      isAnswered = true;
      const taken = tryWriteParts(handle, [memory.subarray(0, 1), memory.subarray(1, 2)]);
      handles.write(handle, Uint8Array.from(memory.subarray(taken, result)), () => {
        handles.shutdown(handle, (worked) => {
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
