import type { CloseCode } from '../protocol/session.ts';

/** `link`: another relay passes the client on. */
export type TransportKind = 'tcp' | 'unix' | 'websocket' | 'link';

/** What a client does, as its peer tells the connection. Nothing is called after `onLost`. */
export interface ClientTransportHandler {
  /** Payload came. The bytes are the handler's until it returns. */
  onData(bytes: Uint8Array): void;
  /** A WebSocket text message came. Its content is of no interest. */
  onText(): void;
  /** Everything that `send` could not hand over at once has been handed over. */
  onWritable(): void;
  /** The client will send nothing more: a FIN, or a WebSocket close. */
  onEnd(): void;
  /** The client is gone: a reset, or both ends are closed. */
  onClose(): void;
}

/** One client, whatever it came by. */
export interface ClientTransport {
  readonly kind: TransportKind;
  /** Bytes that this process holds for the client. */
  readonly bufferedBytes: number;
  /** Bytes, framing included, handed over to the kernel so far: grows while the client receives. */
  readonly deliveredBytes: number;

  /** Begins to call the handler. */
  start(handler: ClientTransportHandler): void;
  /** Sends payload in order. False when some is held for a client that does not keep up: `onDrain` follows. */
  send(bytes: Uint8Array): boolean;
  /** Stops and goes on reading. A FIN or reset may stay hidden behind what is not read; see `probe`. */
  pause(): void;
  resume(): void;
  /** Asks for small reads from now on. */
  limitReadSize(): void;
  /** Asks the kernel for a reset that a paused connection can't see. `onLost` follows where there is one. */
  detectReset(): void;
  /**
   * Delivers what was sent, then closes. Reading goes on, and what comes is thrown away, until the client has
   * closed its end too: a socket that is closed with unread bytes answers with a reset, and a reset
   * makes the client's kernel forget what it had received.
   *
   * @param hadPartner the client may still have bytes of a transfer coming, and gets more time for them
   */
  closeGracefully(code: CloseCode, hadPartner: boolean): void;
  /** Closes at once; what is still held for the client is lost. `onLost` follows. */
  abort(): void;
}
