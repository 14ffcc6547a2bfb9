import { createServer } from 'node:http';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import { Duplex } from 'node:stream';
import { WebSocket, WebSocketServer } from 'ws';
import { EMPTY_CHUNKED_BODY, HttpHeadReader, stripChunkedEncoding } from '../protocol/http-head.ts';
import { EMPTY_BYTES } from '../transport/byte-stream.ts';
import type { ByteStream, ByteStreamHandler } from '../transport/byte-stream.ts';
import { Linger } from '../transport/linger.ts';
import { WebSocketTransport } from '../transport/websocket-transport.ts';
import type { AcceptorOptions } from './acceptor.ts';
import type { AcceptedConnection, ConnectionPhase } from './admission-control.ts';

/** The response to browsers. Nothing in it comes from the request. */
const WELCOME = {
  text: 'This is a Magic-Wormhole transit relay. WebSocket clients upgrade here; any path will do.\n',
  html: `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Magic-Wormhole transit relay</title>
<style>
  body { font: 1rem/1.5 system-ui, sans-serif; max-width: 40rem; margin: 12vh auto; padding: 0 1.5rem;
    color: #1d2433; background: #f7f8fa }
  code, pre { font: 0.9rem/1.5 ui-monospace, monospace; background: #e8ebf1; border-radius: 4px }
  code { padding: 0.1rem 0.3rem }
  pre { padding: 0.8rem 1rem; overflow-x: auto }
  @media (prefers-color-scheme: dark) {
    body { color: #dfe3ec; background: #14171f }
    code, pre { background: #232836 }
  }
</style>
<h1>A Magic-Wormhole transit relay</h1>
<p>The <code>wormhole</code> programs of two people who transfer a file connect here when their computers can&rsquo;t
reach each other. The transfer is encrypted from end to end: this relay can neither read nor store it.</p>
<p>There is nothing to see in a browser. To send a file through this relay, name it with its port for raw clients
(4001 by default):</p>
<pre>wormhole --transit-helper=tcp:THIS-HOST:4001 send FILE</pre>
<p>Clients in browsers use the address of this page with <code>ws</code> instead of <code>http</code>.</p>
</html>
`,
} as const;

/** A browser with some cookies sends a quarter of this, a WebSocket client of this protocol a fortieth. */
const MAX_HEAD_BYTES = 8192;

/**
 * What a client may send after its upgrade request and before the response, in bytes. RFC 6455, section 4.1,
 * allows nothing.
 */
const MAX_EARLY_BYTES = 16_384;

/**
 * Connections that speak HTTP and are not WebSocket clients yet. They use up to `MAX_HEAD_BYTES +
 * MAX_EARLY_BYTES` each, 24 MiB in total. A client whose head arrives in one read is answered in that read,
 * or in one of the next ticks.
 */
export const MAX_HTTP_CONNECTIONS = 1024;

/** Requests answered in one tick of the event loop: about 10 ms. */
const REQUESTS_PER_TICK = 64;

/**
 * How long a client may keep its end open after the response, in milliseconds. nginx allows five seconds,
 * too.
 */
const LINGER_MS = 5000;

const ALLOWED_METHODS = 'GET, HEAD';

/** Node creates no response object for CONNECT. */
const CONNECT_REJECTED = `HTTP/1.1 405 Method Not Allowed\r\nallow: ${ALLOWED_METHODS}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n`;

const encoder = new TextEncoder();

/**
 * The WebSocket that `ws` creates when it has answered an upgrade. It stays empty: the relay reads the stream
 * itself.
 */
class DetachedWebSocket extends WebSocket {
  /** Called by `ws` to start reading. */
  setSocket(): void {
    // Nothing to read here.
  }
}

/**
 * Speaks HTTP with connections until they are WebSocket clients, and answers browsers and monitors.
 *
 * A connection makes one request. Its head is buffered here, and Node's HTTP server gets exactly that. The
 * bytes after it go to the WebSocket client, or are discarded. So a client can have only one request parsed.
 */
