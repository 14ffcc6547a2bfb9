import { once } from 'node:events';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { TLSSocket, connect as connectTls } from 'node:tls';
import type { Duplex } from 'node:stream';
import { WebSocket, createWebSocketStream } from 'ws';
import { reachableHost } from '../net/endpoint.ts';
import type { BoundEndpoint } from '../net/endpoint.ts';

/** Where a test client goes, and how. */
export interface SelfTestTarget {
  readonly protocol: 'raw' | 'websocket';
  readonly endpoint: BoundEndpoint;
}

/** No client stays for longer, in milliseconds; a relay that is slow still knows its token then. */
const MAX_STAY_MS = 30_000;

/** A client of the relay inside the relay: real sockets, and `ws` for WebSocket. */
export class SelfTestClient implements Disposable {
  readonly #socket: Socket;
  readonly #stream: Duplex;
  readonly #chunks: AsyncIterator<unknown>;
  /** Resolves when the kernel has the client's first words. */
  readonly #introduced: Promise<void>;

  private constructor(socket: Socket, stream: Duplex, hello: Uint8Array) {
    this.#socket = socket;
    this.#stream = stream;
    this.#chunks = stream[Symbol.asyncIterator]();
    // Whoever waits for something hears of it by its own.
    stream.on('error', () => undefined);
    this.#introduced = new Promise((resolve) => {
      stream.write(hello, () => resolve());
    });
    const stay = setTimeout(() => socket.destroy(), MAX_STAY_MS).unref();
    socket.once('close', () => clearTimeout(stay));
  }

  /**
   * Connects and says `hello`, whatever happens meanwhile. Rejects with a sentence that says what is wrong.
   * `stop` ends the client.
   */
  static async connect(
    target: SelfTestTarget,
    hello: Uint8Array,
    stop: AbortSignal,
  ): Promise<SelfTestClient> {
    const { protocol, endpoint } = target;
    const socket = open(endpoint);
    const upgrade = protocol === 'websocket' ? upgradeOf(socket) : null;
    const client = new SelfTestClient(socket, upgrade?.stream ?? socket, hello);
    stop.addEventListener('abort', () => client[Symbol.dispose](), { once: true });
    try {
      const ready = socket instanceof TLSSocket ? 'secureConnect' : 'connect';
      await (upgrade === null ? once(socket, ready, { signal: stop }) : upgrade.opened(stop));
      return client;
    } catch (error) {
      client[Symbol.dispose]();
      throw new Error(`no connection (${reasonOf(error)})`, { cause: error });
    }
  }

  send(bytes: Uint8Array): void {
    this.#stream.write(bytes);
  }

  /** Resolves when the relay has sent `bytes`. Rejects with `otherwise`. */
  async expect(bytes: Buffer, otherwise: string): Promise<void> {
    let received = Buffer.alloc(0);
    while (received.length < bytes.length) {
      const chunk = await this.#next();
      if (chunk === null) throw new Error(otherwise);
      received = Buffer.concat([received, chunk]);
    }
    if (!received.equals(bytes)) throw new Error(otherwise);
  }

  /** Rejects with `otherwise` when the relay closes the connection. */
  async fails(otherwise: string): Promise<never> {
    while ((await this.#next()) !== null);
    throw new Error(otherwise);
  }

  /** What comes next; null when nothing will. */
  async #next(): Promise<Buffer | null> {
    const next = await this.#chunks.next().catch(() => null);
    if (next === null || next.done === true) return null;
    return Buffer.isBuffer(next.value) ? next.value : null;
  }

  /** Leaves in a way that costs the kernel nothing afterwards. Only for when everything has been read. */
  reset(): void {
    const canReset = this.#socket.remoteAddress !== undefined && !(this.#socket instanceof TLSSocket);
    if (canReset) this.#socket.resetAndDestroy();
    else this.#socket.destroy();
  }

  [Symbol.dispose](): void {
    // Whoever goes without a word is a client to the relay, and gets a record. A FIN behind the token does not.
    void this.#introduced.then(() => this.#socket.destroy());
  }
}

function open(endpoint: BoundEndpoint): Socket {
  if (endpoint.kind === 'unix') return connect(endpoint.path);
  const address = { port: endpoint.port, host: reachableHost(endpoint) };
  if (endpoint.tls === null) return connect({ ...address, noDelay: true });
  // It is the relay itself, by an address that its certificate need not know.
  return connectTls({ ...address, rejectUnauthorized: false });
}

function upgradeOf(socket: Socket): { stream: Duplex; opened: (stop: AbortSignal) => Promise<unknown> } {
  const websocket = new WebSocket('ws://relay/', {
    createConnection: () => socket,
    perMessageDeflate: false,
  });
  return {
    stream: createWebSocketStream(websocket),
    opened: (stop) => once(websocket, 'open', { signal: stop }),
  };
}

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return 'unknown';
  return 'code' in error && typeof error.code === 'string' ? error.code : error.message;
}
