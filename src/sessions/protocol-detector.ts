import { METHODS } from 'node:http';
import type { TrustedProxies } from '../config/trusted-proxies.ts';
import { parseProxyHeader } from '../protocol/proxy-header.ts';
import { EMPTY_BYTES } from '../transport/byte-stream.ts';
import type { ByteStream, ByteStreamHandler } from '../transport/byte-stream.ts';
import type { AcceptedConnection, ConnectionPhase } from './admission-control.ts';

/** What becomes of connections once they have shown what they are. */
export interface ProtocolHandlers {
  /** Clients that send their line as it is. Null: there are none here, and everything is taken for HTTP. */
  readonly raw: ((stream: ByteStream, accepted: AcceptedConnection) => ByteStreamHandler) | null;
  /** What speaks HTTP: WebSocket clients and browsers. */
  http(stream: ByteStream, accepted: AcceptedConnection, firstBytes: Uint8Array): void;
  /** Null: TLS is not spoken here. */
  readonly tls: {
    wrap(stream: ByteStream, firstBytes: Uint8Array, address: string | null): ByteStream;
  } | null;
  /** Null: nobody is believed to come for somebody else. */
  readonly proxies: TrustedProxies | null;
  /** Null: nobody asks where connections come from. */
  readonly onClientAddress: ((accepted: AcceptedConnection, address: string) => void) | null;
  /** It is gone, and nothing has become of it. */
  release(accepted: AcceptedConnection): void;
}

/** The first byte of a TLS record that opens a handshake (RFC 8446, 5.1). */
const TLS_HANDSHAKE = 0x16;

/** Methods are upper case. */
const UPPER_CASE_Z = 0x5a;

const encoder = new TextEncoder();

/** The first words of HTTP clients. `PRI` opens HTTP/2 (RFC 9113, section 3.4) and is answered with 400. */
const HTTP_METHODS = [...METHODS, 'PRI'].map((method) => encoder.encode(`${method} `));

/** What raw clients are told for which there is no place. */
const BUSY = encoder.encode('busy\n');

/**
 * A connection that has not shown what it is. Its first bytes tell, and no kind of client waits for the relay to speak first.
 *
 * A proxy's header comes first of all, then TLS, and what is inside of it is looked at in the same way.
 */
export class ProtocolDetector implements ByteStreamHandler, ConnectionPhase {
  readonly #stream: ByteStream;
  readonly #accepted: AcceptedConnection;
  readonly #handlers: ProtocolHandlers;
  #head: Uint8Array = EMPTY_BYTES;
  readonly #isInsideTls: boolean;
  #expectsProxyHeader = false;
  /** The client's, where a proxy has said it. */
  #proxiedAddress: string | null = null;

  constructor(
    stream: ByteStream,
    accepted: AcceptedConnection,
    handlers: ProtocolHandlers,
    isInsideTls = false,
  ) {
    this.#stream = stream;
    this.#accepted = accepted;
    this.#handlers = handlers;
    this.#isInsideTls = isInsideTls;
  }

