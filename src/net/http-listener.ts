import { createServer } from 'node:http';
import type { IncomingMessage, Server as HttpServer, RequestListener, ServerResponse } from 'node:http';
import { Server } from 'node:net';
import type { Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { HttpHead } from '../protocol/http-head.ts';

/** As much as Node allows: a browser may send cookies of other programs on this host. */
const MAX_HEAD_BYTES = 16_384;

/** Time for a request's head: from the connection, or from its first byte on a connection that has had an answer. Milliseconds. */
const HEAD_TIMEOUT_MS = 2000;

/** A client that has been told when its connection will be closed may send a request in that moment. Milliseconds. */
const KEEP_ALIVE_SPARE_MS = 1000;

/** How long an answered connection may leave its own end open, in milliseconds. */
const LINGER_MS = 1000;

/** What it may send in that time and is discarded, in bytes. */
const MAX_DISCARDED_BYTES = 1_048_576;

export interface HttpListenerOptions {
  /**
   * Connections without a request, and those whose answer is ready at once. When there are more, one that has had its last answer is
   * closed, or else the oldest.
   */
  readonly maxPending: number;
  /** Connections whose answer takes time. When there are more, the oldest is closed. */
  readonly maxAnswering: number;
  /** How long a connection is kept for another request, in milliseconds. Null: each makes one request. */
  readonly keepAliveMs: number | null;
  /** A connection on which nothing moves is closed after this, in milliseconds. */
  readonly stalledMs: number;
}

/**
 * An HTTP server for operators that strangers can't take away from them, whatever they send.
 *
 * Node's HTTP server parses all requests that come in one read, and waits for slow ones. This one hands it one request head at a
 * time, and the next one when the answer is done. A client that sends more before it has its answer is answered and closed: no
 * browser and no scraper does so. Bodies are discarded, since no route here reads one.
 *
 * Newcomers always get in. Their request has to come soon, and slow ones make room for them.
 */
export class HttpListener extends Server {
  readonly #options: HttpListenerOptions;
  readonly #http: HttpServer;
  /** The oldest first, in each of these. */
  readonly #lingering = new Set<HttpConnection>();
  readonly #pending = new Set<HttpConnection>();
  readonly #answering = new Set<HttpConnection>();

  constructor(onRequest: RequestListener, options: HttpListenerOptions) {
    super({ allowHalfOpen: true, noDelay: true });
    this.#options = options;
    this.#http = createServer((request, response) => {
      const stream: Duplex = request.socket;
      if (!(stream instanceof HttpConnection)) return;
      stream.began(request, response);
      onRequest(request, response);
      if (!response.writableEnded) this.#takesTime(stream);
    });
    if (options.keepAliveMs !== null) this.#http.keepAliveTimeout = options.keepAliveMs;
    this.on('connection', (socket) => this.#accept(socket));
  }

  closeAllConnections(): void {
    for (const connection of [...this.#lingering, ...this.#pending, ...this.#answering]) connection.abort();
  }

  #accept(socket: Socket): void {
    const connection = new HttpConnection(socket, this.#options, {
      pending: (one) => {
        this.#forget(one);
        this.#pending.add(one);
      },
      lingering: (one) => {
        this.#forget(one);
        this.#lingering.add(one);
      },
      closed: (one) => this.#forget(one),
    });
    this.#pending.add(connection);
    if (this.#lingering.size + this.#pending.size > this.#options.maxPending)
      abortOldest(this.#lingering.size > 0 ? this.#lingering : this.#pending);
    this.#http.emit('connection', connection);
  }

  #takesTime(connection: HttpConnection): void {
    // It may be gone already.
    if (!this.#pending.delete(connection)) return;
    this.#answering.add(connection);
    if (this.#answering.size > this.#options.maxAnswering) abortOldest(this.#answering);
  }

  #forget(connection: HttpConnection): void {
    for (const connections of [this.#lingering, this.#pending, this.#answering])
      connections.delete(connection);
  }
}

function abortOldest(connections: ReadonlySet<HttpConnection>): void {
  const [oldest] = connections;
  oldest?.abort();
}

interface HttpConnectionEvents {
  /** Its answer is done, and it may make another request. */
  readonly pending: (connection: HttpConnection) => void;
  /** It has had its last answer. */
  readonly lingering: (connection: HttpConnection) => void;
  readonly closed: (connection: HttpConnection) => void;
}

/** A socket as Node's HTTP server sees it: it brings one request head, and another one when that is answered. */
class HttpConnection extends Duplex {
  readonly #socket: Socket;
  readonly #keepAliveMs: number | null;
  readonly #events: HttpConnectionEvents;
  readonly #head = new HttpHead(MAX_HEAD_BYTES);
  /** `head`: a request is expected; `answering`: Node's HTTP server has one; `lingering`: a FIN was sent */
  #state: 'head' | 'answering' | 'lingering' = 'head';
  #response: ServerResponse | null = null;
  /** There will be no other request. */
  #isLast: boolean;
  #discardedBytes = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(socket: Socket, { keepAliveMs, stalledMs }: HttpListenerOptions, events: HttpConnectionEvents) {
    super();
    this.#socket = socket;
    this.#keepAliveMs = keepAliveMs;
    this.#events = events;
    this.#isLast = keepAliveMs === null;
    socket.on('data', (bytes) => this.#take(bytes));
    socket.on('end', () => this.#clientEnded());
    // 'close' follows.
    socket.on('error', () => undefined);
    socket.on('close', () => this.#closed());
    socket.setTimeout(stalledMs, () => this.abort());
    this.#closeAfter(HEAD_TIMEOUT_MS);
  }

  /** Node's HTTP server has parsed the request. */
  began(request: IncomingMessage, response: ServerResponse): void {
    this.#isLast ||= hasBody(request);
    if (this.#isLast) response.shouldKeepAlive = false;
    this.#response = response;
    response.once('close', () => this.#answered());
  }

  /** Closes it at once. */
  abort(): void {
    this.#events.closed(this);
    this.#socket.destroy();
  }

  override _read(): void {
    // A head is pushed when it is whole.
  }

  override _write(bytes: Uint8Array, _encoding: BufferEncoding, written: () => void): void {
    this.#socket.write(bytes, () => written());
  }

  override _writev(parts: { readonly chunk: Uint8Array }[], written: () => void): void {
    this.#socket.write(Buffer.concat(parts.map(({ chunk }) => chunk)), () => written());
  }

  override _final(done: () => void): void {
    this.#finish();
    done();
  }

  override _destroy(_error: Error | null, done: (error: Error | null) => void): void {
    // An answer that is broken off must not look whole. Otherwise the client gets what was written.
    if (this.#response?.writableFinished === false) this.#socket.destroy();
    else this.#finish();
    // Every error here is caused by the client.
    done(null);
  }

  #take(bytes: Uint8Array): void {
    if (this.#state === 'lingering') {
      this.#discardedBytes += bytes.length;
      if (this.#discardedBytes > MAX_DISCARDED_BYTES) this.abort();
    } else if (this.#state === 'answering') {
      this.#holdBack();
    } else {
      this.#takeHead(bytes);
    }
  }

  #takeHead(bytes: Uint8Array): void {
    const wasStarted = this.#head.isStarted;
    const progress = this.#head.add(bytes);
    if (progress.kind === 'complete') {
      this.#state = 'answering';
      clearTimeout(this.#timer);
      if (progress.rest.length > 0) this.#holdBack();
      this.push(progress.head);
    } else if (progress.kind === 'too-large') {
      this.#reject('431 Request Header Fields Too Large');
    } else if (!wasStarted && this.#head.isStarted && this.#response !== null) {
      this.#closeAfter(HEAD_TIMEOUT_MS);
    }
  }

  /** More came than the request: what was read is discarded, and the rest stays in the kernel until the answer is done. */
  #holdBack(): void {
    this.#isLast = true;
    this.#socket.pause();
  }

  #answered(): void {
    if (this.#state !== 'answering' || this.destroyed) return;
    if (this.#isLast || this.#keepAliveMs === null) {
      this.end();
      return;
    }
    this.#state = 'head';
    this.#closeAfter(this.#keepAliveMs + KEEP_ALIVE_SPARE_MS);
    this.#events.pending(this);
  }

  #clientEnded(): void {
    // Node's HTTP server breaks off the answer then.
    if (this.#state === 'answering') this.push(null);
    else if (this.#state === 'head' && this.#head.isStarted) this.#reject('400 Bad Request');
    else this.#finish();
  }

  #reject(status: string): void {
    this.#socket.write(`HTTP/1.1 ${status}\r\nconnection: close\r\n\r\n`);
    this.#finish();
  }

  /** Sends a FIN behind what was written. What still comes is discarded for a while: closing at once could destroy the answer. */
  #finish(): void {
    if (this.#state === 'lingering') return;
    this.#state = 'lingering';
    this.#socket.end();
    this.#socket.resume();
    this.#closeAfter(LINGER_MS);
    if (!this.#socket.destroyed) this.#events.lingering(this);
  }

  #closeAfter(ms: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      if (this.#state === 'head' && this.#head.isStarted) this.#reject('408 Request Timeout');
      else this.abort();
    }, ms);
  }

  #closed(): void {
    clearTimeout(this.#timer);
    this.#state = 'lingering';
    this.#events.closed(this);
    this.destroy();
  }
}

function hasBody({ headers }: IncomingMessage): boolean {
  const { 'content-length': length = '0', 'transfer-encoding': coding } = headers;
  return length !== '0' || coding !== undefined;
}
