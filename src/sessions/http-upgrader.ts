import { createServer } from 'node:http';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import { WebSocket, WebSocketServer } from 'ws';
import type { TrustedProxies } from '../config/trusted-proxies.ts';
import { EMPTY_CHUNKED_BODY, HttpHeadReader, stripChunkedEncoding } from '../protocol/http-head.ts';
import { EMPTY_BYTES } from '../transport/byte-stream.ts';
import type { ByteStream, ByteStreamHandler } from '../transport/byte-stream.ts';
import { DuplexAdapter } from '../transport/duplex-adapter.ts';
import { Linger } from '../transport/linger.ts';
import type { AcceptedConnection, ConnectionPhase } from './admission-control.ts';

/** What somebody gets who comes with a browser. Nothing in it comes from the request. */
export const WELCOME = {
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
<p>Two people who send each other a file with <code>wormhole</code> meet here when their computers can&rsquo;t
reach each other. What passes through is encrypted from end to end: this relay can neither read nor keep it.</p>
<p>There is nothing to see in a browser. To send by way of this relay, name it, with the port that raw clients use
(4001 unless its operator says otherwise):</p>
<pre>wormhole --transit-helper=tcp:THIS-HOST:4001 send FILE</pre>
<p>Clients in browsers take the address of this page, with <code>ws</code> for <code>http</code>.</p>
</html>
`,
} as const;

/** A browser with some cookies sends a quarter of this; a WebSocket client of ours a fortieth. */
const MAX_HEAD_BYTES = 8192;

/** What a client may send behind its upgrade before the answer, in bytes. RFC 6455, section 4.1, allows nothing. */
const MAX_EARLY_BYTES = 16_384;

/**
 * Connections that speak HTTP and have not become WebSocket clients. They cost up to `MAX_HEAD_BYTES + MAX_EARLY_BYTES` each, 24 MiB
 * together. A client whose head comes in one read is answered in that read, or in one of the next turns.
 */
export const MAX_HTTP_CONNECTIONS = 1024;

/** Requests answered in one turn of the event loop: some 10 ms. */
const REQUESTS_PER_TICK = 64;

/** How long an answered connection may leave its own end open, in milliseconds. Five seconds are what nginx allows. */
const LINGER_MS = 5000;

const ALLOWED_METHODS = 'GET, HEAD';

/** Node has no response object for this method. */
const CONNECT_REJECTED = `HTTP/1.1 405 Method Not Allowed\r\nallow: ${ALLOWED_METHODS}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n`;

const encoder = new TextEncoder();

/**
 * What `ws` makes of a connection when it has answered the upgrade. It stays an empty shell: the wire is ours
 * from there on.
 */
class DetachedWebSocket extends WebSocket {
  /** Called by `ws` to begin reading. */
  setSocket(): void {
    // Nothing of it is wanted.
  }
}

export interface HttpUpgraderOptions {
  /** Null: nobody is believed to come for somebody else. */
  readonly proxies: TrustedProxies | null;
  /** A WebSocket client is ready. What has been read of it already is `firstBytes`, in memory of the caller. */
  readonly onUpgrade: (wire: ByteStream, accepted: AcceptedConnection, firstBytes: Uint8Array) => void;
  readonly onClientAddress: (accepted: AcceptedConnection, address: string) => void;
  /** Whether the relay drains: health checks are answered with 503. */
  readonly isDraining: () => boolean;
  /** It is gone, and no WebSocket client has become of it. */
  readonly release: (accepted: AcceptedConnection) => void;
}

/**
 * Talks HTTP with connections for as long as it takes to make WebSocket clients of them, or to answer browsers and monitors.
 *
 * A connection makes one request. Its head is gathered here, and Node's HTTP server gets exactly that; what follows goes to the WebSocket
 * client, or is discarded. So a client can have one request parsed and no more.
 */
export class HttpUpgrader {
  readonly #options: HttpUpgraderOptions;
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
  /** Requests that wait for the next turn of the event loop. */
  readonly #queue: HttpConnection[] = [];
  /** Node's HTTP server has its request at this moment. */
  #current: HttpConnection | null = null;
  #tickBudget = REQUESTS_PER_TICK;
  #isTickScheduled = false;

  constructor(options: HttpUpgraderOptions) {
    this.#options = options;
    // It listens nowhere. Connections are given to it, and their time is limited elsewhere.
    this.#server = createServer({ shouldUpgradeCallback: isWebSocketUpgrade }, (request, response) =>
      this.#respond(request, response),
    );
    this.#server.on('connect', (_request, stream) => stream.end(CONNECT_REJECTED));
    this.#server.on('upgrade', (request, stream, head) => {
      const connection = this.#current;
      // Newer Nodes put a stream of their own around a connection whose upgrade has a body.
      if (connection === null || !connection.isUpgradable || !(stream instanceof DuplexAdapter)) return;
      if (hasBody(request)) return;
      this.#checkForwardedFor(request, connection);
      this.#upgrader.handleUpgrade(request, stream, head, () => connection.completeUpgrade());
    });
  }

  /** Takes over a connection that begins with `firstBytes`. Any path will do. */
  serve(wire: ByteStream, accepted: AcceptedConnection, firstBytes: Uint8Array): void {
    if (this.#connections.size >= MAX_HTTP_CONNECTIONS) {
      // Strangers that never finish can't keep others out.
      const [oldest] = this.#connections;
      oldest?.evict();
    }
    const connection = new HttpConnection(wire, accepted, {
      onRequest: (one) => this.#handleRequest(one),
      onUpgraded: (one, earlyBytes) => {
        this.#connections.delete(one);
        this.#options.onUpgrade(wire, accepted, earlyBytes);
      },
      onFinished: (one) => this.#connections.delete(one),
      onClose: () => this.#options.release(accepted),
    });
    this.#connections.add(connection);
    connection.start(firstBytes);
  }

  /** Answers now, or in one of the next turns. */
  #handleRequest(connection: HttpConnection): void {
    this.#scheduleTick();
    if (this.#tickBudget > 0) {
      this.#parseRequest(connection);
    } else {
      connection.pauseReading();
      this.#queue.push(connection);
    }
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
    // Runs the parser, and with it the answer, before it returns.
    stream.read();
    this.#current = null;
    if (!stream.hasWritten) connection.reject('400 Bad Request');
    stream.detach();
    connection.closeGracefully();
  }

  #respond(request: IncomingMessage, response: ServerResponse): void {
    const isDraining = this.#options.isDraining();
    // Health checks are no failed handshakes.
    if (respond(request, response, isDraining) === 'health' && this.#current !== null)
      this.#current.accepted.failure = null;
  }

  #checkForwardedFor(request: IncomingMessage, { accepted, stream: wire }: HttpConnection): void {
    const { proxies, onClientAddress: comesFrom } = this.#options;
    const transport = wire.addresses?.remote ?? null;
    // Whoever is no proxy was looked at when it came.
    if (proxies === null || accepted.addressSlot !== null) return;
    // What is gone already has no address either.
    if ((transport === null && wire.kind !== 'unix') || !proxies.trusts(transport)) return;
    const forwarded = request.headers['x-forwarded-for'];
    const client = proxies.resolveClientAddress(
      transport,
      Array.isArray(forwarded) ? forwarded.join(', ') : forwarded,
    );
    if (client !== null && !proxies.trusts(client)) comesFrom(accepted, client);
  }
}

interface HttpConnectionEvents {
  /** The head has come. */
  readonly onRequest: (connection: HttpConnection) => void;
  /** The wire belongs to a WebSocket client from now on. */
  readonly onUpgraded: (connection: HttpConnection, earlyBytes: Uint8Array) => void;
  /** It has been closed, and costs no memory to speak of any more. */
  readonly onFinished: (connection: HttpConnection) => void;
  /** Its descriptor is closed. */
  readonly onClose: () => void;
}

/**
 * - `head`: its request is not whole; - `body`: it is an upgrade whose body has to be empty and is not whole; - `ready`: it is whole
 * - `answering`: Node's HTTP server has it; - `lingering`: it has its answer and a FIN; - `gone`: closed, or a WebSocket client
 */
type HttpState = 'head' | 'body' | 'ready' | 'answering' | 'lingering' | 'gone';

/** A connection from the first byte of its HTTP request until it is a WebSocket client or closed. */
class HttpConnection implements ByteStreamHandler, ConnectionPhase {
  readonly accepted: AcceptedConnection;
  readonly stream: ByteStream;
  readonly #events: HttpConnectionEvents;
  readonly #head = new HttpHeadReader(MAX_HEAD_BYTES);
  #state: HttpState = 'head';
  #request: Uint8Array = EMPTY_BYTES;
  #earlyBytes: Uint8Array = EMPTY_BYTES;
  /** Bytes of `EMPTY_CHUNKED_BODY` that have come. */
  #bodyBytes = 0;
  #hasChunks = false;
  #linger: Linger | null = null;

  constructor(wire: ByteStream, accepted: AcceptedConnection, events: HttpConnectionEvents) {
    this.stream = wire;
    this.accepted = accepted;
    this.#events = events;
  }

  /** Its chunked body was empty, and not too many bytes came behind the request. */
  get isUpgradable(): boolean {
    return !this.#hasChunks && this.#earlyBytes.length <= MAX_EARLY_BYTES;
  }

  start(firstBytes: Uint8Array): void {
    this.accepted.phase = this;
    this.stream.start(this);
    this.onBytes(firstBytes);
  }

  /** Keeps what was read until it can be answered. */
  pauseReading(): void {
    this.stream.pause();
    // The read buffer is used again by then. One byte too many is enough to know that there were too many.
    this.#earlyBytes = Uint8Array.from(this.#earlyBytes.subarray(0, MAX_EARLY_BYTES + 1));
  }

  /** The request for Node's HTTP server. Null: the connection was closed meanwhile. */
  openStream(): DuplexAdapter | null {
    if (this.#state !== 'ready') return null;
    this.#state = 'answering';
    const request = this.#request;
    this.#request = EMPTY_BYTES;
    return new DuplexAdapter(this.stream, request);
  }

  /** The upgrade is answered. */
  completeUpgrade(): void {
    if (this.#state !== 'answering') return;
    this.#state = 'gone';
    this.stream.resume();
    this.#events.onUpgraded(this, this.#earlyBytes);
  }

  reject(status: string): void {
    if (this.#state === 'gone' || this.#state === 'lingering') return;
    this.stream.write(encoder.encode(`HTTP/1.1 ${status}\r\nconnection: close\r\n\r\n`));
  }

  /** Delivers what was written, then closes. What still comes is discarded. */
  closeGracefully(): void {
    if (this.#state === 'gone' || this.#state === 'lingering') return;
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
    this.#close();
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
    this.#events.onRequest(this);
  }

  onWritable(): void {
    // Nothing waits for it.
  }

  onEnd(): void {
    if (this.#state === 'head' || this.#state === 'body') this.#close();
  }

  onClose(): void {
    this.#linger?.cancel();
    this.#events.onFinished(this);
    this.#state = 'gone';
    this.#events.onClose();
  }

  /** Without waiting for the client: this may happen to very many at once. */
  #rejectAndClose(status: string): void {
    this.reject(status);
    this.#close();
  }

  #close(): void {
    this.#linger?.cancel();
    this.#state = 'gone';
    // Its place is free from now on; the descriptor is closed in this turn.
    this.#events.onFinished(this);
    this.stream.abort();
  }
}

/** Other upgrades (`h2c` of Java clients and curl, for instance) are ignored, as RFC 9110, section 7.8, allows. */
function isWebSocketUpgrade({ headers }: IncomingMessage): boolean {
  return headers.upgrade?.toLowerCase() === 'websocket';
}

function hasBody({ headers }: IncomingMessage): boolean {
  const { 'content-length': length = '0', 'transfer-encoding': coding } = headers;
  return Number(length) !== 0 || coding !== undefined;
}

/**
 * Answers a request that is no upgrade: health checks, and a page for browsers or a line for others. A WebSocket client whose upgrade was
 * lost on the way, by a proxy for instance, gets 426, and so does everything else outside of `/`.
 */
function respond(
  request: IncomingMessage,
  response: ServerResponse,
  isDraining: boolean,
): 'health' | 'other' {
  request.resume();
  const { method, headers } = request;
  const [path = ''] = (request.url ?? '').split('?', 1);
  if (method !== 'GET' && method !== 'HEAD') {
    send(response, 405, 'text/plain', 'method not allowed\n', { allow: ALLOWED_METHODS });
  } else if (path === '/healthz') {
    send(response, isDraining ? 503 : 200, 'text/plain', isDraining ? 'the relay is stopping\n' : 'ok\n');
    return 'health';
  } else if (headers.accept?.includes('text/html') === true) {
    send(response, 200, 'text/html', WELCOME.html);
  } else if (path === '/' && headers['sec-websocket-key'] === undefined) {
    send(response, 200, 'text/plain', WELCOME.text);
  } else {
    send(response, 426, 'text/plain', WELCOME.text, { upgrade: 'websocket' });
  }
  return 'other';
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