  /** Begins to listen to it. */
  start(): void {
    this.#accepted.phase = this;
    this.#stream.start(this);
    if (!this.#isInsideTls) this.#checkClientAddress();
  }

  onBytes(bytes: Uint8Array): void {
    // The handshake of TLS is done.
    if (this.#isInsideTls) this.#accepted.failure = 'disconnected';
    const head = this.#head.length === 0 ? bytes : Buffer.concat([this.#head, bytes]);
    const rest = this.#expectsProxyHeader ? this.#readProxyHeader(head) : head;
    if (rest !== null) this.#detect(rest);
  }

  onWritable(): void {
    // Nothing was sent.
  }

  onEnd(): void {
    const client = this.#asRawClient();
    if (client === null) this.#stream.abort();
    else client.onEnd();
  }

  onClose(): void {
    const client = this.#asRawClient();
    if (client === null) this.#handlers.release(this.#accepted);
    else client.onClose();
  }

  onTimeout(): void {
    if (this.#asRawClient() === null) this.#stream.abort();
    else this.#accepted.phase?.onTimeout();
  }

  onDrain(): void {
    if (this.#asRawClient() === null) this.#stream.abort();
    else this.#accepted.phase?.onDrain();
  }

  evict(): void {
    rejectImmediately(this.#stream, this.#handlers.raw !== null && !this.#isInsideTls);
  }

  abort(): void {
    this.#stream.abort();
  }

  #checkClientAddress(): void {
    const { proxies, onClientAddress: comesFrom } = this.#handlers;
    if (proxies === null && comesFrom === null) return;
    const address = this.#stream.addresses?.remote ?? null;
    // What is gone already has no address either, and must not be taken for a unix-domain socket.
    if (address === null && this.#stream.kind !== 'unix') return;
    this.#expectsProxyHeader = proxies?.trusts(address) === true;
    // Behind a proxy it is the header that tells, and where there is none, nobody is counted.
    if (!this.#expectsProxyHeader && address !== null) comesFrom?.(this.#accepted, address);
  }

  /** What comes behind the header; null when it is not whole, or nothing more is of interest. */
  #readProxyHeader(head: Uint8Array): Uint8Array | null {
    const header = parseProxyHeader(head);
    if (header.kind === 'incomplete') {
      this.#bufferHead(head);
      return null;
    }
    this.#expectsProxyHeader = false;
    if (header.kind !== 'proxy') return head;
    const { address } = header;
    this.#proxiedAddress = address;
    // What this proxy had from another trusted one, that one may tell whom it is from.
    if (address === null || this.#handlers.proxies?.trusts(address) === true) return header.rest;
    this.#handlers.onClientAddress?.(this.#accepted, address);
    return header.rest;
  }

  #detect(head: Uint8Array): void {
    const { raw, tls } = this.#handlers;
    const isHttp = raw === null || startsWithHttpMethod(head);
    if (head.length === 0) {
      this.#head = EMPTY_BYTES;
    } else if (tls !== null && !this.#isInsideTls && head[0] === TLS_HANDSHAKE) {
      this.#accepted.failure = 'tls';
      const inside = tls.wrap(
        this.#stream,
        head,
        this.#proxiedAddress ?? this.#stream.addresses?.remote ?? null,
      );
      new ProtocolDetector(inside, this.#accepted, this.#handlers, true).start();
    } else if (raw === null || isHttp === true) {
      this.#accepted.failure = 'http';
      this.#handlers.http(this.#stream, this.#accepted, head);
    } else if (isHttp === null) {
      this.#bufferHead(head);
    } else {
      raw(this.#stream, this.#accepted).onBytes(head);
    }
  }

  #bufferHead(head: Uint8Array): void {
    // The read buffer is not ours to keep.
    this.#head = Uint8Array.from(head);
  }

  /** Nothing more is expected of it: where there are raw clients, it was one of them. */
  #asRawClient(): ByteStreamHandler | null {
    return this.#handlers.raw?.(this.#stream, this.#accepted) ?? null;
  }
}

/** Closes a connection for which there is no place at all. Waits for nothing: it may be one of very many. */
export function rejectImmediately(stream: ByteStream, isRaw: boolean): void {
  if (isRaw) stream.write(BUSY);
  stream.abort();
}

/** Whether these bytes begin with an HTTP method and a space. Null: they are the beginning of one. */
function startsWithHttpMethod(bytes: Uint8Array): boolean | null {
  if ((bytes[0] ?? 0) > UPPER_CASE_Z) return false;
  const method = HTTP_METHODS.find((one) =>
    bytes.subarray(0, one.length).every((byte, at) => byte === one[at]),
  );
  if (method === undefined) return false;
  return bytes.length >= method.length ? true : null;
}
