import type { Socket } from 'node:net';

/** Receives the events of a connection. Nothing is called after `onClose`. */
export interface ByteStreamHandler {
  /** Bytes were received. The next read, of this or any other connection, reuses their memory. */
  onBytes(bytes: Uint8Array): void;
  /** All buffered bytes have been written to the kernel, perhaps after `end`. */
  onWritable(): void;
  /** The other end sent a FIN: it will send nothing more. */
  onEnd(): void;
  /** The connection was reset, or both directions are closed. */
  onClose(): void;
}

/** A connection as a stream of bytes, without regard to their meaning. */
export interface ByteStream {
  readonly kind: 'tcp' | 'unix';
  /**
   * IP address of the other end, read from the kernel at each call. Null for a unix-domain socket, and once
   * the connection is closed.
   */
  readonly remoteAddress: string | null;
  /** Bytes that this process buffers for the other end. */
  readonly bufferedBytes: number;
  /** Bytes written to the kernel so far. Grows while the other end receives. */
  readonly deliveredBytes: number;

  /** Starts calling `handler`, which replaces the previous one. */
  start(handler: ByteStreamHandler): void;
  /** Returns the connection as a socket that is not being read. The stream must not be used afterwards. */
  detach(): Socket;
  /**
   * Sends bytes in order. Bytes that the kernel does not accept at once are copied and buffered, so the
   * caller may reuse its memory. Returns false if bytes are buffered; `onWritable` follows.
   */
  write(bytes: Uint8Array): boolean;
  /** The same for several consecutive parts. */
  writeParts(parts: readonly Uint8Array[]): boolean;
  /** Stop and restart reading. Unread bytes may hide a FIN or reset; see `detectReset`. */
  pause(): void;
  resume(): void;
  /** Keeps reads small from now on, because the received bytes are slow to process. */
  limitReadSize(): void;
  /** Asks the kernel for a reset that a paused connection can't see. `onClose` follows if there was one. */
  detectReset(): void;
  /** Changes the TCP keepalive, which is initially `CLIENT_KEEPALIVE`. */
  setKeepAlive(settings: KeepAlive): void;
  /** Sends a FIN after the buffered bytes. Reading continues. */
  end(): void;
  /**
   * Closes at once and drops buffered bytes. `onClose` follows. With `reset`, the kernel drops its buffers too,
   * and sends a reset; without TCP there is none.
   */
  abort(how?: 'reset'): void;
}

/** TCP keepalive of one connection, in whole seconds. */
export interface KeepAlive {
  /** Idle time before the first probe. */
  readonly delaySeconds: number;
  /**
   * Time between probes. Node.js before 24.19 ignores it and `probes`, and sends ten probes a second apart.
   */
  readonly intervalSeconds: number;
  /** Unanswered probes before the kernel closes the connection. */
  readonly probes: number;
}

/**
 * The first probe is sent after half the idle timeout of the stricter NATs. A dead client is detected after
 * five minutes, so a network outage of two minutes closes no connection.
 */
export const CLIENT_KEEPALIVE: KeepAlive = { delaySeconds: 30, intervalSeconds: 30, probes: 9 };

/** Writing it sends nothing, but makes the kernel report a pending reset. */
export const EMPTY_BYTES: Uint8Array = new Uint8Array(0);
