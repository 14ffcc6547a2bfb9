import type { CloseCode } from '../protocol/session.ts';

/** `link`: another relay forwards the client. */
export type TransportKind = 'tcp' | 'unix' | 'websocket' | 'link';

/** Receives the events of a client. Nothing is called after `onClose`. */
export interface ClientTransportHandler {
  /** Payload was received. The bytes are valid until the handler returns. */
  onData(bytes: Uint8Array): void;
  /** A WebSocket text message was received. Its content is ignored. */
  onText(): void;
  /** All bytes that `send` had to buffer have been written to the kernel. */
  onWritable(): void;
  /** The client will send nothing more: it sent a FIN or a WebSocket close frame. */
  onEnd(): void;
  /** The connection was reset, or both directions are closed. */
  onClose(): void;
}

/** The connection of one client, over any transport. */
export interface ClientTransport {
  readonly kind: TransportKind;
  /** Bytes that this process buffers for the client. */
  readonly bufferedBytes: number;
  /** Bytes written to the kernel so far, including framing. Grows while the client receives. */
  readonly deliveredBytes: number;

  /** Starts calling `handler`. */
  start(handler: ClientTransportHandler): void;
  /** Sends payload in order. Returns false if a slow client makes it buffer bytes; `onWritable` follows. */
  send(bytes: Uint8Array): boolean;
  /** Stop and restart reading. Unread bytes may hide a FIN or reset; see `detectReset`. */
  pause(): void;
  resume(): void;
  /** Keeps reads small from now on. */
  limitReadSize(): void;
  /** Asks the kernel for a reset that a paused connection can't see. `onClose` follows if there was one. */
  detectReset(): void;
  /**
   * Delivers the sent bytes, then closes. Until the client has closed its end too, reading continues and
   * received bytes are discarded: closing a socket with unread bytes sends a reset, and a reset makes the
   * client's kernel drop bytes that it has already received.
   *
   * @param hadPartner the client may still have to receive bytes of a transfer, and gets more time for them
   */
  closeGracefully(code: CloseCode, hadPartner: boolean): void;
  /**
   * Closes at once and drops buffered bytes. `onClose` follows. With `reset`, the kernel drops its buffers too.
   */
  abort(how?: 'reset'): void;
}
