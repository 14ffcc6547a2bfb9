import { once } from 'node:events';
import { WebSocket } from 'ws';

/** Bytes that have not come by then are lost, in milliseconds. */
const PATIENCE_MS = 20_000;

/** A WebSocket client that comes by TLS, as one in a browser does, and trusts one certificate alone. */
export class SecureClient implements Disposable {
  readonly #ws: WebSocket;
  /** Resolves when the connection has ended, with the WebSocket close code. */
  readonly closed: Promise<number>;
  #received = Buffer.alloc(0);
  #ended = false;
  #wake: () => void = () => undefined;

  private constructor(ws: WebSocket) {
    this.#ws = ws;
    ws.on('message', (data: Buffer) => {
      this.#received = Buffer.concat([this.#received, data]);
      this.#wake();
    });
    ws.on('error', () => undefined);
    this.closed = new Promise((resolve) => {
      ws.once('close', (code) => {
        this.#ended = true;
        this.#wake();
        resolve(code);
      });
    });
  }

  /** @param certificate of the server or of who signed it, PEM; it has to be for `localhost` */
  static async connect(port: number, certificate: string): Promise<SecureClient> {
    const options = { ca: certificate, servername: 'localhost', headers: { host: 'localhost' } };
    const ws = new WebSocket(`wss://127.0.0.1:${port}/`, options);
    await once(ws, 'open');
    return new SecureClient(ws);
  }

  send(bytes: Uint8Array | string): void {
    this.#ws.send(typeof bytes === 'string' ? Buffer.from(bytes) : bytes, { binary: true });
  }

  /** Resolves with everything received once that is `count` bytes, or once the connection has ended. */
  async until(count: number): Promise<Buffer> {
    // A proxy that is stopped may leave its clients without a word.
    const deadline = setTimeout(() => this.#ws.terminate(), PATIENCE_MS);
    while (this.#received.length < count && !this.#ended) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    clearTimeout(deadline);
    return this.#received;
  }

  end(): void {
    this.#ws.close(1000);
  }

  [Symbol.dispose](): void {
    this.#ws.terminate();
  }
}
