import { once } from 'node:events';
import type { EventEmitter } from 'node:events';
import { connect, isIP } from 'node:net';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { connect as connectTls } from 'node:tls';
import { WebSocket, createWebSocketStream } from 'ws';
import { readCertificate } from './certificate.ts';
import type { Certificate } from './certificate.ts';
import { TestFailure, connectFailure, lateFailure, responseFailure } from './failure.ts';
import type { Stage } from './failure.ts';
import { formatTarget, isWebSocket, usesTls } from './target.ts';
import type { Target } from './target.ts';

/** The longest message that is assembled, in bytes. Relays forward what clients send, which is 64 KiB here. */
const MAX_MESSAGE_BYTES = 2 ** 20;

export interface ClientOptions {
  /** Closes the client, whatever it is doing. */
  readonly signal: AbortSignal;
  /** Accepts any certificate. */
  readonly insecure: boolean;
}

/** A client of a relay. It buffers a bounded number of bytes, whatever the server does. */
export class CheckClient implements Disposable {
  /** Null without TLS. */
  readonly certificate: Certificate | null;
  readonly #socket: Socket;
  readonly #stream: Duplex;
  readonly #chunks: AsyncIterator<unknown>;
  #unread: Buffer | null = null;

  private constructor(socket: Socket, stream: Duplex, certificate: Certificate | null) {
    this.#socket = socket;
    this.#stream = stream;
    this.certificate = certificate;
    this.#chunks = stream[Symbol.asyncIterator]();
    ignoreErrors(stream);
  }

  /**
   * Resolves when bytes can be sent.
   *
   * @throws TestFailure
   */
  static async connect(target: Target, { signal, insecure }: ClientOptions): Promise<CheckClient> {
    let stage: Stage = isIP(target.host) === 0 ? 'name' : 'connect';
    const { host, port } = target;
    const tcp = connect({ host, port, noDelay: true }).once('lookup', () => {
      stage = 'connect';
    });
    let socket: Socket = tcp;
    ignoreErrors(tcp);
    signal.addEventListener('abort', () => [socket, tcp].forEach((open) => open.destroy()), { once: true });
    try {
      await once(tcp, 'connect', { signal });
      let certificate: Certificate | null = null;
      if (usesTls(target.scheme)) {
        stage = 'tls';
        const secure = startTls(tcp, target);
        socket = secure;
        ignoreErrors(secure);
        await once(secure, 'secureConnect', { signal });
        certificate = readCertificate(secure, target);
        if (certificate.problem !== null && !insecure)
          throw new TestFailure('certificate', certificate.problem);
      }
      if (!isWebSocket(target.scheme)) return new CheckClient(socket, socket, certificate);
      stage = 'upgrade';
      const websocket = startWebSocket(socket, target);
      const client = new CheckClient(socket, createWebSocketStream(websocket), certificate);
      await opened(websocket, signal);
      return client;
    } catch (error) {
      socket.destroy();
      tcp.destroy();
      if (error instanceof TestFailure) throw error;
      throw signal.aborted ? lateFailure(stage, target) : connectFailure(error, stage, target);
    }
  }

  /** Resolves when the kernel has the bytes, or when they can't be sent. */
  send(bytes: Uint8Array): Promise<void> {
    return new Promise((resolve) => {
      this.#stream.write(bytes, () => resolve());
    });
  }

  /** The next bytes; null if the connection has ended. Only one call at a time. */
  async read(): Promise<Buffer | null> {
    const unread = this.#unread;
    this.#unread = null;
    if (unread !== null && unread.length > 0) return unread;
    const next = await this.#chunks.next().catch(() => null);
    return next !== null && Buffer.isBuffer(next.value) ? next.value : null;
  }

  /** Returns bytes to the next `read`. */
  unread(bytes: Buffer): void {
    this.#unread = bytes;
  }

  [Symbol.dispose](): void {
    this.#socket.destroy();
  }
}

/** The caller notices an error when its connection, or its next read, ends. */
function ignoreErrors(emitter: EventEmitter): void {
  emitter.on('error', () => undefined);
}

/** The certificate is verified afterwards, so that its problem can be reported. */
function startTls(socket: Socket, { host, scheme }: Target) {
  return connectTls({
    socket,
    host,
    rejectUnauthorized: false,
    ...(isIP(host) === 0 ? { servername: host } : {}),
    ...(scheme === 'wss' ? { ALPNProtocols: ['http/1.1'] } : {}),
  });
}

function startWebSocket(socket: Socket, target: Target): WebSocket {
  return new WebSocket(formatTarget(target), {
    createConnection: () => socket,
    perMessageDeflate: false,
    maxPayload: MAX_MESSAGE_BYTES,
    // A server could send pings without reading the answers. The relay's first ping comes after 30 s.
    autoPong: false,
  });
}

/** Resolves when a WebSocket is open. Rejects with a TestFailure or an error of the connection. */
function opened(websocket: WebSocket, signal: AbortSignal): Promise<void> {
  ignoreErrors(websocket);
  return new Promise((resolve, reject) => {
    websocket.once('open', () => resolve());
    websocket.once('error', reject);
    websocket.once('unexpected-response', (request, response) => {
      reject(responseFailure(response));
      request.destroy();
    });
    signal.addEventListener('abort', () => reject(new Error('aborted')), { once: true });
  });
}
