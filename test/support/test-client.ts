import assert from 'node:assert/strict';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { WebSocket } from 'ws';
import type { TransportKind } from '../../src/transport/client-transport.ts';
import { SIDE_A, SIDE_B, handshake, newToken } from './bytes.ts';

export const TRANSPORTS: readonly TransportKind[] = ['tcp', 'unix', 'websocket'];

export interface Addresses {
  readonly tcpPort: number;
  readonly unixPath: string;
  readonly websocketPort: number;
}

/**
 * How the relay closed: the WebSocket close code, or null for a FIN; `reset` is true for an unclean close.
 */
export interface Close {
  readonly reset: boolean;
  readonly code: number | null;
}

/** How a client sees a close by the relay. */
export function closedWith(transport: TransportKind, code = 1000): Close {
  return { reset: false, code: transport === 'websocket' ? code : null };
}

/** A test client: it sends bytes, keeps the received ones, and records how the connection ends. */
export class TestClient {
  readonly transport: TransportKind;
  /** Sizes of the received WebSocket messages. */
  readonly messageSizes: number[] = [];
  /** Resolves when the relay has closed this connection. */
  readonly closed: Promise<Close>;
  readonly #socket: Socket;
  readonly #ws: WebSocket | null;
  #chunks: Uint8Array[] = [];
  #bytes = 0;
  #ended = false;
  #discardsUnsent = false;
  #wake: () => void = () => undefined;

  private constructor(transport: TransportKind, socket: Socket, ws: WebSocket | null) {
    this.transport = transport;
    this.#socket = socket;
    this.#ws = ws;
    this.closed = new Promise((resolve) => {
      if (ws === null) {
        let finished = false;
        socket.on('data', (bytes: Uint8Array) => this.#take(bytes));
        socket.on('end', () => {
          finished = true;
          if (this.#discardsUnsent) socket.destroy();
          else socket.end();
        });
        socket.on('error', () => undefined);
        socket.on('close', () => resolve({ reset: !finished, code: null }));
      } else {
        ws.on('message', (data: Buffer) => {
          this.messageSizes.push(data.length);
          this.#take(data);
        });
        ws.on('error', () => undefined);
        ws.on('close', (code) => resolve({ reset: code === 1006, code }));
      }
    });
    void this.closed.then(() => {
      this.#ended = true;
      this.#wake();
    });
  }

  static connect(transport: TransportKind, addresses: Addresses): Promise<TestClient> {
    return new Promise((resolve, reject) => {
      if (transport === 'websocket') {
        const ws = new WebSocket(`ws://127.0.0.1:${addresses.websocketPort}/any/path`, {
          perMessageDeflate: false,
        });
        let socket: Socket | null = null;
        ws.once('upgrade', (response) => {
          socket = response.socket;
          if (socket !== null) resolve(new TestClient(transport, socket, ws));
        });
        ws.once('error', reject);
        return;
      }
      const socket =
        transport === 'tcp'
          ? connect({ port: addresses.tcpPort, host: '127.0.0.1', allowHalfOpen: true, noDelay: true })
          : connect({ path: addresses.unixPath, allowHalfOpen: true });
      socket.once('connect', () => resolve(new TestClient(transport, socket, null)));
      socket.once('error', reject);
    });
  }

  /** Bytes received so far. */
  get received(): Buffer {
    const joined = Buffer.concat(this.#chunks);
    this.#chunks = [joined];
    return joined;
  }

  get receivedBytes(): number {
    return this.#bytes;
  }

  /** True once `closed` has resolved. */
  get isClosed(): boolean {
    return this.#ended;
  }

  /** Bytes that the kernel has not accepted yet. */
  get unsentBytes(): number {
    return this.#socket.writableLength;
  }

  /** Sends in one write, or in one message. Resolves when the kernel has the bytes. */
  send(bytes: Uint8Array | string): Promise<void> {
    const payload = typeof bytes === 'string' ? Buffer.from(bytes) : bytes;
    return new Promise((resolve) => {
      const ws = this.#ws;
      if (ws !== null) whenOpen(ws, () => ws.send(payload, { binary: true }, () => resolve()));
      else this.#socket.write(payload, () => resolve());
    });
  }

  sendText(text: string): void {
    const ws = this.#ws;
    if (ws !== null) whenOpen(ws, () => ws.send(text, { binary: false }));
  }

  /** Sends in pieces, never more than the kernel accepts. Stops silently when the connection ends. */
  async sendAll(bytes: Uint8Array, pieceBytes: number): Promise<void> {
    for (let at = 0; at < bytes.length && !this.#socket.destroyed; at += pieceBytes) {
      await Promise.race([this.send(bytes.subarray(at, at + pieceBytes)), this.closed]);
    }
  }

  /** Resolves with everything received once that is `count` bytes, or once the connection has ended. */
  async until(count: number): Promise<Buffer> {
    while (this.#bytes < count && !this.#ended) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    return this.received;
  }

  /**
   * When the relay closes its direction, closes at once instead of sending the rest of its bytes first. The
   * relay reads little from a client that it has closed, so that the rest could take half a minute.
   */
  discardUnsentAtEnd(): void {
    this.#discardsUnsent = true;
    const ws = this.#ws;
    if (ws === null) return;
    // There is no event for a close frame.
    const timer = setInterval(() => {
      if (ws.readyState === WebSocket.CLOSING) this.#socket.destroy();
    }, 5);
    void this.closed.then(() => clearInterval(timer));
  }

  pause(): void {
    if (this.#ws === null) this.#socket.pause();
    else this.#ws.pause();
  }

  resume(): void {
    if (this.#ws === null) this.#socket.resume();
    else this.#ws.resume();
  }

  /** Closes gracefully: a FIN, or a close frame. */
  end(): void {
    if (this.#ws === null) this.#socket.end();
    else this.#ws.close(1000);
  }

  /** Closes gracefully, and waits until the relay has closed as well. */
  async leave(): Promise<void> {
    this.end();
    await this.closed;
  }

  /** Closes with a reset. A unix-domain socket has none and just closes. */
  reset(): void {
    if (this.transport === 'unix') this.#socket.destroy();
    else this.#socket.resetAndDestroy();
  }

  destroy(): void {
    this.#socket.destroy();
  }

  #take(bytes: Uint8Array): void {
    this.#chunks.push(bytes);
    this.#bytes += bytes.length;
    this.#wake();
  }
}

/** Connects two clients with a new token, one after the other, and waits until both have their `ok`. */
export async function connectPair(
  relay: { connect(transport: TransportKind): Promise<TestClient> },
  first: TransportKind,
  second: TransportKind,
): Promise<[TestClient, TestClient]> {
  const token = newToken();
  const a = await relay.connect(first);
  await a.send(handshake(token, SIDE_A));
  const b = await relay.connect(second);
  await b.send(handshake(token, SIDE_B));
  for (const client of [a, b]) assert.equal((await client.until(3)).toString(), 'ok\n');
  return [a, b];
}

function whenOpen(ws: WebSocket, action: () => void): void {
  if (ws.readyState === WebSocket.CONNECTING) ws.once('open', action);
  else action();
}
