import { createServer } from 'node:http';
import type { IncomingMessage, RequestListener, Server as HttpServer, ServerResponse } from 'node:http';
import { Server } from 'node:net';
import type { Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { HttpHeadReader } from '../protocol/http-head.ts';

/** Node's own limit: a browser may send cookies of other programs on this host. */
const MAX_HEAD_BYTES = 16_384;

/**
 * Timeout of a request head: from the connection, or from its first byte on a reused connection.
 * Milliseconds.
 */
const HEAD_TIMEOUT_MS = 2000;

/**
 * Added to the announced keep-alive timeout, because a client may send a request just before it ends.
 * Milliseconds.
 */
const KEEP_ALIVE_GRACE_MS = 1000;

/** How long a client may leave its own end open after the last response, in milliseconds. */
const LINGER_MS = 1000;

/** Bytes that it may send in that time, which are discarded. */
const MAX_DISCARDED_BYTES = 1_048_576;

interface HttpListenerOptions {
  /**
   * Limit for connections without a request, and for those whose response is ready at once. Above it, a
   * connection that has had its last response is closed, or else the oldest one.
   */
  readonly maxPending: number;
  /** Limit for connections whose response takes time. Above it, the oldest one is closed. */
  readonly maxAnswering: number;
  /**
   * How long a connection is kept open for another request, in milliseconds. Null: one request per
   * connection.
   */
  readonly keepAliveMs: number | null;
  /** A connection is closed after this time without traffic, in milliseconds. */
  readonly stallTimeoutMs: number;
}

/**
 * An HTTP server for operators that stays available whatever strangers send.
 *
 * Node's HTTP server parses all requests of one read, and waits for slow ones. This listener passes it one
 * request head at a time, and the next one after the response. A client that sends more before its response
 * (no browser or scraper does) gets the response and is closed. Bodies are discarded, because no route here
 * reads one.
 *
 * New connections are always accepted. Their request must arrive soon, and slow connections are closed to
 * make room for them.
 */
export class HttpListener extends Server {
  readonly #options: HttpListenerOptions;
  readonly #http: HttpServer;
  readonly #connections = new HttpConnections();

  constructor(onRequest: RequestListener, options: HttpListenerOptions) {
    super({ allowHalfOpen: true, noDelay: true });
    this.#options = options;
    this.#http = createServer((request, response) => {
      const stream: Duplex = request.socket;
      if (!(stream instanceof HttpConnection)) return;
      stream.onRequest(request, response);
      onRequest(request, response);
      if (!response.writableEnded) this.#markAnswering(stream);
    });
    if (options.keepAliveMs !== null) this.#http.keepAliveTimeout = options.keepAliveMs;
    this.on('connection', (socket) => this.#accept(socket));
  }

  closeAllConnections(): void {
    const { lingering, pending, answering } = this.#connections;
    for (const connection of [...lingering, ...pending, ...answering]) connection.abort();
  }

  #accept(socket: Socket): void {
    const { lingering, pending } = this.#connections;
    const connection = new HttpConnection(socket, this.#options, this.#connections);
    pending.add(connection);
    if (lingering.size + pending.size > this.#options.maxPending)
      abortOldest(lingering.size > 0 ? lingering : pending);
    this.#http.emit('connection', connection);
  }

  #markAnswering(connection: HttpConnection): void {
    // The connection may already be closed.
    const { pending, answering } = this.#connections;
    if (!pending.delete(connection)) return;
    answering.add(connection);
    if (answering.size > this.#options.maxAnswering) abortOldest(answering);
  }
}

function abortOldest(connections: ReadonlySet<HttpConnection>): void {
  const [oldest] = connections;
  oldest?.abort();
}

/** The open connections. An open connection is in one of the sets, each with the oldest first. */
class HttpConnections {
  /** No request yet, or a response that is ready at once. */
  readonly pending = new Set<HttpConnection>();
  /** The response takes time. */
  readonly answering = new Set<HttpConnection>();
  /** The last response was sent. */
  readonly lingering = new Set<HttpConnection>();

  move(connection: HttpConnection, to: Set<HttpConnection>): void {
    this.remove(connection);
    to.add(connection);
  }

  remove(connection: HttpConnection): void {
    for (const connections of [this.lingering, this.pending, this.answering]) connections.delete(connection);
  }
}

/**
 * The stream that Node's HTTP server gets: it yields one request head, and the next one after the response.
 */
class HttpConnection extends Duplex {
  readonly #socket: Socket;
  readonly #keepAliveMs: number | null;
  readonly #connections: HttpConnections;
  readonly #head = new HttpHeadReader(MAX_HEAD_BYTES);
  /**
   * - `head`: waiting for a request; - `answering`: the HTTP server has a request; - `lingering`: a FIN was
   *   sent
   */
  #state: 'head' | 'answering' | 'lingering' = 'head';
  #response: ServerResponse | null = null;
  /** No other request will be read. */
  #isLast: boolean;
  #discardedBytes = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(
    socket: Socket,
    { keepAliveMs, stallTimeoutMs }: HttpListenerOptions,
    connections: HttpConnections,
  ) {
    super();
    this.#socket = socket;
    this.#keepAliveMs = keepAliveMs;
    this.#connections = connections;
    this.#isLast = keepAliveMs === null;
    socket.on('data', (bytes) => this.#onData(bytes));
    socket.on('end', () => this.#onClientEnd());
    // An error is followed by 'close'.
    socket.on('error', () => undefined);
    socket.on('close', () => this.#onClosed());
    socket.setTimeout(stallTimeoutMs, () => this.abort());
    this.#closeAfter(HEAD_TIMEOUT_MS);
  }

  /** Node's HTTP server has parsed the request. */
  onRequest(request: IncomingMessage, response: ServerResponse): void {
    this.#isLast ||= hasBody(request);
    if (this.#isLast) response.shouldKeepAlive = false;
    this.#response = response;
    response.once('close', () => this.#onAnswered());
  }

  /** Closes the connection at once. */
  abort(): void {
    this.#connections.remove(this);
    this.#socket.destroy();
  }

  override _read(): void {
    // A head is pushed when it is complete.
  }

  override _write(bytes: Uint8Array, _encoding: BufferEncoding, written: () => void): void {
    this.#socket.write(bytes, () => written());
  }

  override _writev(parts: { readonly chunk: Uint8Array }[], written: () => void): void {
    this.#socket.write(Buffer.concat(parts.map(({ chunk }) => chunk)), () => written());
  }

  override _final(done: () => void): void {
    this.#closeGracefully();
    done();
  }

  override _destroy(_error: Error | null, done: (error: Error | null) => void): void {
    // An aborted response must not look complete. A complete one is delivered.
    if (this.#response?.writableFinished === false) this.#socket.destroy();
    else this.#closeGracefully();
    // Every error here is caused by the client.
    done(null);
  }

  #onData(bytes: Uint8Array): void {
    if (this.#state === 'lingering') {
      this.#discardedBytes += bytes.length;
      if (this.#discardedBytes > MAX_DISCARDED_BYTES) this.abort();
    } else if (this.#state === 'answering') {
      this.#stopReading();
    } else {
      this.#onHeadData(bytes);
    }
  }

  #onHeadData(bytes: Uint8Array): void {
    const wasStarted = this.#head.isStarted;
    const progress = this.#head.push(bytes);
    if (progress.kind === 'complete') {
      this.#state = 'answering';
      clearTimeout(this.#timer);
      if (progress.rest.length > 0) this.#stopReading();
      this.push(progress.head);
    } else if (progress.kind === 'too-large') {
      this.#reject('431 Request Header Fields Too Large');
    } else if (!wasStarted && this.#head.isStarted && this.#response !== null) {
      this.#closeAfter(HEAD_TIMEOUT_MS);
    }
  }

  /**
   * The client sent more than a request: discards what was read, and leaves the rest in the kernel until the
   * response is complete.
   */
  #stopReading(): void {
    this.#isLast = true;
    this.#socket.pause();
  }

  #onAnswered(): void {
    if (this.#state !== 'answering' || this.destroyed) return;
    if (this.#isLast || this.#keepAliveMs === null) {
      this.end();
      return;
    }
    this.#state = 'head';
    this.#closeAfter(this.#keepAliveMs + KEEP_ALIVE_GRACE_MS);
    this.#connections.move(this, this.#connections.pending);
  }

  #onClientEnd(): void {
    // Node's HTTP server then aborts the response.
    if (this.#state === 'answering') this.push(null);
    else if (this.#state === 'head' && this.#head.isStarted) this.#reject('400 Bad Request');
    else this.#closeGracefully();
  }

  #reject(status: string): void {
    this.#socket.write(`HTTP/1.1 ${status}\r\nconnection: close\r\n\r\n`);
    this.#closeGracefully();
  }

  /**
   * Sends a FIN after the written bytes, and discards received bytes for a while: closing at once could
   * destroy the response.
   */
  #closeGracefully(): void {
    if (this.#state === 'lingering') return;
    this.#state = 'lingering';
    this.#socket.end();
    this.#socket.resume();
    this.#closeAfter(LINGER_MS);
    if (!this.#socket.destroyed) this.#connections.move(this, this.#connections.lingering);
  }

  #closeAfter(ms: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      if (this.#state === 'head' && this.#head.isStarted) this.#reject('408 Request Timeout');
      else this.abort();
    }, ms);
  }

  #onClosed(): void {
    clearTimeout(this.#timer);
    this.#state = 'lingering';
    this.#connections.remove(this);
    this.destroy();
  }
}

function hasBody({ headers }: IncomingMessage): boolean {
  const { 'content-length': length = '0', 'transfer-encoding': coding } = headers;
  return length !== '0' || coding !== undefined;
}