export class HttpUpgrader {
  readonly #options: AcceptorOptions;
  readonly #server: Server;
  readonly #upgrader = new WebSocketServer({
    noServer: true,
    clientTracking: false,
    perMessageDeflate: false,
    handleProtocols: () => false,
    WebSocket: DetachedWebSocket,
  });
  /** The oldest first. */
  readonly #connections = new Set<HttpConnection>();
  /** Requests that wait for the next tick of the event loop. */
  readonly #queue: HttpConnection[] = [];
  /** The connection whose request Node's HTTP server handles at this moment. */
  #current: HttpConnection | null = null;
  #tickBudget = REQUESTS_PER_TICK;
  #isTickScheduled = false;

  constructor(options: AcceptorOptions) {
    this.#options = options;
    // It listens nowhere. It is given connections, and their timeouts are elsewhere.
    this.#server = createServer({ shouldUpgradeCallback: isWebSocketUpgrade }, (request, response) =>
      this.#respond(request, response),
    );
    this.#server.on('connect', (_request, stream) => stream.end(CONNECT_REJECTED));
    this.#server.on('upgrade', (request, stream, head) => {
      const connection = this.#current;
      // Newer versions of Node wrap the stream of an upgrade that has a body.
      if (connection === null || !connection.isUpgradable || !(stream instanceof DuplexAdapter)) return;
      if (hasBody(request)) return;
      this.#checkForwardedFor(request, connection);
      this.#upgrader.handleUpgrade(request, stream, head, () => connection.completeUpgrade());
    });
  }

  /** Takes over a connection that begins with `firstBytes`. Any path is accepted. */
  serve(stream: ByteStream, accepted: AcceptedConnection, firstBytes: Uint8Array): void {
    if (this.#connections.size >= MAX_HTTP_CONNECTIONS) {
      // Connections that never finish cannot lock out others.
      const [oldest] = this.#connections;
      oldest?.evict();
    }
    const connection = new HttpConnection(stream, accepted, this);
    this.#connections.add(connection);
    connection.start(firstBytes);
  }

  /** The request is complete. It is answered now, or in one of the next ticks. */
  onRequest(connection: HttpConnection): void {
    this.#scheduleTick();
    if (this.#tickBudget > 0) {
      this.#parseRequest(connection);
    } else {
      connection.pauseReading();
      this.#queue.push(connection);
    }
  }

  /**
   * The stream belongs to a WebSocket client from now on.
   *
   * @param earlyBytes what was read after the request, in memory of the caller
   */
  onUpgraded(connection: HttpConnection, earlyBytes: Uint8Array): void {
    this.#connections.delete(connection);
    const { backend, sessions, pingIntervalMs } = this.#options;
    const transport = new WebSocketTransport(connection.stream, backend.scheduler, pingIntervalMs);
    sessions.accept(transport, connection.accepted);
    if (earlyBytes.length > 0) transport.onBytes(earlyBytes);
  }

  /** The connection is closed and uses hardly any memory. */
  onFinished(connection: HttpConnection): void {
    this.#connections.delete(connection);
  }

  /** The descriptor is closed. */
  onClose({ accepted }: HttpConnection): void {
    this.#options.admission.release(accepted);
  }

  #scheduleTick(): void {
    if (this.#isTickScheduled) return;
    this.#isTickScheduled = true;
    setImmediate(() => {
      this.#isTickScheduled = false;
      this.#tickBudget = REQUESTS_PER_TICK;
      const ready = this.#queue.splice(0, REQUESTS_PER_TICK);
      if (ready.length > 0) this.#scheduleTick();
      for (const connection of ready) this.#parseRequest(connection);
    });
  }

  #parseRequest(connection: HttpConnection): void {
    this.#tickBudget -= 1;
    const stream = connection.openStream();
    if (stream === null) return;
    this.#current = connection;
    this.#server.emit('connection', stream);
    // Runs the parser and the response handler before it returns.
    stream.read();
    this.#current = null;
    if (!stream.hasWritten) connection.reject('400 Bad Request');
    // The HTTP server frees its state for this stream. The connection stays open.
    stream.destroy();
    connection.closeGracefully();
  }

  /**
   * Answers a request that is not an upgrade: a health check, a check by the certificate authority, or a page for
   * browsers and one line of text for others. A WebSocket client whose upgrade was lost on the way (by a proxy,
   * for example) gets 426, as does every other request for a path other than `/`.
   */
  #respond(request: IncomingMessage, response: ServerResponse): void {
    request.resume();
    const { method, headers } = request;
    const [path = ''] = (request.url ?? '').split('?', 1);
    const answer = this.#options.challenges.httpAnswerFor(path);
    if (method !== 'GET' && method !== 'HEAD') {
      send(response, 405, 'text/plain', 'method not allowed\n', { allow: ALLOWED_METHODS });
    } else if (path === '/healthz') {
      const { isDraining } = this.#options.admission;
      send(response, isDraining ? 503 : 200, 'text/plain', isDraining ? 'the relay is stopping\n' : 'ok\n');
      // Health checks are not failed handshakes.
      if (this.#current !== null) this.#current.accepted.failure = null;
    } else if (answer !== null) {
      send(response, 200, 'text/plain', answer);
      if (this.#current !== null) this.#current.accepted.failure = null;
    } else if (headers.accept?.includes('text/html') === true) {
      send(response, 200, 'text/html', WELCOME.html);
    } else if (path === '/' && headers['sec-websocket-key'] === undefined) {
      send(response, 200, 'text/plain', WELCOME.text);
    } else {
      send(response, 426, 'text/plain', WELCOME.text, { upgrade: 'websocket' });
    }
  }

  #checkForwardedFor(request: IncomingMessage, { accepted, stream }: HttpConnection): void {
    const { admission } = this.#options;
    const { proxies } = admission;
    const remote = stream.remoteAddress;
    // Other connections were counted when they were accepted.
    if (proxies === null || accepted.addressSlot !== null) return;
    // A connection that is already closed has no address either.
    if ((remote === null && stream.kind !== 'unix') || !proxies.trusts(remote)) return;
    const forwarded = request.headers['x-forwarded-for'];
    const client = proxies.resolveClientAddress(
      remote,
      Array.isArray(forwarded) ? forwarded.join(', ') : forwarded,
    );
    if (client !== null && !proxies.trusts(client)) admission.setClientAddress(accepted, client);
  }
}

