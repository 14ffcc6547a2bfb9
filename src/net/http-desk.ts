import { createServer } from 'node:http';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import { WebSocket, WebSocketServer } from 'ws';
import { EMPTY_CHUNKED_BODY, HttpHead, withoutChunkedBody } from '../protocol/http-head.ts';
import type { Arrival, ArrivalOwner } from './arrival.ts';
import { Linger } from './linger.ts';
import type { TrustedProxies } from './trusted-proxies.ts';
import { WELCOME } from './welcome-page.ts';
import { WireStream } from './wire-stream.ts';
import type { Wire, WireHandler } from './wire.ts';
import { NOTHING } from './wire.ts';

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
const REQUESTS_PER_TURN = 64;

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
class Upgraded extends WebSocket {
  /** Called by `ws` to begin reading. */
  setSocket(): void {
    // Nothing of it is wanted.
  }
}

export interface HttpDeskOptions {
  /** Null: nobody is believed to come for somebody else. */
  readonly proxies: TrustedProxies | null;
  /** A WebSocket client is ready. What has been read of it already is `firstBytes`, in memory of the caller. */
  readonly upgraded: (wire: Wire, arrival: Arrival, firstBytes: Uint8Array) => void;
  readonly comesFrom: (arrival: Arrival, address: string) => void;
  /** Whether the relay drains: health checks are answered with 503. */
  readonly isDraining: () => boolean;
  /** It is gone, and no WebSocket client has become of it. */
  readonly left: (arrival: Arrival) => void;
}

/**
 * Talks HTTP with connections for as long as it takes to make WebSocket clients of them, or to answer browsers and monitors.
 *
 * A connection makes one request. Its head is gathered here, and Node's HTTP server gets exactly that; what follows goes to the WebSocket
 * client, or is discarded. So a client can have one request parsed and no more.
 */
export class HttpDesk {
  readonly #options: HttpDeskOptions;
  readonly #server: Server;
  readonly #upgrader = new WebSocketServer({
    noServer: true,
    clientTracking: false,
    perMessageDeflate: false,
    handleProtocols: () => false,
    WebSocket: Upgraded,
  });
  /** The oldest first. */
  readonly #connections = new Set<HttpConnection>();
  /** Requests that wait for the next turn of the event loop. */
  readonly #ready: HttpConnection[] = [];
  /** Node's HTTP server has its request at this moment. */
  #answering: HttpConnection | null = null;
  #requestsLeft = REQUESTS_PER_TURN;
  #isTurnDue = false;

  constructor(options: HttpDeskOptions) {
    this.#options = options;
    // It listens nowhere. Connections are given to it, and their time is limited elsewhere.
    this.#server = createServer({ shouldUpgradeCallback: isWebSocketUpgrade }, (request, response) =>
      this.#respond(request, response),
    );
    this.#server.on('connect', (_request, stream) => stream.end(CONNECT_REJECTED));
    this.#server.on('upgrade', (request, stream, head) => {
      const connection = this.#answering;
      // Newer Nodes put a stream of their own around a connection whose upgrade has a body.
      if (connection === null || !connection.isUpgradable || !(stream instanceof WireStream)) return;
      if (hasBody(request)) return;
      this.#identify(request, connection);
      this.#upgrader.handleUpgrade(request, stream, head, () => connection.release());
    });
  }

  /** Takes over a connection that begins with `firstBytes`. Any path will do. */
  serve(wire: Wire, arrival: Arrival, firstBytes: Uint8Array): void {
    if (this.#connections.size >= MAX_HTTP_CONNECTIONS) {
      // Strangers that never finish can't keep others out.
      const [oldest] = this.#connections;
      oldest?.evict();
    }
    const connection = new HttpConnection(wire, arrival, {
      ready: (one) => this.#answer(one),
      released: (one, earlyBytes) => {
        this.#connections.delete(one);
        this.#options.upgraded(wire, arrival, earlyBytes);
      },
      closed: (one) => this.#connections.delete(one),
      lost: () => this.#options.left(arrival),
    });
    this.#connections.add(connection);
    connection.start(firstBytes);
  }

  /** Answers now, or in one of the next turns. */
  #answer(connection: HttpConnection): void {
    this.#expectTurn();
    if (this.#requestsLeft > 0) {
      this.#answerNow(connection);
    } else {
      connection.hold();
      this.#ready.push(connection);
    }
  }

  #expectTurn(): void {
    if (this.#isTurnDue) return;
    this.#isTurnDue = true;
    setImmediate(() => {
      this.#isTurnDue = false;
      this.#requestsLeft = REQUESTS_PER_TURN;
      const ready = this.#ready.splice(0, REQUESTS_PER_TURN);
      if (ready.length > 0) this.#expectTurn();
      for (const connection of ready) this.#answerNow(connection);
    });
  }

  #answerNow(connection: HttpConnection): void {
    this.#requestsLeft -= 1;
    const stream = connection.openStream();
    if (stream === null) return;
    this.#answering = connection;
    this.#server.emit('connection', stream);
    // Runs the parser, and with it the answer, before it returns.
    stream.read();
    this.#answering = null;
    if (!stream.hasWritten) connection.reject('400 Bad Request');
    stream.detach();
    connection.finish();
  }

  #respond(request: IncomingMessage, response: ServerResponse): void {
    const isDraining = this.#options.isDraining();
    // Health checks are no failed handshakes.
    if (answer(request, response, isDraining) === 'health' && this.#answering !== null)
      this.#answering.arrival.failure = null;
  }

  #identify(request: IncomingMessage, { arrival, wire }: HttpConnection): void {
    const { proxies, comesFrom } = this.#options;
    const peer = wire.ends?.remote ?? null;
    // Whoever is no proxy was looked at when it came.
    if (proxies === null || arrival.slot !== null) return;
    // What is gone already has no address either.
    if ((peer === null && wire.kind !== 'unix') || !proxies.trusts(peer)) return;
    const forwarded = request.headers['x-forwarded-for'];
    const client = proxies.clientOf(peer, Array.isArray(forwarded) ? forwarded.join(', ') : forwarded);
    if (client !== null && !proxies.trusts(client)) comesFrom(arrival, client);
  }
}

