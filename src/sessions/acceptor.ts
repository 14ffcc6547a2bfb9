import { METHODS } from 'node:http';
import { createServer } from 'node:net';
import type { Server } from 'node:net';
import type { SecureContext } from 'node:tls';
import { parseProxyHeader } from '../protocol/proxy-header.ts';
import { ACME_TLS_PROTOCOL } from '../transport/acme-challenges.ts';
import type { AcmeChallenges } from '../transport/acme-challenges.ts';
import { EMPTY_BYTES } from '../transport/byte-stream.ts';
import type { ByteStream, ByteStreamHandler } from '../transport/byte-stream.ts';
import type { IoBackend } from '../transport/io-backend.ts';
import { LinkTransport } from '../transport/link-transport.ts';
import { RawTransport } from '../transport/raw-transport.ts';
import type { AcceptedConnection, AdmissionControl, ConnectionPhase } from './admission-control.ts';
import { HttpUpgrader } from './http-upgrader.ts';
import type { SessionManager } from './session-manager.ts';

export interface AcceptorOptions {
  readonly backend: IoBackend;
  readonly admission: AdmissionControl;
  readonly sessions: Pick<SessionManager, 'accept'>;
  /** Time between pings to WebSocket clients, in milliseconds. */
  readonly pingIntervalMs: number;
  /** Answers to the certificate authority. */
  readonly challenges: AcmeChallenges;
}

export interface ListenerOptions {
  /** `raw` accepts clients of every kind, `websocket` only those that speak HTTP. */
  readonly role: 'raw' | 'websocket';
  readonly kind: ByteStream['kind'];
  /** The current certificate; null: no TLS. */
  readonly certificate: { readonly context: SecureContext } | null;
}

/** Creates the servers for clients, and accepts connections from them and from cluster links. */
export class Acceptor {
  readonly #options: AcceptorOptions;
  readonly #httpUpgrader: HttpUpgrader;

  constructor(options: AcceptorOptions) {
    this.#options = options;
    this.#httpUpgrader = new HttpUpgrader(options);
  }

  /** Accepts a client that another relay forwards. */
  acceptLink(stream: ByteStream, firstBytes: Uint8Array): void {
    const { sessions, admission } = this.#options;
    const accepted = admission.accept(null);
    if (accepted === null) {
      rejectImmediately(stream, true);
      return;
    }
    const transport = new LinkTransport(stream);
    sessions.accept(transport, accepted);
    if (firstBytes.length > 0) transport.onBytes(firstBytes);
  }

  /** Creates a server that does not listen yet. */
  createServer(listener: ListenerOptions): Server {
    const { backend, admission } = this.#options;
    const { role, kind } = listener;
    const options = { ...this.#options, ...listener, httpUpgrader: this.#httpUpgrader };
    const accept = (stream: ByteStream): void => {
      const accepted = admission.accept(stream);
      if (accepted !== null) new ProtocolDetector(stream, accepted, options).start();
      else rejectImmediately(stream, role === 'raw');
    };
    const server = createServer({ allowHalfOpen: true }, (socket) =>
      accept(backend.adoptSocket(socket, kind)),
    );
    server.on('listening', () => backend.acceptStreams(server, kind, accept));
    return server;
  }
}

interface ProtocolDetectorOptions extends AcceptorOptions, ListenerOptions {
  readonly httpUpgrader: HttpUpgrader;
}

/** The first byte of a TLS record that opens a handshake (RFC 8446, 5.1). */
const TLS_HANDSHAKE = 0x16;

/** HTTP methods are upper case. */
const UPPER_CASE_Z = 0x5a;

const encoder = new TextEncoder();

/** How HTTP requests begin. `PRI` opens HTTP/2 (RFC 9113, section 3.4) and is answered with 400. */
const HTTP_METHODS = [...METHODS, 'PRI'].map((method) => encoder.encode(`${method} `));

/** Sent to raw clients for which there is no capacity. */
const BUSY = encoder.encode('busy\n');

/**
 * Detects the protocol of a new connection from its first bytes. No kind of client waits for the relay to
 * send first.
 *
 * A PROXY header comes first, then TLS. The protocol inside TLS is detected in the same way.
 */
class ProtocolDetector implements ByteStreamHandler, ConnectionPhase {
  readonly #stream: ByteStream;
  readonly #accepted: AcceptedConnection;
  readonly #options: ProtocolDetectorOptions;
  #head: Uint8Array = EMPTY_BYTES;
  readonly #isInsideTls: boolean;
  #expectsProxyHeader = false;
  /** The client's address from a PROXY header. */
  #proxiedAddress: string | null = null;

  constructor(
    stream: ByteStream,
    accepted: AcceptedConnection,
    options: ProtocolDetectorOptions,
    isInsideTls = false,
  ) {
    this.#stream = stream;
    this.#accepted = accepted;
    this.#options = options;
    this.#isInsideTls = isInsideTls;
  }

