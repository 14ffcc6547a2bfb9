import { writeSync, writevSync } from 'node:fs';
import { Socket, connect, createServer } from 'node:net';
import type { Server } from 'node:net';

/**
 * Everything that is not Node's public interface is in this file: the handle below a socket, which alone can
 * be told to read into memory of ours when the connection was accepted and not made. `handlesWork` tries it out at
 * the start; where it does not work, ordinary streams do.
 */
export interface Handle {
  /** -1 once it is closed. */
  readonly fd: number;
  reading: boolean;
  readStart(): number;
  readStop(): number;
  useUserBuffer(buffer: Uint8Array): void;
  close(): void;
}

interface ReadOptions {
  /** Asked after each read for the memory of the next one. */
  readonly buffer: () => Uint8Array;
  /** False stops reading. */
  readonly callback: (bytesRead: number) => boolean;
}

function isHandle(value: unknown): value is Handle {
  return (
    typeof value === 'object' &&
    value !== null &&
    'fd' in value &&
    typeof value.fd === 'number' &&
    ['readStart', 'readStop', 'useUserBuffer', 'close'].every(
      (method) => typeof Reflect.get(value, method) === 'function',
    )
  );
}

/**
 * Has `accept` called with the handle of each new connection of a listening server, before any socket is made of it.
 * Returns false, and changes nothing, where the server has no such hook.
 */
export function acceptHandles(server: Server, accept: (handle: Handle) => void): boolean {
  const listener: unknown = Reflect.get(server, '_handle');
  if (typeof listener !== 'object' || listener === null) return false;
  if (typeof Reflect.get(listener, 'onconnection') !== 'function') return false;
  Reflect.set(listener, 'onconnection', (status: number, handle: unknown) => {
    if (isHandle(handle)) accept(handle);
    else server.emit('error', Object.assign(new Error('accept'), { code: `libuv ${status}` }));
  });
  return true;
}

/** Takes the handle out of a socket, which is of no use then. Null where that would lose something. */
export function takeHandle(socket: Socket): Handle | null {
  const handle: unknown = Reflect.get(socket, '_handle');
  if (!isHandle(handle) || socket.destroyed || socket.writableLength > 0 || socket.readableLength > 0)
    return null;
  handle.readStop();
  handle.reading = false;
  Reflect.set(socket, '_handle', null);
  socket.destroy();
  return handle;
}

/** Makes a socket of a handle. It reads at once, by way of `onread`, and never emits 'data'. */
export function openSocket(handle: Handle, onread: ReadOptions): Socket {
  const options = { handle, onread, allowHalfOpen: true, readable: true, writable: true };
  const socket: unknown = Reflect.construct(Socket, [options]);
  if (!(socket instanceof Socket)) throw new TypeError('not a socket');
  return socket;
}

/** Like a socket's own resume and pause, without what these do for streams. */
export function startReading(handle: Handle): void {
  if (handle.reading || handle.fd < 0) return;
  handle.reading = true;
  handle.readStart();
}

export function stopReading(handle: Handle): void {
  handle.reading = false;
  if (handle.fd >= 0) handle.readStop();
}

/**
 * Gives the kernel as much as it takes at once. Returns how many bytes that were: 0 as well when the connection is
 * gone, which the next write by way of its socket will report.
 */
export function tryWrite(handle: Handle, bytes: Uint8Array): number {
  if (handle.fd < 0) return 0;
  try {
    return writeSync(handle.fd, bytes, 0, bytes.length, null);
  } catch {
    return 0;
  }
}

/** The same for parts one behind the other; at most 1024 of them (IOV_MAX). */
export function tryWriteParts(handle: Handle, parts: readonly Uint8Array[]): number {
  if (handle.fd < 0) return 0;
  try {
    return writevSync(handle.fd, parts);
  } catch {
    return 0;
  }
}

const TRIAL_TIMEOUT_MS = 2000;

/** Sends bytes over a connection of its own, there and back, by way of all of the above. */
export async function handlesWork(): Promise<boolean> {
  const server = createServer();
  const trial = Promise.withResolvers<boolean>();
  const timer = setTimeout(() => trial.resolve(false), TRIAL_TIMEOUT_MS);
  const accepted: Socket[] = [];
  server.on('error', () => trial.resolve(false));
  // Only reached where the hook is not.
  server.on('connection', () => trial.resolve(false));
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
    server.once('error', () => resolve());
  });
  const hooked = acceptHandles(server, (handle) => {
    const memory = Buffer.alloc(8);
    const socket = openSocket(handle, {
      buffer: () => memory,
      callback: (bytesRead) => {
        if (memory.toString('latin1', 0, bytesRead) !== 'ping') trial.resolve(false);
        tryWriteParts(handle, [memory.subarray(0, 2), memory.subarray(2, bytesRead)]);
        return true;
      },
    });
    socket.on('error', () => trial.resolve(false));
    accepted.push(socket);
  });
  const address = server.address();
  if (!hooked || address === null || typeof address === 'string') trial.resolve(false);
  else {
    const client = connect({ port: address.port, host: '127.0.0.1' });
    client.on('error', () => trial.resolve(false));
    client.on('data', (echo) => trial.resolve(echo.toString() === 'ping'));
    client.write('ping');
    void trial.promise.then(() => client.destroy());
  }
  const works = await trial.promise;
  clearTimeout(timer);
  for (const socket of accepted) socket.destroy();
  server.close();
  return works;
}