/**
 * One HTTP request head and its response, as the stream that Node's HTTP server needs. The HTTP parser gets
 * the head and nothing else: the adapter does not read from the connection. Writes go to the connection at
 * once.
 */
class DuplexAdapter extends Duplex {
  readonly #stream: ByteStream;
  hasWritten = false;

  constructor(stream: ByteStream, head: Uint8Array) {
    super();
    this.#stream = stream;
    this.push(head);
  }

  override _read(): void {
    // The head is the only data.
  }

  override _write(bytes: Uint8Array, _encoding: BufferEncoding, written: () => void): void {
    this.hasWritten = true;
    // Responses are short: the byte stream buffers what the kernel does not accept at once.
    this.#stream.write(bytes);
    written();
  }

  override _destroy(_error: Error | null, done: (error: Error | null) => void): void {
    // Every error here is caused by the client.
    done(null);
  }
}

/**
 * - `head`: the request is incomplete
 * - `body`: it is an upgrade with a body that has to be empty, and the body is incomplete
 * - `ready`: the request is complete
 * - `answering`: Node's HTTP server has it
 * - `lingering`: the client has been sent the response and a FIN
 * - `closed`: closed, or a WebSocket client
 */
type HttpState = 'head' | 'body' | 'ready' | 'answering' | 'lingering' | 'closed';

/** A connection from the first byte of its HTTP request until it is a WebSocket client or closed. */
class HttpConnection implements ByteStreamHandler, ConnectionPhase {
  readonly accepted: AcceptedConnection;
  readonly stream: ByteStream;
  readonly #upgrader: HttpUpgrader;
  readonly #head = new HttpHeadReader(MAX_HEAD_BYTES);
  #state: HttpState = 'head';
  #request: Uint8Array = EMPTY_BYTES;
  #earlyBytes: Uint8Array = EMPTY_BYTES;
  /** Bytes of `EMPTY_CHUNKED_BODY` that have been received. */
  #bodyBytes = 0;
  #hasChunks = false;
  #linger: Linger | null = null;

  constructor(stream: ByteStream, accepted: AcceptedConnection, upgrader: HttpUpgrader) {
    this.stream = stream;
    this.accepted = accepted;
    this.#upgrader = upgrader;
  }

  /** Whether its chunked body was empty, and not too many bytes followed the request. */
  get isUpgradable(): boolean {
    return !this.#hasChunks && this.#earlyBytes.length <= MAX_EARLY_BYTES;
  }

  start(firstBytes: Uint8Array): void {
    this.accepted.phase = this;
    this.stream.start(this);
    this.onBytes(firstBytes);
  }

  /** Pauses until the request can be answered. */
  pauseReading(): void {
    this.stream.pause();
    // The read buffer is reused, so copy. One byte more than the limit is enough to exceed it.
    this.#earlyBytes = Uint8Array.from(this.#earlyBytes.subarray(0, MAX_EARLY_BYTES + 1));
  }