interface HttpConnectionEvents {
  /** The head has come. */
  readonly ready: (connection: HttpConnection) => void;
  /** The wire belongs to a WebSocket client from now on. */
  readonly released: (connection: HttpConnection, earlyBytes: Uint8Array) => void;
  /** It has been closed, and costs no memory to speak of any more. */
  readonly closed: (connection: HttpConnection) => void;
  /** Its descriptor is closed. */
  readonly lost: () => void;
}

/**
 * - `head`: its request is not whole; - `body`: it is an upgrade whose body has to be empty and is not whole; - `ready`: it is whole
 * - `answering`: Node's HTTP server has it; - `lingering`: it has its answer and a FIN; - `gone`: closed, or a WebSocket client
 */
type HttpState = 'head' | 'body' | 'ready' | 'answering' | 'lingering' | 'gone';

/** A connection from the first byte of its HTTP request until it is a WebSocket client or closed. */
class HttpConnection implements WireHandler, ArrivalOwner {
  readonly arrival: Arrival;
  readonly wire: Wire;
  readonly #events: HttpConnectionEvents;
  readonly #head = new HttpHead(MAX_HEAD_BYTES);
  #state: HttpState = 'head';
  #request: Uint8Array = NOTHING;
  #earlyBytes: Uint8Array = NOTHING;
  /** Bytes of `EMPTY_CHUNKED_BODY` that have come. */
  #bodyBytes = 0;
  #hasChunks = false;
  #linger: Linger | null = null;

  constructor(wire: Wire, arrival: Arrival, events: HttpConnectionEvents) {
    this.wire = wire;
    this.arrival = arrival;
    this.#events = events;
  }

  /** Its chunked body was empty, and not too many bytes came behind the request. */
  get isUpgradable(): boolean {
    return !this.#hasChunks && this.#earlyBytes.length <= MAX_EARLY_BYTES;
  }

