import { createServer } from 'node:http';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import { WebSocket, WebSocketServer } from 'ws';
import { HttpHead } from '../protocol/http-head.ts';
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
  /** It is gone, and no WebSocket client has become of it. */
  readonly left: (arrival: Arrival) => void;
}

/**
 * Talks HTTP with connections for as long as it takes to make WebSocket clients of them, or to tell a browser where it is.
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
    this.#server = createServer(answer);
    this.#server.on('upgrade', (request, stream, head) => {
      const connection = this.#answering;
      // Newer Nodes put a stream of their own around a connection whose upgrade has a body. No client of ours sends one.
      if (connection === null || connection.hasTooManyEarlyBytes || !(stream instanceof WireStream)) return;
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
 * - `head`: its request is not whole; - `ready`: it is; - `answering`: Node's HTTP server has it; - `lingering`: it has its answer and a
 * FIN; - `gone`: closed, or a WebSocket client
 */
type HttpState = 'head' | 'ready' | 'answering' | 'lingering' | 'gone';

/** A connection from the first byte of its HTTP request until it is a WebSocket client or closed. */
class HttpConnection implements WireHandler, ArrivalOwner {
  readonly arrival: Arrival;
  readonly wire: Wire;
  readonly #events: HttpConnectionEvents;
  readonly #head = new HttpHead(MAX_HEAD_BYTES);
  #state: HttpState = 'head';
  #request: Uint8Array = NOTHING;
  #earlyBytes: Uint8Array = NOTHING;
  #linger: Linger | null = null;

  constructor(wire: Wire, arrival: Arrival, events: HttpConnectionEvents) {
    this.wire = wire;
    this.arrival = arrival;
    this.#events = events;
  }

  get hasTooManyEarlyBytes(): boolean {
    return this.#earlyBytes.length > MAX_EARLY_BYTES;
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
    if (this.#state !== 'head') return;
    const progress = this.#head.add(bytes);
    if (progress.kind === 'complete') {
      this.#state = 'ready';
      this.#request = progress.head;
      this.#earlyBytes = progress.rest;
      this.#events.ready(this);
    } else if (progress.kind === 'too-large') {
      this.reject('431 Request Header Fields Too Large');
      this.finish();
    }
  }

  onDrain(): void {
    // Nothing waits for it.
  }

  onEnd(): void {
    if (this.#state === 'head') this.#close();
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

/** Whoever asks for a page gets one; everything else should have been an upgrade. */
function answer(request: IncomingMessage, response: ServerResponse): void {
  request.resume();
  const wantsPage = request.headers.accept?.includes('text/html') === true;
  response.writeHead(wantsPage ? 200 : 426, {
    'content-type': wantsPage ? 'text/html; charset=utf-8' : 'text/plain; charset=utf-8',
    'content-security-policy': "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    'x-content-type-options': 'nosniff',
    'referrer-policy': 'no-referrer',
    'cache-control': 'no-store',
    connection: 'close',
    ...(wantsPage ? {} : { upgrade: 'websocket' }),
  });
  response.end(wantsPage ? WELCOME.html : WELCOME.text);
}