  /** Starts reading. */
  start(): void {
    this.#accepted.phase = this;
    this.#stream.start(this);
    if (!this.#isInsideTls) this.#checkClientAddress();
  }

  onBytes(bytes: Uint8Array): void {
    // The TLS handshake is complete.
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
    if (client === null) this.#options.admission.release(this.#accepted);
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
    rejectImmediately(this.#stream, this.#options.role === 'raw' && !this.#isInsideTls);
  }

  abort(): void {
    this.#stream.abort();
  }

  #checkClientAddress(): void {
    const { admission } = this.#options;
    if (!admission.needsClientAddress) return;
    const address = this.#stream.remoteAddress;
    // A connection that is already closed has no address either, and must not be taken for a unix-domain
    // socket.
    if (address === null && this.#stream.kind !== 'unix') return;
    this.#expectsProxyHeader = admission.proxies?.trusts(address) === true;
    // Behind a proxy the header names the client. Without a header, the connection counts for no address.
    if (!this.#expectsProxyHeader && address !== null) admission.setClientAddress(this.#accepted, address);
  }

  /** Returns the bytes after the header; null if the header is incomplete. */
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
    const { admission } = this.#options;
    // If the header names another trusted proxy, X-Forwarded-For may name the client.
    if (address !== null && admission.proxies?.trusts(address) !== true)
      admission.setClientAddress(this.#accepted, address);
    return header.rest;
  }

  #detect(head: Uint8Array): void {
    const { role, certificate, httpUpgrader } = this.#options;
    const isHttp = role === 'websocket' ? true : startsWithHttpMethod(head);
    if (head.length === 0) {
      this.#head = EMPTY_BYTES;
    } else if (certificate !== null && !this.#isInsideTls && head[0] === TLS_HANDSHAKE) {
      this.#startTls(head, certificate.context);
    } else if (isHttp === true) {
      this.#accepted.failure = 'http';
      httpUpgrader.serve(this.#stream, this.#accepted, head);
    } else if (isHttp === null) {
      this.#bufferHead(head);
    } else {
      this.#asRawClient()?.onBytes(head);
    }
  }

  #startTls(head: Uint8Array, context: SecureContext): void {
    const { backend, admission, challenges } = this.#options;
    const accepted = this.#accepted;
    const address = this.#proxiedAddress ?? this.#stream.remoteAddress;
    const challenge = challenges.tlsContextFor(head);
    if (challenge === 'incomplete') {
      this.#bufferHead(head);
    } else if (challenge === null) {
      accepted.failure = 'tls';
      const inside = backend.startTls(this.#stream, head, address, context);
      new ProtocolDetector(inside, accepted, this.#options, true).start();
    } else {
      // The certificate authority is not a client, and no failed one.
      accepted.failure = null;
      const inside = backend.startTls(this.#stream, head, address, challenge, ACME_TLS_PROTOCOL);
      new AcmeValidation(inside, accepted, admission).start();
    }
  }

  #bufferHead(head: Uint8Array): void {
    // The read buffer is reused, so copy.
    this.#head = Uint8Array.from(head);
  }

  /** Makes a raw client of the connection. Null if the listener accepts none. */
  #asRawClient(): RawTransport | null {
    if (this.#options.role === 'websocket') return null;
    const transport = new RawTransport(this.#stream);
    this.#options.sessions.accept(transport, this.#accepted);
    return transport;
  }
}

/**
 * A connection of the certificate authority. It reads the certificate in the handshake and closes; nothing else
 * may be sent (RFC 8737, section 4). If it stays open, the handshake timeout closes it.
 */
class AcmeValidation implements ByteStreamHandler, ConnectionPhase {
  readonly #stream: ByteStream;
  readonly #accepted: AcceptedConnection;
  readonly #admission: AdmissionControl;

  constructor(stream: ByteStream, accepted: AcceptedConnection, admission: AdmissionControl) {
    this.#stream = stream;
    this.#accepted = accepted;
    this.#admission = admission;
  }

  start(): void {
    this.#accepted.phase = this;
    this.#stream.start(this);
  }

  onBytes(): void {
    this.#stream.abort();
  }

  onWritable(): void {
    // Nothing was sent.
  }

  onEnd(): void {
    this.#stream.end();
    this.#stream.abort();
  }

  onClose(): void {
    this.#admission.release(this.#accepted);
  }

  onTimeout(): void {
    this.#stream.abort();
  }

  onDrain(): void {
    this.#stream.abort();
  }

  evict(): void {
    this.#stream.abort();
  }

  abort(): void {
    this.#stream.abort();
  }
}

/** Rejects a connection for which there is no capacity at all. Waits for nothing: there may be very many. */
function rejectImmediately(stream: ByteStream, isRaw: boolean): void {
  if (isRaw) stream.write(BUSY);
  stream.abort();
}

/** Whether these bytes begin with an HTTP method and a space. Null: they may be the beginning of one. */
function startsWithHttpMethod(bytes: Uint8Array): boolean | null {
  if ((bytes[0] ?? 0) > UPPER_CASE_Z) return false;
  const method = HTTP_METHODS.find((one) =>
    bytes.subarray(0, one.length).every((byte, at) => byte === one[at]),
  );
  if (method === undefined) return false;
  return bytes.length >= method.length ? true : null;
}