  start(firstBytes: Uint8Array): void {
    this.arrival.owner = this;
    this.wire.start(this);
    this.onBytes(firstBytes);
  }

  /** Keeps what was read until it can be answered. */
  hold(): void {
    this.wire.pause();
    // The read buffer is used again by then. One byte too many is enough to know that there were too many.
    this.#earlyBytes = Uint8Array.from(this.#earlyBytes.subarray(0, MAX_EARLY_BYTES + 1));
  }

  /** The request for Node's HTTP server. Null: the connection was closed meanwhile. */
  openStream(): WireStream | null {
    if (this.#state !== 'ready') return null;
    this.#state = 'answering';
    const request = this.#request;
    this.#request = NOTHING;
    return new WireStream(this.wire, request);
  }

  /** The upgrade is answered. */
  release(): void {
    if (this.#state !== 'answering') return;
    this.#state = 'gone';
    this.wire.resume();
    this.#events.released(this, this.#earlyBytes);
  }

  reject(status: string): void {
    if (this.#state === 'gone' || this.#state === 'lingering') return;
    this.wire.write(encoder.encode(`HTTP/1.1 ${status}\r\nconnection: close\r\n\r\n`));
  }

  /** Delivers what was written, then closes. What still comes is discarded. */
  finish(): void {
    if (this.#state === 'gone' || this.#state === 'lingering') return;
    this.#state = 'lingering';
    this.#earlyBytes = NOTHING;
    this.#linger = new Linger(this.wire, LINGER_MS);
    this.wire.end();
  }

  tooLate(): void {
    this.#closeNow('408 Request Timeout');
  }

  shutdown(): void {
    this.#closeNow('503 Service Unavailable');
  }

  evict(): void {
    this.#closeNow('503 Service Unavailable');
  }

  cut(): void {
    this.#close();
  }

  onBytes(bytes: Uint8Array): void {
    if (this.#state === 'lingering') this.#linger?.discarded(bytes.length);
    else if (this.#state === 'head') this.#takeHead(bytes);
    else if (this.#state === 'body') this.#takeBody(bytes);
  }

  #takeHead(bytes: Uint8Array): void {
    const progress = this.#head.add(bytes);
    if (progress.kind === 'complete') {
      const upgrade = withoutChunkedBody(progress.head);
      this.#request = upgrade ?? progress.head;
      if (upgrade === null) this.#becomeReady(progress.rest);
      else this.#takeBody(progress.rest);
    } else if (progress.kind === 'too-large') {
      this.reject('431 Request Header Fields Too Large');
      this.finish();
    }
  }

  #takeBody(bytes: Uint8Array): void {
    const rest = EMPTY_CHUNKED_BODY.subarray(this.#bodyBytes);
    const more = bytes.subarray(0, rest.length);
    this.#hasChunks = more.some((byte, at) => byte !== rest[at]);
    this.#bodyBytes += more.length;
    if (this.#hasChunks || more.length === rest.length) this.#becomeReady(bytes.subarray(more.length));
    else this.#state = 'body';
  }

  #becomeReady(earlyBytes: Uint8Array): void {
    this.#state = 'ready';
    this.#earlyBytes = earlyBytes;
    this.#events.ready(this);
  }

  onDrain(): void {
    // Nothing waits for it.
  }

  onEnd(): void {
    if (this.#state === 'head' || this.#state === 'body') this.#close();
  }

  onLost(): void {
    this.#linger?.cancel();
    this.#events.closed(this);
    this.#state = 'gone';
    this.#events.lost();
  }

  /** Without waiting for the client: this may happen to very many at once. */
  #closeNow(status: string): void {
    this.reject(status);
    this.#close();
  }

  #close(): void {
    this.#linger?.cancel();
    this.#state = 'gone';
    // Its place is free from now on; the descriptor is closed in this turn.
    this.#events.closed(this);
    this.wire.destroy();
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
function answer(request: IncomingMessage, response: ServerResponse, isDraining: boolean): 'health' | 'other' {
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
