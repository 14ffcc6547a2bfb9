import { once } from 'node:events';
import { WebSocket } from 'ws';

/** Time to receive bytes before the test fails, in milliseconds. */
const RECEIVE_TIMEOUT_MS = 20_000;

/** A WebSocket client over TLS, as in a browser, that trusts only one certificate. */
export class SecureClient implements Disposable {
  readonly #ws: WebSocket;
  /** Resolves with the WebSocket close code when the connection has closed. */
  readonly closed: Promise<number>;
  #received = Buffer.alloc(0);
  #ended = false;
  #notify: () => void = () => undefined;

  private constructor(ws: WebSocket) {
    this.#ws = ws;
    ws.on('message', (data: Buffer) => {
      this.#received = Buffer.concat([this.#received, data]);
      this.#notify();
    });
    ws.on('error', () => undefined);
    this.closed = new Promise((resolve) => {
      ws.once('close', (code) => {
        this.#ended = true;
        this.#notify();
        resolve(code);
      });
    });
  }

  /**
   * @param certificate certificate of the server or of its issuer, PEM; the server's must be for `name`
   */
  static async connect(
    port: number,
    certificate: string,
    { name = 'localhost', path = '/' } = {},
  ): Promise<SecureClient> {
    const options = { ca: certificate, servername: name, headers: { host: name } };
    const ws = new WebSocket(`wss://127.0.0.1:${port}${path}`, options);
    const client = new SecureClient(ws);
    await once(ws, 'open');
    return client;
  }

  send(bytes: Uint8Array | string): void {
    this.#ws.send(typeof bytes === 'string' ? Buffer.from(bytes) : bytes, { binary: true });
  }

  /** Resolves with all received bytes once there are `count`, or once the connection has closed. */
  async until(count: number): Promise<Buffer> {
    // A stopped proxy may not close its client connections.
    const deadline = setTimeout(() => this.#ws.terminate(), RECEIVE_TIMEOUT_MS);
    while (this.#received.length < count && !this.#ended) {
      await new Promise<void>((resolve) => {
        this.#notify = resolve;
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