  /** Returns the request for Node's HTTP server. Null: the connection was closed in the meantime. */
  openStream(): DuplexAdapter | null {
    if (this.#state !== 'ready') return null;
    this.#state = 'answering';
    const request = this.#request;
    this.#request = EMPTY_BYTES;
    return new DuplexAdapter(this.stream, request);
  }

  /** `ws` has answered the upgrade. */
  completeUpgrade(): void {
    if (this.#state !== 'answering') return;
    this.#state = 'closed';
    this.stream.resume();
    this.#upgrader.onUpgraded(this, this.#earlyBytes);
  }

  reject(status: string): void {
    if (this.#state === 'closed' || this.#state === 'lingering') return;
    this.stream.write(encoder.encode(`HTTP/1.1 ${status}\r\nconnection: close\r\n\r\n`));
  }

  /** Delivers what was written, then closes. Further bytes are discarded. */
  closeGracefully(): void {
    if (this.#state === 'closed' || this.#state === 'lingering') return;
    this.#state = 'lingering';
    this.#earlyBytes = EMPTY_BYTES;
    this.#linger = new Linger(this.stream, LINGER_MS);
    this.stream.end();
  }

  onTimeout(): void {
    this.#rejectAndClose('408 Request Timeout');
  }

  onDrain(): void {
    this.#rejectAndClose('503 Service Unavailable');
  }

  evict(): void {
    this.#rejectAndClose('503 Service Unavailable');
  }

  abort(): void {
    this.#linger?.cancel();
    this.#state = 'closed';
    // Its place is free from now on. The descriptor is closed in this tick.
    this.#upgrader.onFinished(this);
    this.stream.abort();
  }

  onBytes(bytes: Uint8Array): void {
    if (this.#state === 'lingering') this.#linger?.onDiscarded(bytes.length);
    else if (this.#state === 'head') this.#readHead(bytes);
    else if (this.#state === 'body') this.#readBody(bytes);
  }

  #readHead(bytes: Uint8Array): void {
    const progress = this.#head.push(bytes);
    if (progress.kind === 'complete') {
      const upgrade = stripChunkedEncoding(progress.head);
      this.#request = upgrade ?? progress.head;
      if (upgrade === null) this.#markReady(progress.rest);
      else this.#readBody(progress.rest);
    } else if (progress.kind === 'too-large') {
      this.reject('431 Request Header Fields Too Large');
      this.closeGracefully();
    }
  }

  #readBody(bytes: Uint8Array): void {
    const rest = EMPTY_CHUNKED_BODY.subarray(this.#bodyBytes);
    const more = bytes.subarray(0, rest.length);
    this.#hasChunks = more.some((byte, at) => byte !== rest[at]);
    this.#bodyBytes += more.length;
    if (this.#hasChunks || more.length === rest.length) this.#markReady(bytes.subarray(more.length));
    else this.#state = 'body';
  }

  #markReady(earlyBytes: Uint8Array): void {
    this.#state = 'ready';
    this.#earlyBytes = earlyBytes;
    this.#upgrader.onRequest(this);
  }

  onWritable(): void {
    // Nothing waits for this.
  }

  onEnd(): void {
    if (this.#state === 'head' || this.#state === 'body') this.abort();
  }

  onClose(): void {
    this.#linger?.cancel();
    this.#upgrader.onFinished(this);
    this.#state = 'closed';
    this.#upgrader.onClose(this);
  }

  /** Does not wait for the client: this may happen to very many connections at once. */
  #rejectAndClose(status: string): void {
    this.reject(status);
    this.abort();
  }
}

/**
 * Other upgrades (for example `h2c` from Java clients and curl) are ignored, as RFC 9110, section 7.8,
 * allows.
 */
function isWebSocketUpgrade({ headers }: IncomingMessage): boolean {
  return headers.upgrade?.toLowerCase() === 'websocket';
}

function hasBody({ headers }: IncomingMessage): boolean {
  const { 'content-length': length = '0', 'transfer-encoding': coding } = headers;
  return Number(length) !== 0 || coding !== undefined;
}

function send(
  response: ServerResponse,
  status: number,
  type: string,
  body: string,
  headers: Readonly<Record<string, string>> = {},
): void {
  response.writeHead(status, {
    'content-type': `${type}; charset=utf-8`,
    'content-length': Buffer.byteLength(body),
    'content-security-policy': "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    'x-content-type-options': 'nosniff',
    'referrer-policy': 'no-referrer',
    'cache-control': 'no-store',
    connection: 'close',
    ...headers,
  });
  response.end(body);
}
