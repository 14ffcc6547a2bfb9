import type { Socket } from 'node:net';

/** What comes from the other end of a connection. Nothing is called after `onLost`. */
export interface ByteStreamHandler {
  /** Bytes came. They lie in memory that the next read will use, of this connection or of any other. */
  onBytes(bytes: Uint8Array): void;
  /** Everything that was held has been handed over. */
  onWritable(): void;
  /** The other end will send nothing more: a FIN. */
  onEnd(): void;
  /** The other end is gone: a reset, or both ends are closed. */
  onClose(): void;
}

/** The IP addresses of a connection's two ends. */
export interface AddressPair {
  readonly remote: string;
  readonly local: string;
}

/** A connection as bytes, whatever the bytes mean. */
export interface ByteStream {
  readonly kind: 'tcp' | 'unix';
  /** Asked of the kernel each time. Null for a unix-domain socket, and where the connection is gone. */
  readonly addresses: AddressPair | null;
  /** Bytes that this process holds for the other end. */
  readonly bufferedBytes: number;
  /** Bytes handed over to the kernel so far: grows while the other end receives. */
  readonly deliveredBytes: number;

  /** Begins to call the handler, in place of the one before. */
  start(handler: ByteStreamHandler): void;
  /** Gives the connection away, as a socket that nobody reads yet. Nothing else may be asked of the wire then. */
  detach(): Socket;
  /**
   * Sends bytes in order. What the kernel does not take at once is copied and held: the memory is the
   * caller's again. False when something is held; `onDrain` follows.
   */
  write(bytes: Uint8Array): boolean;
  /** The same for parts that belong one behind the other. */
  writeParts(parts: readonly Uint8Array[]): boolean;
  /** Stops and goes on reading. A FIN or reset may stay hidden behind what is not read; see `probe`. */
  pause(): void;
  resume(): void;
  /** Asks for small reads from now on: what comes takes long to deal with. */
  limitReadSize(): void;
  /** Asks the kernel for a reset that a paused connection can't see. `onLost` follows where there is one. */
  detectReset(): void;
  /** Changes the TCP keepalive, which is `CLIENT_KEEPALIVE` at first. */
  setKeepAlive(settings: KeepAlive): void;
  /** Sends a FIN behind what is held. Reading goes on. */
  end(): void;
  /** Closes at once; what is held is lost. `onLost` follows. */
  abort(): void;
}

/** TCP keepalive of one connection, in whole seconds. */
export interface KeepAlive {
  /** Silence before the first probe. */
  readonly delaySeconds: number;
  /** Time between probes. Node.js before 24.19 ignores it and `probes`, and sends ten probes a second apart. */
  readonly intervalSeconds: number;
  /** Unanswered probes before the kernel closes the connection. */
  readonly probes: number;
}

/**
 * The first probe comes after half of what the stricter NATs allow. A dead client is found after five minutes, so that
 * a network outage of two minutes closes no connection.
 */
export const CLIENT_KEEPALIVE: KeepAlive = { delaySeconds: 30, intervalSeconds: 30, probes: 9 };

/** Writing it puts nothing on the wire, but the kernel reports a pending reset for it. */
export const EMPTY_BYTES: Uint8Array = new Uint8Array(0);
