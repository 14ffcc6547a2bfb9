import type { CloseCode } from '../protocol/session.ts';

export type Transport = 'tcp' | 'unix' | 'websocket';

/** What a client does, as its peer tells the connection. Nothing is called after `onLost`. */
export interface PeerHandler {
  /** Bytes came. They are the handler's until the next tick of the event loop, or until sent on. */
  onData(bytes: Uint8Array): void;
  /** A WebSocket text message came. Its content is of no interest. */
  onText(): void;
  /** Everything that `send` could not hand over at once has been handed over. */
  onDrain(): void;
  /** The client will send nothing more: a FIN. */
  onLeft(): void;
  /** The client is gone: a reset, or both ends are closed. */
  onLost(): void;
}

/** One client, whatever it came by. */
export interface Peer {
  readonly transport: Transport;
  /** Bytes that are still held for the client by this process, in bytes. */
  readonly heldBytes: number;
  /** Bytes, framing included, that were handed over to the kernel so far: grows while the client receives. */
  readonly deliveredBytes: number;

  /** Begins to call the handler. */
  start(handler: PeerHandler): void;
  /** Sends bytes in order. False when they are held for a client that does not keep up: `onDrain` follows. */
  send(bytes: Uint8Array): boolean;
  /** Stops and goes on reading. A FIN or reset may stay hidden behind what is not read; see `probe`. */
  pause(): void;
  resume(): void;
  /** Asks the kernel for a reset that a paused connection can't see. `onLost` follows where there is one. */
  probe(): void;
  /**
   * Delivers what was sent, then closes. Reading goes on, and what comes is thrown away, until the client has
   * closed its end too: a socket that is closed with unread bytes answers with a reset, and a reset
   * makes the client's kernel forget what it had received.
   */
  finish(code: CloseCode): void;
  /** Closes at once; what is still held for the client is lost. `onLost` follows. */
  destroy(): void;
}

/**
 * How long a client may take no byte of what it has coming, or leave its own end open, once the relay is
 * done with it. Each byte it takes starts the time anew. Milliseconds.
 */
export const LINGER_MS = 30_000;

/** Keepalive probes start after this silence. Milliseconds. Half of what the stricter NATs allow. */
export const KEEPALIVE_MS = 30_000;
